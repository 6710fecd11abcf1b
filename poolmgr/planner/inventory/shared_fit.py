"""Will HAMi place the waiting pods by itself? And how many more GPUs would the others need?

Waiting pods are grouped by what they ask for; the pods of each shape are placed, oldest first, where shared
GPUs have room left, fullest GPU first. What is left over is the shared side's unmet demand. An estimate of HAMi's
placement, not a copy: it never says that a pod fits where no single GPU has the room.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from poolmgr.domain.demand import CardAsk, SharedPod, accepts_model
from poolmgr.domain.fleet import Gpu
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.placement import ANYWHERE, NOTHING, Needs, Placement
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.card_table import DEFAULT_SPLIT, CapacityTable, capacity_table
from poolmgr.planner.inventory.inventory import Inventory
from poolmgr.planner.inventory.node_filter import NodeFilter
from poolmgr.planner.inventory.rooms import Rooms
from poolmgr.planner.inventory.whole_pods import place_whole


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
    fits = np.where(table.here == here, _slices_that_fit(table, shape), 0)
    order = np.argsort(table.memory, kind="stable")
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
    """The same for pods that need something of their nodes beside a GPU: a node takes no more than it has room for."""
    rows = order[fits[order] > 0]
    take = np.zeros(rows.size, dtype=np.int64)
    left = wanted
    full: set[int] = set()
    for index, row in enumerate(rows):
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
    _deduct(table, shape, rows, take)
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
    placed = 0
    for node in np.unique(table.nodes[rows]):
        on_node = [table.card(int(row)) for row in rows[table.nodes[rows] == node]]
        while placed < wanted:
            after = place_whole(on_node, shape.asks)
            if after is None or table.hosts.pods_left(int(node), shape.needs, 1) < 1:
                break
            on_node = after
            table.hosts.take(int(node), shape.needs, 1)
            placed += 1
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


def fit_waiting_pods(
    snapshot: ClusterSnapshot, inventory: Inventory, nodes: NodeFilter, rooms: Rooms
) -> PodFit:
    """For each shape of waiting pods, oldest shape first: how many will fit without another move. What those that fit
    take of their nodes is taken from `rooms`."""
    waiting = [p for p in snapshot.pods if p.node is None and not p.terminating and p.servable]
    if not waiting:
        return PodFit([], None)
    waiting.sort(key=lambda p: p.created_at)
    fits: dict[tuple[object, ...], ShapeFit] = {}
    for pod in waiting:
        key = (
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
            pod.placement,
            pod.needs,
        )
        fit = fits.get(key)
        if fit is None:
            fits[key] = ShapeFit(PodShape(*key), [pod])
        else:
            fit.pods.append(pod)
    table = capacity_table(inventory, nodes, rooms)
    for fit in fits.values():
        fit.fits_now = _place(table, fit.shape, fit.turn, True)
        fit.fits = fit.fits_now + _place(table, fit.shape, fit.turn - fit.fits_now, False)
    return PodFit(list(fits.values()), table)


def cards_needed(fit: ShapeFit, card_mib: int) -> float:
    """Empty cards of `card_mib` that the unmet pods of the shape would fill, as a fraction; inf if none fits."""
    per_card = fit.shape.per_card(card_mib)
    return fit.unmet * fit.shape.gpus / per_card if per_card else float("inf")


def cards_of(pod: SharedPod, card_mib: int) -> float:
    """Cards of `card_mib` that the pod takes up, as a fraction; one that says nothing of memory asks for all of it."""
    if pod.memory_percent:
        memory = pod.memory_percent / 100
    else:
        memory = pod.memory_mib / card_mib if pod.memory_mib and card_mib else 1.0
    return pod.gpus * max(memory, pod.cores_percent / 100)
