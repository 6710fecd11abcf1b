"""What the page says about now, as plain values for the templates. Pure.

Everything is worded for someone who was just woken up: first whether there is anything to do.
"""

from dataclasses import dataclass

from poolmgr.api.present import users
from poolmgr.api.ui.wording import LENT, SIDE, clock_time, day_and_time, duration, plural, sentence
from poolmgr.domain.census import Census, Count, GpuState, GpuUse, NodeCensus, total
from poolmgr.domain.fleet import Gpu, Node, Pool, SideLimits, Transition
from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.plan import Plan, Refusal, Subject, SubjectKind, Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot

STEPS = tuple(step for step in Step if step is not Step.DONE)


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
    """`moving`, `cordoned`, `not ready`, or empty."""
    lent: str
    """What it means that new containers have to be best-effort ones; empty where any may come."""


@dataclass(frozen=True, slots=True)
class MoveCard:
    node: str
    gpus: str
    to_side: str
    to_mode: str
    rollback: bool
    step: str
    steps: tuple[tuple[str, str], ...]
    """(step, done | now | ahead)"""
    since: str
    message: str
    plan_id: str


@dataclass(frozen=True, slots=True)
class Waiting:
    kind: str
    name: str
    wants: str
    since: str
    code: str
    why: str


@dataclass(frozen=True, slots=True)
class Trouble:
    where: str
    model: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class SideRow:
    side: str
    mode: str
    gpus: int
    used: int
    bounds: str
    target: str


@dataclass(frozen=True, slots=True)
class PoolCard:
    name: str
    rebalance: str
    models: str
    gpus: int
    sides: tuple[SideRow, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class View:
    """All that the page shows of one snapshot."""

    headline: str
    detail: str
    mood: str
    """quiet | busy | waiting | trouble | blind"""
    time: str
    generation: int
    count: Count
    idle: int
    use_percent: int
    nodes: tuple[NodeCard, ...]
    nodes_left_out: int
    moves: tuple[MoveCard, ...]
    waiting: tuple[Waiting, ...]
    waiting_left_out: int
    trouble: tuple[Trouble, ...]
    pools: tuple[PoolCard, ...]


MAX_NODES = 240
"""Cards on the page; nodes with something going on come first, so only quiet ones are left out."""
MAX_WAITING = 60


def make_view(census: Census, plan: Plan | None, standing: Verdict) -> View:
    """The page's content for a snapshot, with the newest plan's reasons for who waits."""
    snapshot = census.snapshot
    # GPUs outside of all pools are there and may be in trouble; what runs on them is not ours to count.
    outside = total(count for (pool, _), count in census.counts.items() if pool is None)
    inside = (count for (pool, _), count in census.counts.items() if pool is not None)
    count = total([*inside, Count(gpus=outside.gpus, trouble=outside.trouble)])
    waiting = _waiting(snapshot, plan)
    trouble = tuple(_trouble(use.gpu) for use in census.trouble)
    moves = tuple(_move(t, snapshot.taken_at) for t in snapshot.transitions)
    ordered = sorted(census.nodes, key=lambda part: _natural(part.node.name))
    shown = ordered if len(ordered) <= MAX_NODES else sorted(ordered, key=_quiet)[:MAX_NODES]
    about = (SubjectKind.GPU, SubjectKind.NODE)
    said = {r.subject: r for r in plan.refusals if r.subject.kind in about} if plan else {}
    mood, headline, detail = _headline(count, len(waiting), len(moves), standing)
    return View(
        headline=headline,
        detail=detail,
        mood=mood,
        time=day_and_time(snapshot.taken_at),
        generation=snapshot.generation,
        count=count,
        idle=sum(part.idle for part in census.nodes),
        use_percent=round(100 * count.used / count.gpus) if count.gpus else 0,
        nodes=tuple(_node(part, snapshot.taken_at, said) for part in shown),
        nodes_left_out=len(ordered) - len(shown),
        moves=moves,
        waiting=waiting[:MAX_WAITING],
        waiting_left_out=max(0, len(waiting) - MAX_WAITING),
        trouble=trouble,
        pools=tuple(_pool(p, census, plan) for p in sorted(snapshot.pools, key=lambda p: p.name)),
    )


def _headline(total: Count, waiting: int, moves: int, standing: Verdict) -> tuple[str, str, str]:
    use = f"{total.passthrough_used} in VMs, {total.shared_used} in containers, of {total.gpus} GPUs"
    if not standing:
        return "blind", "This manager does not act", sentence(standing.message)
    if total.trouble:
        return (
            "trouble",
            f"{plural(total.trouble, 'GPU')} {'needs' if total.trouble == 1 else 'need'} a human",
            "Everything else goes on: " + use + ".",
        )
    if waiting:
        way = f"{plural(moves, 'move')} under way. " if moves else ""
        return "waiting", f"{plural(waiting, 'workload waits', 'workloads wait')} for a GPU", f"{way}{use}."
    if moves:
        return "busy", f"{plural(moves, 'move')} under way, nobody waits", use + "."
    return "quiet", "All quiet", f"Nobody waits, nothing moves: {use}."


def _natural(name: str) -> list[tuple[int, str]]:
    """`node-2` before `node-10`."""
    parts = "".join(c if c.isdigit() else f" {c} " for c in name).split()
    return [(int(p), "") if p.isdigit() else (-1, p) for p in parts]


def _quiet(part: NodeCensus) -> bool:
    node = part.node
    return node.transition is None and all(g.settled for g in node.gpus) and node.ready


def _node(part: NodeCensus, now: float, said: dict[Subject, Refusal]) -> NodeCard:
    node, note = part.node, ""
    if not node.ready:
        note = "not ready"
    elif node.transition is not None:
        note = node.transition.step.value.lower()
    elif node.cordoned:
        note = "cordoned"
    tiles = tuple(_tile(use, node, now, said) for use in part.uses)
    why = said.get(Subject(SubjectKind.NODE, "", node.name))
    lent = sentence(why.message) if why is not None else LENT
    return NodeCard(node.name, tiles, note, lent if node.best_effort_only else "")


def _tile(use: GpuUse, node: Node, now: float, said: dict[Subject, Refusal]) -> Tile:
    gpu = use.gpu
    side = {Mode.PASSTHROUGH: "vm", Mode.SHARED: "shared", None: "none"}[gpu.observed_mode]
    signs = {
        GpuState.IN_USE: "VM"
        if use.vm or gpu.observed_mode is Mode.PASSTHROUGH
        else str(len(use.pods) or ""),
        GpuState.IDLE: "",
        GpuState.MOVING: "→",
        GpuState.TROUBLE: "!",
    }
    look = f"{side} {use.state.value.lower()}"
    if gpu.observed_mode is Mode.SHARED and use.state is GpuState.IN_USE:
        look += f" share-{max(1, round(use.share * 10))}"
    lines = [
        f"{gpu.pci_address} on {gpu.node}: {_state_words(use, node)}",
        f"{gpu.model}, {gpu.memory_mib} MiB",
    ]
    lines += users(use)[:8]
    if gpu.mode_since:
        lines.append(f"for {SIDE[gpu.observed_mode]} since {duration(now - gpu.mode_since)}")
    if gpu.message:
        lines.append(sentence(gpu.message))
    why = said.get(Subject(SubjectKind.GPU, gpu.node, gpu.pci_address))
    if use.state is GpuState.IDLE and why is not None:
        lines.append(sentence(why.message))
    return Tile(f"{gpu.node}-{gpu.pci_address}", look, signs[use.state], "\n".join(lines))


def _state_words(use: GpuUse, node: Node) -> str:
    match use.state:
        case GpuState.TROUBLE:
            return f"needs a human ({use.gpu.reason or use.gpu.phase.value})"
        case GpuState.MOVING:
            move = node.transition
            return f"moving to {SIDE[move.to_mode]}, {move.step.value}" if move else "moving"
        case GpuState.IDLE:
            return f"idle, for {SIDE[use.gpu.observed_mode]}"
    if use.gpu.observed_mode is Mode.PASSTHROUGH:
        return "given to a VM"
    return f"shared by {plural(len(use.pods), 'container pod')}, {use.share:.0%} given away"


def _move(move: Transition, now: float) -> MoveCard:
    return MoveCard(
        node=move.node,
        gpus=", ".join(move.devices),
        to_side=SIDE[move.to_mode],
        to_mode="vm" if move.to_mode is Mode.PASSTHROUGH else "shared",
        rollback=move.rollback,
        step=move.step.value,
        steps=tuple(
            (s.value, "done" if s.order < move.step.order else "now" if s is move.step else "ahead")
            for s in STEPS
        ),
        since=duration(now - move.started_at),
        message=sentence(move.message),
        plan_id=move.plan_id,
    )


def _waiting(snapshot: ClusterSnapshot, plan: Plan | None) -> tuple[Waiting, ...]:
    said = {r.subject: r for r in plan.refusals} if plan else {}

    def why(kind: SubjectKind, namespace: str, name: str) -> tuple[str, str]:
        found = said.get(Subject(kind, namespace, name))
        if found is None:
            return "", "No decision about it yet."
        return ("", "") if found.reason is Reason.SERVED else (found.reason.value, sentence(found.message))

    rows: list[tuple[float, Waiting]] = []
    for vm in snapshot.vms:
        if vm.waiting:
            since = vm.waiting_since or vm.created_at
            code, text = why(SubjectKind.VM, vm.namespace, vm.name)
            wants = ", ".join(f"{c.count} × {c.resource_name.rpartition('/')[2]}" for c in vm.claims)
            row = Waiting(
                "VM", f"{vm.namespace}/{vm.name}", wants, duration(snapshot.taken_at - since), code, text
            )
            rows.append((since, row))
    for pod in snapshot.pods:
        if pod.waiting:
            since = pod.waiting_since or pod.created_at
            code, text = why(SubjectKind.POD, pod.namespace, pod.name)
            wants = _slice_words(pod.gpus, pod.memory_mib, pod.memory_percent, pod.cores_percent)
            row = Waiting(
                "pod", f"{pod.namespace}/{pod.name}", wants, duration(snapshot.taken_at - since), code, text
            )
            rows.append((since, row))
    return tuple(row for _, row in sorted(rows, key=lambda pair: pair[0]))


def _slice_words(gpus: int, memory_mib: int, memory_percent: int, cores_percent: int) -> str:
    memory = (
        f"{memory_mib} MiB" if memory_mib else f"{memory_percent} % memory" if memory_percent else "a card"
    )
    compute = f", {cores_percent} % compute" if cores_percent else ""
    return f"{gpus} × " * (gpus > 1) + memory + compute


def _trouble(gpu: Gpu) -> Trouble:
    return Trouble(
        where=f"{gpu.pci_address} on {gpu.node}",
        model=gpu.model,
        code=gpu.reason or gpu.phase.value,
        message=sentence(
            gpu.message or f"its phase is {gpu.phase.value}: look at the agent's log on {gpu.node}"
        ),
    )


def _pool(pool: Pool, census: Census, plan: Plan | None) -> PoolCard:
    count = census.pool(pool.name)
    targets = [t for t in plan.targets if t.pool == pool.name] if plan else []
    wanted = (sum(t.passthrough for t in targets), sum(t.shared for t in targets)) if targets else ("–", "–")
    return PoolCard(
        name=pool.name,
        rebalance=pool.rebalance.value,
        models=", ".join(pool.models) or "all models",
        gpus=count.gpus,
        sides=(
            SideRow(
                "VMs",
                "vm",
                count.passthrough,
                count.passthrough_used,
                _bounds(pool.passthrough),
                str(wanted[0]),
            ),
            SideRow(
                "containers", "shared", count.shared, count.shared_used, _bounds(pool.shared), str(wanted[1])
            ),
        ),
        sentence=sentence(targets[0].message) if targets else "",
    )


def _bounds(limits: SideLimits) -> str:
    upper = "no limit" if limits.max is None else str(limits.max)
    return f"{limits.min} to {upper}" + (f", {limits.headroom} ready" if limits.headroom else "")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the feed of decisions."""

    at: float
    time: str
    code: str
    text: str
    kind: str
    """move | done | undone | refused"""


def line(at: float, code: str, text: str, kind: str) -> Line:
    return Line(at, clock_time(at), code, sentence(text), kind)
