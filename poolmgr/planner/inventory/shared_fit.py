"""Will HAMi place the waiting pods by itself? And how many more GPUs would the others need?

Waiting pods are grouped by what they ask for; each group is laid, oldest first, onto the room that shared
GPUs have left, fullest GPU first. What is left over is the shared side's unmet demand. An estimate of HAMi's
placement, not a copy: it never says that a pod fits where no single GPU has the room.
"""

from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from poolmgr.domain.demand import SharedPod
from poolmgr.domain.fleet import Gpu, Node
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.cache import Room
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
        name = model.casefold()
        return (not self.models or any(m.casefold() in name for m in self.models)) and not any(
            m.casefold() in name for m in self.excluded_models
        )


@dataclass(slots=True)
class ShapeOutlook:
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
class _Room:
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


def _room(stock: Inventory) -> _Room:
    for shelved in stock.nodes:
        if shelved.rooms is None:
            shelved.rooms = _rooms_of(shelved.node, stock.usage)
    counts = [len(shelved.rooms or ()) for shelved in stock.nodes]
    rows = list(chain.from_iterable(shelved.rooms or () for shelved in stock.nodes))
    gpus, memory, cores, slots, empty, here, lent = zip(*rows, strict=True) if rows else ((),) * 7
    models = {model: index for index, model in enumerate(dict.fromkeys(gpu.model for gpu in gpus))}
    return _Room(
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


def _rooms_of(node: Node, usage: Usage) -> list[Room]:
    """The node's shared GPUs with room, and those on their way to that side."""
    if not node.ready or (node.cordoned and not node.cordoned_by_us):
        return []
    rooms: list[Room] = []
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
            rooms.append((gpu, *left, not taken, here, node.best_effort_only))
    return rooms


def _capacity(room: _Room, shape: PodShape) -> npt.NDArray[np.int64]:
    """How many slices of `shape` each GPU could take."""
    if shape.memory_percent:
        memory = np.floor(room.card * shape.memory_percent / 100)
    else:
        memory = np.full(len(room.gpus), float(shape.memory_mib)) if shape.memory_mib else room.card
    fits = np.minimum(np.floor_divide(room.memory, np.maximum(memory, 1.0)), room.slots)
    if shape.cores_percent:
        fits = np.minimum(fits, np.floor_divide(room.cores, shape.cores_percent))
    if shape.cores_percent == 100:
        fits = np.where(room.empty, fits, 0)
    if shape.models or shape.excluded_models:
        accepted = np.array([shape.accepts_model(model) for model in room.models])
        fits = np.where(accepted[room.model], fits, 0)
    if not shape.best_effort:
        fits = np.where(room.lent, 0, fits)
    if shape.allowed_uuids or shape.excluded_uuids:
        allowed, excluded = set(shape.allowed_uuids), set(shape.excluded_uuids)
        fits = np.where(
            [(not allowed or g.uuid in allowed) and g.uuid not in excluded for g in room.gpus], fits, 0
        )
    return np.maximum(fits, 0).astype(np.int64)


def _lay(room: _Room, shape: PodShape, wanted: int, here: bool) -> int:
    """Place up to `wanted` pods on GPUs that are here (or on those on their way); how many fitted."""
    if not room.gpus or wanted <= 0:
        return 0
    fits = np.where(room.here == here, _capacity(room, shape), 0)
    if shape.gpus > 1:
        return _lay_multi(room, shape, wanted, fits)
    order = np.argsort(room.memory, kind="stable")
    filled = np.cumsum(fits[order])
    take = np.minimum(fits[order], np.maximum(0, wanted - (filled - fits[order])))
    _deduct(room, shape, order, take)
    return int(take.sum())


def _lay_multi(room: _Room, shape: PodShape, wanted: int, fits: npt.NDArray[np.int64]) -> int:
    """Pods that want several distinct GPUs of one node; one pod per GPU set and round."""
    able = np.flatnonzero(fits > 0)
    if able.size == 0:
        return 0
    per_node = np.bincount(room.nodes[able], minlength=int(room.nodes.max()) + 1) // shape.gpus
    placed = 0
    for node in np.flatnonzero(per_node):
        here = able[room.nodes[able] == node]
        pods = min(int(per_node[node]), wanted - placed)
        if pods <= 0:
            break
        chosen = here[: pods * shape.gpus]
        _deduct(room, shape, chosen, np.ones(chosen.size, dtype=np.int64))
        placed += pods
    return placed


def _deduct(room: _Room, shape: PodShape, rows: npt.NDArray[np.int64], take: npt.NDArray[np.int64]) -> None:
    used = rows[take > 0]
    if used.size == 0:
        return
    amount = take[take > 0]
    memory = np.array([float(shape.memory_on(int(card))) for card in room.card[used]])
    room.memory[used] -= memory * amount
    room.cores[used] -= shape.cores_percent * amount
    room.slots[used] -= amount
    room.empty[used] = False


def outlook(snapshot: ClusterSnapshot, stock: Inventory) -> list[ShapeOutlook]:
    """For each shape of waiting pods, oldest shape first: how many will fit without another move."""
    waiting = [p for p in snapshot.pods if p.node is None and not p.terminating]
    if not waiting:
        return []
    waiting.sort(key=lambda p: p.created_at)
    groups: dict[tuple[object, ...], ShapeOutlook] = {}
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
        group = groups.get(key)
        if group is None:
            groups[key] = ShapeOutlook(PodShape(*key), [pod])
        else:
            group.pods.append(pod)
    room = _room(stock)
    for group in groups.values():
        group.fits_now = _lay(room, group.shape, len(group.pods), True)
        group.fits = group.fits_now + _lay(room, group.shape, len(group.pods) - group.fits_now, False)
    return list(groups.values())


def cards_needed(group: ShapeOutlook, card_mib: int) -> float:
    """Empty cards of `card_mib` that the group's unmet pods would fill, as a fraction; inf if none fits."""
    per_card = group.shape.per_card(card_mib)
    return group.unmet * group.shape.gpus / per_card if per_card else float("inf")


def cards_of(pod: SharedPod, card_mib: int) -> float:
    """Cards of `card_mib` that the pod takes up, as a fraction; one that says nothing of memory asks for all of it."""
    if pod.memory_percent:
        memory = pod.memory_percent / 100
    else:
        memory = pod.memory_mib / card_mib if pod.memory_mib and card_mib else 1.0
    return pod.gpus * max(memory, pod.cores_percent / 100)
