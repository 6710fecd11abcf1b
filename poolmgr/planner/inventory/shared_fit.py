"""Will HAMi place the waiting pods by itself? And how many more GPUs would the others need?

Waiting pods are grouped by what they ask for; the pods of each shape are placed, oldest first, where shared
GPUs have room left, fullest GPU first. What is left over is the shared side's unmet demand. An estimate of HAMi's
placement, not a copy: it never says that a pod fits where no single GPU has the room.
"""

from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from poolmgr.domain.demand import SharedPod, accepts_model
from poolmgr.domain.fleet import Gpu, Node
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.domain.usage import is_open
from poolmgr.planner.inventory.cache import SharedCapacity
from poolmgr.planner.inventory.inventory import Inventory
from poolmgr.planner.inventory.usage import Usage

DEFAULT_SPLIT = 10
"""HAMi's deviceSplitCount where a GPU is not yet registered."""


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
    def unmet(self) -> int:
        return len(self.pods) - self.fits


@dataclass(slots=True)
class _CapacityTable:
    """Shared GPUs with room, as columns."""

    gpus: list[Gpu]
    models: tuple[str, ...]
    model: npt.NDArray[np.int64]
    """Index into `models`."""
    card: npt.NDArray[np.float64]
    """Memory of the whole card, MiB."""
    nodes: npt.NDArray[np.int64]
    memory: npt.NDArray[np.float64]
    cores: npt.NDArray[np.float64]
    slots: npt.NDArray[np.int64]
    empty: npt.NDArray[np.bool_]
    here: npt.NDArray[np.bool_]
    """True for GPUs that HAMi can use now, False for those on their way."""
    lent: npt.NDArray[np.bool_]
    """On nodes that take best-effort pods only."""


def _table_of(inventory: Inventory) -> _CapacityTable:
    for node in inventory.nodes:
        if node.capacity is None:
            node.capacity = _capacity_of(node.node, inventory.usage)
    counts = [len(node.capacity or ()) for node in inventory.nodes]
    rows = list(chain.from_iterable(node.capacity or () for node in inventory.nodes))
    gpus, memory, cores, slots, empty, here, lent = zip(*rows, strict=True) if rows else ((),) * 7
    models = {model: index for index, model in enumerate(dict.fromkeys(gpu.model for gpu in gpus))}
    return _CapacityTable(
        list(gpus),
        tuple(models),
        np.array([models[gpu.model] for gpu in gpus], dtype=np.int64),
        np.array([gpu.memory_mib for gpu in gpus], dtype=np.float64),
        np.repeat(np.arange(len(counts)), counts),
        np.array(memory, dtype=np.float64),
        np.array(cores, dtype=np.float64),
        np.array(slots, dtype=np.int64),
        np.array(empty, dtype=np.bool_),
        np.array(here, dtype=np.bool_),
        np.array(lent, dtype=np.bool_),
    )


def _capacity_of(node: Node, usage: Usage) -> list[SharedCapacity]:
    """The node's shared GPUs with room, and those on their way to that side."""
    if not is_open(node):
        return []
    found: list[SharedCapacity] = []
    ready, shared = DevicePhase.READY, Mode.SHARED
    states = ready, DevicePhase.MOVING
    sharing = node.sharing
    registered = {r.uuid: r for r in sharing.registered} if sharing else {}
    for gpu in node.gpus:
        observed, phase, uuid = gpu.observed_mode, gpu.phase, gpu.uuid
        if (gpu.desired_mode or observed) is not shared or phase not in states:
            continue
        entry = registered.get(uuid)
        slots = DEFAULT_SPLIT if entry is None else entry.split_count
        memory, cores, taken = usage.load_on(gpu)
        if slots > taken and gpu.memory_mib > memory:
            here = not node.cordoned and observed is shared and phase is ready
            if here and sharing is not None:
                here = entry is not None and entry.healthy and uuid not in sharing.fenced
            left = (gpu.memory_mib - memory, 100 - cores, slots - taken)
            found.append((gpu, *left, not taken, here, node.best_effort_only))
    return found


def _slices_that_fit(table: _CapacityTable, shape: PodShape) -> npt.NDArray[np.int64]:
    """How many slices of `shape` each GPU could take."""
    if shape.memory_percent:
        memory = np.floor(table.card * shape.memory_percent / 100)
    else:
        memory = np.full(len(table.gpus), float(shape.memory_mib)) if shape.memory_mib else table.card
    fits = np.minimum(np.floor_divide(table.memory, np.maximum(memory, 1.0)), table.slots)
    if shape.cores_percent:
        fits = np.minimum(fits, np.floor_divide(table.cores, shape.cores_percent))
    if shape.cores_percent == 100:
        fits = np.where(table.empty, fits, 0)
    if shape.models or shape.excluded_models:
        accepted = np.array([shape.accepts_model(model) for model in table.models])
        fits = np.where(accepted[table.model], fits, 0)
    if not shape.best_effort:
        fits = np.where(table.lent, 0, fits)
    if shape.allowed_uuids or shape.excluded_uuids:
        allowed, excluded = set(shape.allowed_uuids), set(shape.excluded_uuids)
        fits = np.where(
            [(not allowed or g.uuid in allowed) and g.uuid not in excluded for g in table.gpus], fits, 0
        )
    return np.maximum(fits, 0).astype(np.int64)


def _place(table: _CapacityTable, shape: PodShape, wanted: int, here: bool) -> int:
    """Place up to `wanted` pods on GPUs that are here (or on those on their way); how many fitted."""
    if not table.gpus or wanted <= 0:
        return 0
    fits = np.where(table.here == here, _slices_that_fit(table, shape), 0)
    if shape.gpus > 1:
        return _place_multi(table, shape, wanted, fits)
    order = np.argsort(table.memory, kind="stable")
    filled = np.cumsum(fits[order])
    take = np.minimum(fits[order], np.maximum(0, wanted - (filled - fits[order])))
    _deduct(table, shape, order, take)
    return int(take.sum())


def _place_multi(table: _CapacityTable, shape: PodShape, wanted: int, fits: npt.NDArray[np.int64]) -> int:
    """Pods that want several distinct GPUs of one node; one pod per GPU set and round."""
    able = np.flatnonzero(fits > 0)
    if able.size == 0:
        return 0
    per_node = np.bincount(table.nodes[able], minlength=int(table.nodes.max()) + 1) // shape.gpus
    placed = 0
    for node in np.flatnonzero(per_node):
        here = able[table.nodes[able] == node]
        pods = min(int(per_node[node]), wanted - placed)
        if pods <= 0:
            break
        chosen = here[: pods * shape.gpus]
        _deduct(table, shape, chosen, np.ones(chosen.size, dtype=np.int64))
        placed += pods
    return placed


def _deduct(
    table: _CapacityTable, shape: PodShape, rows: npt.NDArray[np.int64], take: npt.NDArray[np.int64]
) -> None:
    used = rows[take > 0]
    if used.size == 0:
        return
    amount = take[take > 0]
    memory = np.array([float(shape.memory_on(int(card))) for card in table.card[used]])
    table.memory[used] -= memory * amount
    table.cores[used] -= shape.cores_percent * amount
    table.slots[used] -= amount
    table.empty[used] = False


def fit_waiting_pods(snapshot: ClusterSnapshot, inventory: Inventory) -> list[ShapeFit]:
    """For each shape of waiting pods, oldest shape first: how many will fit without another move."""
    waiting = [p for p in snapshot.pods if p.node is None and not p.terminating]
    if not waiting:
        return []
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
        )
        fit = fits.get(key)
        if fit is None:
            fits[key] = ShapeFit(PodShape(*key), [pod])
        else:
            fit.pods.append(pod)
    table = _table_of(inventory)
    for fit in fits.values():
        fit.fits_now = _place(table, fit.shape, len(fit.pods), True)
        fit.fits = fit.fits_now + _place(table, fit.shape, len(fit.pods) - fit.fits_now, False)
    return list(fits.values())


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
