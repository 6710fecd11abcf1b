"""Will HAMi place the waiting pods by itself? And how many more GPUs would the others need?

Waiting pods are grouped by what they ask for; the pods of each shape are placed, oldest first, where shared
GPUs have room left, fullest GPU first. What is left over is the shared side's unmet demand. An estimate of HAMi's
placement, not a copy: it never says that a pod fits where no single GPU has the room.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from poolmgr.domain.demand import CardAsk, SharedPod, accepts_model
from poolmgr.domain.fleet import Gpu
from poolmgr.domain.identifiers import GpuUuid, WorkloadUid
from poolmgr.domain.occupancy import unbound_pods
from poolmgr.domain.placement import ANYWHERE, NOTHING, Needs, Placement
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.card_table import DEFAULT_SPLIT, CapacityTable, capacity_table
from poolmgr.planner.inventory.inventory import Inventory
from poolmgr.planner.inventory.node_filter import NodeFilter
from poolmgr.planner.inventory.node_resources import NodeResources
from poolmgr.planner.inventory.whole_pods import place_whole

NOBODY: Mapping[WorkloadUid, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PodShape:
    """What makes two waiting pods equal to a planner."""

    gpus: int
    memory_mib: int
    memory_percent: int
    cores_percent: int
    models: tuple[str, ...]
    excluded_models: tuple[str, ...]
    allowed_uuids: tuple[GpuUuid, ...]
    excluded_uuids: tuple[GpuUuid, ...]
    best_effort: bool
    containers: tuple[CardAsk, ...] = ()
    placement: Placement = ANYWHERE
    needs: Needs = NOTHING

    @property
    def asks(self) -> tuple[CardAsk, ...]:
        """What each container asks for, where any asks for more than a part of one card."""
        if self.containers:
            return self.containers
        return (CardAsk(self.gpus, self.memory_mib, self.memory_percent, self.cores_percent),)

    @property
    def whole(self) -> bool:
        """True where one node has to have all of several parts."""
        return self.gpus > 1 or bool(self.containers)

    def fits_card(self, size_mib: int) -> bool:
        """Whether an empty card of the size can serve every single part."""
        return all(ask.memory_on(size_mib) <= size_mib for ask in self.asks)

    def accepts(self, gpu: Gpu) -> bool:
        """As `SharedPod.accepts`."""
        return (
            self.accepts_model(gpu.model)
            and (not self.allowed_uuids or gpu.uuid in self.allowed_uuids)
            and gpu.uuid not in self.excluded_uuids
        )

    def per_card(self, memory_mib: int, slots: int = DEFAULT_SPLIT) -> int:
        """How many pods of this shape an empty card of `memory_mib` holds."""
        memory = self.memory_on(memory_mib)
        if memory > memory_mib:
            return 0
        by_memory = memory_mib // memory if memory else slots
        by_cores = 100 // self.cores_percent if self.cores_percent else slots
        return min(by_memory, by_cores, slots)

    def memory_on(self, card_mib: int) -> int:
        if self.memory_percent:
            return card_mib * self.memory_percent // 100
        return self.memory_mib or card_mib

    def accepts_model(self, model: str) -> bool:
        return accepts_model(model, self.models, self.excluded_models)


@dataclass(slots=True)
class ShapeFit:
    """What becomes of the waiting pods of one shape, oldest first."""

    shape: PodShape
    pods: list[SharedPod]
    fits: int = 0
    """The first so many fit on shared GPUs as they are or as they will be."""
    fits_now: int = 0
    """Of those, the ones that need no move to finish."""
    queued: int = 0
    """The last so many are let in by turns."""

    @property
    def turn(self) -> int:
        """How many are looked at now: the rules of one about other pods may be about the next."""
        return min(1, len(self.pods)) if self.shape.placement.one_at_a_time else len(self.pods)

    @property
    def unmet(self) -> int:
        return self.turn - self.fits


@dataclass(frozen=True, slots=True)
class PodFit:
    """What becomes of all that wait."""

    shapes: list[ShapeFit]
    table: CapacityTable | None
    """What is left of the cards once those that fit are there; None where nobody waits."""


def _slices_that_fit(table: CapacityTable, shape: PodShape) -> npt.NDArray[np.int64]:
    """How many slices of `shape` each GPU could take."""
    if shape.memory_percent:
        memory = np.floor(table.size * shape.memory_percent / 100)
    else:
        memory = np.full(len(table.gpus), float(shape.memory_mib)) if shape.memory_mib else table.size
    fits = np.minimum(np.floor_divide(table.memory, np.maximum(memory, 1.0)), table.slots)
    if shape.cores_percent:
        fits = np.minimum(fits, np.floor_divide(table.cores, shape.cores_percent))
    else:  # HAMi gives no part of a card whose compute is used up
        fits = np.where(table.cores > 0, fits, 0)
    if shape.cores_percent == 100:
        fits = np.where(table.empty, fits, 0)
    if shape.models or shape.excluded_models:
        accepted = np.array([shape.accepts_model(model) for model in table.models])
        fits = np.where(accepted[table.model], fits, 0)
    if not shape.best_effort:
        fits = np.where(table.lent, 0, fits)
    admitted = table.hosts.admitted(shape.placement, shape.needs)
    if admitted is not None:
        fits = np.where(admitted[table.nodes], fits, 0)
    if shape.allowed_uuids or shape.excluded_uuids:
        allowed, excluded = set(shape.allowed_uuids), set(shape.excluded_uuids)
        fits = np.where(
            [(not allowed or g.uuid in allowed) and g.uuid not in excluded for g in table.gpus], fits, 0
        )
    return np.maximum(fits, 0).astype(np.int64)


def _place(table: CapacityTable, shape: PodShape, wanted: int, here: bool) -> int:
    """Place up to `wanted` pods on GPUs that are here (or on those on their way); how many fitted."""
    if not table.gpus or wanted <= 0:
        return 0
    if shape.whole:
        return _place_whole(table, shape, wanted, here)
    asked = table.here == here
    if not asked.any():  # as ever, unless GPUs are on their way
        return 0
    fits = np.where(asked, _slices_that_fit(table, shape), 0)
    rows = np.flatnonzero(fits)
    order = rows[np.argsort(table.memory[rows], kind="stable")]
    if shape.needs:
        return _place_beside(table, shape, wanted, fits, order)
    filled = np.cumsum(fits[order])
    take = np.minimum(fits[order], np.maximum(0, wanted - (filled - fits[order])))
    _deduct(table, shape, order, take)
    return int(take.sum())


def _place_beside(
    table: CapacityTable,
    shape: PodShape,
    wanted: int,
    fits: npt.NDArray[np.int64],
    order: npt.NDArray[np.int64],
) -> int:
    """The same for pods that need something of their nodes beside a GPU: a node takes no more than it has room for. `order`
    has the rows where any fits."""
    take = np.zeros(order.size, dtype=np.int64)
    left = wanted
    full: set[int] = set()
    for index, row in enumerate(order):
        node = int(table.nodes[row])
        if left <= 0:
            break
        if node in full:
            continue
        asked = min(left, int(fits[row]))
        pods = table.hosts.pods_left(node, shape.needs, asked)
        if pods < asked:
            full.add(node)
        table.hosts.take(node, shape.needs, pods)
        take[index] = pods
        left -= pods
    _deduct(table, shape, order, take)
    return wanted - left


def rows_for(table: CapacityTable, shape: PodShape) -> npt.NDArray[np.bool_]:
    """The cards that a pod of the shape may have a part of, whatever is left of them."""
    may = np.array([shape.accepts_model(model) for model in table.models], dtype=np.bool_)[table.model]
    if not shape.best_effort:
        may &= ~table.lent
    admitted = table.hosts.admitted(shape.placement, shape.needs)
    if admitted is not None:
        may &= admitted[table.nodes]
    if shape.allowed_uuids or shape.excluded_uuids:
        may &= np.array([shape.accepts(gpu) for gpu in table.gpus], dtype=np.bool_)
    return may


def _place_whole(table: CapacityTable, shape: PodShape, wanted: int, here: bool) -> int:
    """Pods that one node has to serve whole, on cards that are here, or on those and the ones on their way."""
    rows = np.flatnonzero(rows_for(table, shape) & (table.here if here else True))
    nodes, first, cards = np.unique(table.nodes[rows], return_index=True, return_counts=True)
    # Each container's cards are distinct ones, so most nodes are out by their number of cards alone.
    enough = cards >= max(ask.cards for ask in shape.asks)
    placed = 0
    for node, begin, count in zip(nodes[enough], first[enough], cards[enough], strict=True):
        if placed == wanted:
            break
        on_node = [table.card(int(row)) for row in rows[begin : begin + count]]
        before = placed
        while placed < wanted:
            after = place_whole(on_node, shape.asks)
            if after is None or table.hosts.pods_left(int(node), shape.needs, 1) < 1:
                break
            on_node = after
            table.hosts.take(int(node), shape.needs, 1)
            placed += 1
        if placed > before:
            for card in on_node:
                table.put(card)
    return placed


def _deduct(
    table: CapacityTable, shape: PodShape, rows: npt.NDArray[np.int64], take: npt.NDArray[np.int64]
) -> None:
    used = rows[take > 0]
    if used.size == 0:
        return
    amount = take[take > 0]
    memory = np.array([float(shape.memory_on(int(card))) for card in table.size[used]])
    table.memory[used] -= memory * amount
    table.cores[used] -= shape.cores_percent * amount
    table.slots[used] -= amount
    table.empty[used] = False


ONE_AT_A_TIME = 500
"""Of the pods that are let in by turns, so many are placed one by one; the others by their shape, as all pods are."""


def _let_in(table: CapacityTable, fits: list[ShapeFit], turns: list[ShapeFit]) -> None:
    """Place pods that are let in by turns: `turns` has the shape of each, in their turn."""
    for fit in turns[:ONE_AT_A_TIME]:
        if fit.fits_now < fit.turn:
            fit.fits_now += _place(table, fit.shape, 1, True)
    for fit in fits:
        if fit.queued:
            fit.fits_now += _place(table, fit.shape, fit.turn - fit.fits_now, True)
        fit.fits = fit.fits_now + _place(table, fit.shape, fit.turn - fit.fits_now, False)


def fit_waiting_pods(
    snapshot: ClusterSnapshot,
    inventory: Inventory,
    nodes: NodeFilter,
    resources: NodeResources,
    queued: Mapping[WorkloadUid, int] = NOBODY,
) -> PodFit:
    """For each shape of waiting pods, oldest shape first: how many will fit without another move. What those that fit
    take of their nodes is taken from `resources`. Pods that are let in by turns come after all others: `queued` has their
    turn."""
    waiting = [p for p in unbound_pods(snapshot.pods) if not p.terminating and p.servable.ok]
    if not waiting:
        return PodFit([], None)
    waiting.sort(key=attrgetter("created_at"))
    if queued:
        waiting.sort(key=lambda p: queued.get(p.uid, -1))
    shape_of: dict[WorkloadUid, ShapeFit] = {}
    fits: dict[tuple[object, ...], ShapeFit] = {}
    numbers: dict[Placement, int] = {}
    number_of: dict[int, int] = {}  # by identity: most pods share a few placements, which are slow to hash
    for pod in waiting:
        number = number_of.get(id(pod.placement))
        if number is None:
            number = number_of[id(pod.placement)] = numbers.setdefault(pod.placement, len(numbers))
        key = (
            number,
            pod.cpu_milli,
            pod.memory_request_mib,  # what else it needs, its placement says
            pod.gpus,
            pod.memory_mib,
            pod.memory_percent,
            pod.cores_percent,
            pod.models,
            pod.excluded_models,
            pod.allowed_uuids,
            pod.excluded_uuids,
            pod.best_effort,
            pod.containers,
        )
        fit = fits.get(key)
        if fit is None:
            fit = fits[key] = ShapeFit(PodShape(*key[3:], pod.placement, pod.needs), [pod])
        else:
            fit.pods.append(pod)
        if pod.uid in queued:
            shape_of[pod.uid] = fit
            fit.queued += 1
    table = capacity_table(inventory, nodes, resources)
    for fit in fits.values():
        fit.fits_now = _place(table, fit.shape, min(fit.turn, len(fit.pods) - fit.queued), True)
        if not shape_of:
            fit.fits = fit.fits_now + _place(table, fit.shape, fit.turn - fit.fits_now, False)
    if shape_of:
        _let_in(table, list(fits.values()), list(shape_of.values()))
    return PodFit(list(fits.values()), table)


def cards_needed(fit: ShapeFit, card_mib: int) -> float:
    """Empty cards of `card_mib` that the unmet pods of the shape would fill, as a fraction; inf if none fits."""
    per_card = fit.shape.per_card(card_mib)
    return fit.unmet * fit.shape.gpus / per_card if per_card else float("inf")
