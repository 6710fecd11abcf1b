"""The picture of the nodes: a page of cards with one tile for each GPU, and counts where there is more than one page.

Pure. `Picture` remembers the cards that it made: on a large fleet most nodes are as they were a second ago.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from poolmgr.api.present import users
from poolmgr.api.ui.wording import LENT, SIDE, duration, plural, sentence
from poolmgr.domain.backoff import node_rests
from poolmgr.domain.census import Census, GpuUse, NodeCensus
from poolmgr.domain.fleet import Node
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Plan, Refusal, SubjectKind
from poolmgr.domain.usage import GpuState
from poolmgr.wire.text import whole

NODES_A_PAGE = 100
"""More cards than fit on a screen, few enough to draw in no time."""
MINUTE = 60.0
"""Ages are told in minutes, and in seconds below one: a card is drawn anew when it would tell another one."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One GPU in the picture."""

    key: str
    look: str
    """CSS classes: the mode and the state."""
    sign: str
    """What stands on it, so that nothing is told by colour alone."""
    label: str
    """For screen readers and the tip: one line each."""


@dataclass(frozen=True, slots=True)
class NodeCard:
    name: str
    tiles: tuple[Tile, ...]
    note: str
    """`agent silent`, `not ready`, a move's step, `cordoned`, `not reported`, `paused`, or empty."""
    lent: str
    """What it means that new containers have to be best-effort ones; empty where any may come."""


@dataclass(frozen=True, slots=True)
class ModelRow:
    """All GPUs of one pool and model, in numbers."""

    pool: str
    model: str
    gpus: int
    vms: int
    containers: int
    idle: int
    moving: int
    trouble: int


@dataclass(frozen=True, slots=True)
class FleetPage:
    """One page of nodes, in the order that people count; `cards` are what the caller made of each."""

    cards: tuple[tuple[str, str], ...]
    """(node, its card)."""
    page: int
    pages: int
    first: int
    """Number of the first card, from 1."""
    total: int
    """Nodes on all pages."""
    rows: tuple[ModelRow, ...]
    """By pool and model; empty where one page shows all."""

    @property
    def last(self) -> int:
        return self.first + len(self.cards) - 1


class Picture:
    """`draw` turns a card into what is shown."""

    def __init__(self, draw: Callable[[NodeCard], str]) -> None:
        self._draw = draw
        self._cards: dict[NodeName, tuple[NodeCensus, tuple[Refusal, ...], float, str]] = {}
        self._names: tuple[NodeName, ...] = ()
        self._order: list[int] = []

    def view(self, census: Census, plan: Plan | None, page: int) -> FleetPage:
        """The page of that number, from 1; the last one where there are fewer."""
        parts = self._in_order(census)
        pages = max(1, -(-len(parts) // NODES_A_PAGE))
        page = min(max(1, page), pages)
        shown = parts[(page - 1) * NODES_A_PAGE : page * NODES_A_PAGE]
        said = _said({part.node.name for part in shown}, plan)
        now = census.snapshot.taken_at
        cards = tuple((part.node.name, self._card(part, said.get(part.node.name, ()), now)) for part in shown)
        rows = _rows(census) if pages > 1 else ()
        return FleetPage(cards, page, pages, (page - 1) * NODES_A_PAGE + 1, len(parts), rows)

    def _in_order(self, census: Census) -> list[NodeCensus]:
        names = tuple([part.node.name for part in census.nodes])
        if names != self._names:
            self._names = names
            self._order = sorted(range(len(names)), key=lambda n: _natural(names[n]))
            self._cards = {name: self._cards[name] for name in names if name in self._cards}
        return [census.nodes[n] for n in self._order]

    def _card(self, part: NodeCensus, said: tuple[Refusal, ...], now: float) -> str:
        known = self._cards.get(part.node.name)
        if known is not None and known[0] is part and known[1] == said and now < known[2]:
            return known[3]
        drawn = self._draw(node_card(part, said, now))
        ages = [now - gpu.mode_since for gpu in part.node.gpus if gpu.mode_since]
        holds = min([1.0 if age < MINUTE else MINUTE - age % MINUTE for age in ages], default=MINUTE)
        self._cards[part.node.name] = (part, said, now + holds, drawn)
        return drawn


def part_name(node: str) -> str:
    """The region of the page that holds a node's card."""
    return f"node {node}"


def _said(names: set[NodeName], plan: Plan | None) -> dict[str, tuple[Refusal, ...]]:
    """What the plan says of these nodes and their GPUs, by node."""
    found: dict[str, list[Refusal]] = {}
    for refusal in plan.refusals if plan is not None else ():
        kind, namespace, name = refusal.subject
        node = namespace if kind is SubjectKind.GPU else name
        if node in names and kind in (SubjectKind.GPU, SubjectKind.NODE):
            found.setdefault(node, []).append(refusal)
    return {node: tuple(refusals) for node, refusals in found.items()}


def _natural(name: str) -> list[tuple[int, str]]:
    """`node-2` before `node-10`."""
    parts = "".join(c if c.isdigit() else f" {c} " for c in name).split()
    return [(number, "") if (number := whole(p, -1)) >= 0 else (-1, p) for p in parts]


def node_card(part: NodeCensus, said: Iterable[Refusal], now: float) -> NodeCard:
    """`said`: what the newest plan says of the node and its GPUs."""
    node, note = part.node, ""
    if not node.agent.heard:
        note = "agent silent" if node.agent.silent else "agent not heard yet"
    elif not node.ready:
        note = "not ready"
    elif node.transition is not None:
        note = node.transition.step.value.lower()
    elif node.cordoned:
        note = "cordoned"
    elif not node.reported:
        note = "not reported"
    elif node.backoffs and node_rests(node.name, node.backoffs, node.disturbances, now):
        note = "paused"
    of_gpus = {r.subject.name: r.message for r in said if r.subject.kind is SubjectKind.GPU}
    of_node = next((r.message for r in said if r.subject.kind is SubjectKind.NODE), None)
    lent = (sentence(of_node) if of_node is not None else LENT) if node.best_effort_only else ""
    return NodeCard(node.name, tuple(_tile(use, node, now, of_gpus) for use in part.uses), note, lent)


def _tile(use: GpuUse, node: Node, now: float, said: dict[str, str]) -> Tile:
    gpu = use.gpu
    side = {Mode.PASSTHROUGH: "vm", Mode.SHARED: "shared", None: "none"}[gpu.observed_mode]
    signs = {
        GpuState.IN_USE: "VM"
        if use.vm or gpu.observed_mode is Mode.PASSTHROUGH
        else str(len(use.pods) or ""),
        GpuState.IDLE: "",
        GpuState.MOVING: "→",
        GpuState.TROUBLE: "!",
        GpuState.WITHDRAWN: "×",
    }
    look = f"{side} {use.state.value.lower()}"
    if gpu.observed_mode is Mode.SHARED and use.state is GpuState.IN_USE:
        look += f" share-{max(1, round(use.share * 10))}"
    lines = [
        f"{gpu.pci_address} on {gpu.node}: {_state_words(use, node)}",
        f"{gpu.model}, {gpu.memory_mib} MiB",
    ]
    if not node.agent.heard:
        lines.append(sentence(node.agent.verdict(node.name).message))
    lines += users(use)[:8]
    if gpu.mode_since:
        lines.append(f"for {SIDE[gpu.observed_mode]} since {duration(now - gpu.mode_since)}")
    if said_of_it := use.trouble[1]:
        lines.append(sentence(said_of_it))
    if gpu.closed is not None:
        lines.append(sentence(gpu.closed.message))
    why = said.get(gpu.pci_address)
    if use.state is GpuState.IDLE and why is not None:
        lines.append(sentence(why))
    return Tile(f"{gpu.node}-{gpu.pci_address}", look, signs[use.state], "\n".join(lines))


def _state_words(use: GpuUse, node: Node) -> str:
    match use.state:
        case GpuState.TROUBLE:
            return f"needs attention ({use.trouble[0] or use.gpu.phase.value})"
        case GpuState.MOVING:
            move = node.transition
            return f"moving to {SIDE[move.to_mode]}, {move.step.value}" if move else "moving"
        case GpuState.IDLE:
            return f"idle, for {SIDE[use.gpu.observed_mode]}"
        case GpuState.WITHDRAWN:
            return "out of use"
    if use.gpu.observed_mode is Mode.PASSTHROUGH and (use.vm or use.gpu.allocated_to):
        return "given to a VM"
    if not use.pods:
        return f"in use, for {SIDE[use.gpu.observed_mode]}"
    return f"shared by {plural(len(use.pods), 'container pod')}, {use.share:.0%} given away"


def _rows(census: Census) -> tuple[ModelRow, ...]:
    return tuple(
        ModelRow(
            pool or "no pool",
            model,
            count.gpus,
            count.passthrough_used,
            count.shared_used,
            count.passthrough + count.shared - count.passthrough_used - count.shared_used,
            count.moving,
            count.trouble,
        )
        for (pool, model), count in sorted(
            census.counts.items(), key=lambda item: (item[0][0] or "~", item[0][1])
        )
        if count.gpus
    )
