"""The shared GPUs that have room, as columns, and what their nodes have left beside GPUs."""

from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt

from poolmgr.domain.demand import FULL_CORES
from poolmgr.domain.fleet import Gpu, Node
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.placement import Needs, Placement
from poolmgr.domain.usage import is_open, unlisted
from poolmgr.planner.inventory.cache import SharedCapacity
from poolmgr.planner.inventory.inventory import GpuGroup, Inventory
from poolmgr.planner.inventory.node_filter import NodeFilter
from poolmgr.planner.inventory.node_resources import NodeResources
from poolmgr.planner.inventory.usage import Usage
from poolmgr.planner.inventory.whole_pods import Card

DEFAULT_SPLIT = 10
"""HAMi's deviceSplitCount where a GPU is not yet registered."""


@dataclass(slots=True)
class CapacityTable:
    """Shared GPUs with room, as columns."""

    gpus: list[Gpu]
    models: tuple[str, ...]
    model: npt.NDArray[np.int64]
    """Index into `models`."""
    size: npt.NDArray[np.float64]
    """Memory of the whole card as HAMi counts it, MiB."""
    nodes: npt.NDArray[np.int64]
    memory: npt.NDArray[np.float64]
    cores: npt.NDArray[np.float64]
    slots: npt.NDArray[np.int64]
    empty: npt.NDArray[np.bool_]
    here: npt.NDArray[np.bool_]
    """True for GPUs that HAMi can use now, False for those on their way."""
    lent: npt.NDArray[np.bool_]
    """On nodes that take best-effort pods only."""
    hosts: "NodeTable"

    def card(self, row: int) -> Card:
        return Card(
            row,
            int(self.size[row]),
            int(self.memory[row]),
            int(self.cores[row]),
            int(self.slots[row]),
            bool(self.empty[row]),
        )

    def put(self, card: Card) -> None:
        """Make a row what is left of its card."""
        self.memory[card.row], self.cores[card.row] = card.memory_mib, card.cores
        self.slots[card.row], self.empty[card.row] = card.slots, card.empty


class NodeTable:
    """The nodes of an inventory by index: which may run a shape, and how many pods of it each has room for beside
    GPUs. Pods that are placed take their room."""

    def __init__(self, inventory: Inventory, nodes: NodeFilter, resources: NodeResources) -> None:
        self._filter, self._resources = nodes, resources
        self.names = [entry.node.name for entry in inventory.nodes]
        self._index: dict[NodeName, int] = {}

    @cached_property
    def _kinds(self) -> npt.NDArray[np.int64]:
        return np.array([self._filter.kind_of(name) for name in self.names], dtype=np.int64)

    @cached_property
    def _compute(self) -> npt.NDArray[np.int64]:
        """CPU and memory that are left by node: read when the first pod asks for some, and `take` keeps it from then on."""
        left = [self._resources.compute(name) for name in self.names]
        return np.array(left, dtype=np.int64).reshape(-1, 2)

    def admitted(self, placement: Placement, needs: Needs) -> npt.NDArray[np.bool_] | None:
        """By node: whether it may run such a pod and has CPU and memory for one. None where all have."""
        denials = self._filter.denials(placement, shared=True)
        if not any(denials.values()) and not needs:
            return None
        may = np.array([not denials[n] for n in range(len(denials))], dtype=np.bool_)[self._kinds]
        enough = self._compute >= np.array([needs.cpu_milli, needs.memory_mib])
        # What is not asked for need not be there: a node may have given away more than it has.
        enough |= np.array([not needs.cpu_milli, not needs.memory_mib])
        found: npt.NDArray[np.bool_] = may & enough.all(axis=1)
        return found

    def pods_left(self, node: int, needs: Needs, most: int) -> int:
        """How many pods with these needs the node has room for, up to `most`."""
        free, left = self._resources.free(self.names[node]), most
        if needs.cpu_milli:
            left = min(left, free.cpu_milli // needs.cpu_milli)
        if needs.memory_mib:
            left = min(left, free.memory_mib // needs.memory_mib)
        if left > 0 and free.lacks(needs):
            return 0
        for name, amount in needs.requests:
            left = min(left, free.amounts.get(name, 0) // amount)
        return max(0, min(left, 1 if needs.ports else left, free.amounts.get("pods", left)))

    def take(self, node: int, needs: Needs, pods: int) -> None:
        if not needs:
            return
        # First, as it may be read only now, from `_resources`, which has less afterwards.
        self._compute[node] -= pods * np.array([needs.cpu_milli, needs.memory_mib])
        for _ in range(pods):
            self._resources.take(self.names[node], needs)

    def index_of(self, name: NodeName) -> int:
        if not self._index:
            self._index.update({name: index for index, name in enumerate(self.names)})
        return self._index[name]


def capacity_table(inventory: Inventory, nodes: NodeFilter, resources: NodeResources) -> CapacityTable:
    for node in inventory.nodes:
        if node.capacity is None:
            node.capacity = _capacity_of(node.node, inventory.usage)
    counts = [len(node.capacity or ()) for node in inventory.nodes]
    rows = list(chain.from_iterable(node.capacity or () for node in inventory.nodes))
    gpus, sizes, memory, cores, slots, empty, here, lent = zip(*rows, strict=True) if rows else ((),) * 8
    names = [gpu.model for gpu in gpus]
    models = {model: index for index, model in enumerate(dict.fromkeys(names))}
    return CapacityTable(
        list(gpus),
        tuple(models),
        np.array([models[name] for name in names], dtype=np.int64),
        np.array(sizes, dtype=np.float64),
        np.repeat(np.arange(len(counts)), counts),
        np.array(memory, dtype=np.float64),
        np.array(cores, dtype=np.float64),
        np.array(slots, dtype=np.int64),
        np.array(empty, dtype=np.bool_),
        np.array(here, dtype=np.bool_),
        np.array(lent, dtype=np.bool_),
        NodeTable(inventory, nodes, resources),
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
        if (gpu.desired_mode or observed) is not shared or phase not in states or gpu.closed is not None:
            continue
        entry = registered.get(uuid)
        if (entry is None or not entry.healthy) and unlisted(gpu, node) is not None:
            continue  # nor is it on its way
        slots, size, compute = DEFAULT_SPLIT, gpu.memory_mib, FULL_CORES
        if entry is not None:
            # HAMi's plugin registers a card as large as its settings scale it.
            slots, size = entry.split_count, entry.memory_mib or size
            compute = entry.cores_percent or compute
        memory, cores, taken = usage.load_on(gpu)
        if slots > taken and size > memory:
            here = not node.cordoned and observed is shared and phase is ready
            if here and sharing is not None:
                here = entry is not None and entry.healthy and uuid not in sharing.fenced
            left = (size - memory, compute - cores, slots - taken)
            found.append((gpu, size, *left, not taken, here, node.best_effort_only))
    return found


def card_size(group: GpuGroup) -> int:
    """MiB that HAMi counts for one card of the group: what its plugin registers for one that is shared, as it may scale
    them (deviceMemoryScaling); what the card has where none is shared."""
    for at in group.nodes.values():
        sizes = {r.uuid: r.memory_mib for r in at.node.sharing.registered} if at.node.sharing else {}
        found = [
            size for gpu in at.node.gpus if gpu.model == group.model and (size := sizes.get(gpu.uuid, 0))
        ]
        if found:
            return max(found)
    return group.memory_mib
