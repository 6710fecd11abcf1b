"""Counting: how a snapshot's GPUs are used, per pool and model, and who waits.

The same numbers feed `GPUPool.status`, the API, the metrics, the ledger's samples and the dashboard, so that
they never disagree. Take one census of a snapshot and read everything from it.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from operator import attrgetter

from poolmgr.domain.demand import SharedPod, Vm
from poolmgr.domain.fleet import Gpu, Node
from poolmgr.domain.identifiers import GpuUuid, NodeName, PoolName
from poolmgr.domain.modes import Mode
from poolmgr.domain.occupancy import Names, Tenants, occupancy_of
from poolmgr.domain.plan import Verdict
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.domain.usage import GpuState, User, in_use, state_of, unlisted, users_of

FULL_CARD_PERCENT = 100


@dataclass(frozen=True, slots=True)
class GpuUse:
    """One GPU with the workloads that are on it."""

    gpu: Gpu
    state: GpuState
    users: tuple[User, ...]
    """Everybody who has it, as `usage` defines."""
    vm: Vm | None
    pods: tuple[SharedPod, ...]
    """With a slice of it. One that HAMi has placed and not bound yet has its slice already."""
    share: float
    """Part of the card given away, 0 to 1: the larger of its memory and its compute; 1 for a VM."""
    unlisted: Verdict | None = None
    """Why no pod can get a slice of it, though it is where it is wanted (`usage.unlisted`)."""

    @property
    def trouble(self) -> tuple[str, str]:
        """Reason code and sentence of what needs attention, as far as anybody has said; empty where nobody has."""
        if self.unlisted is not None:
            return self.unlisted.reason.value, self.unlisted.message
        return self.gpu.reason, self.gpu.message


@dataclass(frozen=True, slots=True)
class Count:
    """GPUs and workloads of one pool and model. A moving GPU counts on neither side."""

    gpus: int = 0
    passthrough: int = 0
    passthrough_used: int = 0
    shared: int = 0
    shared_used: int = 0
    """Shared GPUs that anybody uses: a pod with a slice, or a process that has it open."""
    shared_share: float = 0.0
    """Sum over the shared GPUs of the part given away, in GPUs."""
    moving: int = 0
    trouble: int = 0
    withdrawn: int = 0
    """Unused GPUs that an operator, or the kubelet, lets nobody have. They count on neither side."""
    running_vms: int = 0
    running_pods: int = 0
    waiting_vms: int = 0
    waiting_pods: int = 0

    def __add__(self, other: "Count") -> "Count":
        return total((self, other))

    @property
    def used(self) -> float:
        """GPUs' worth of work: whole cards in VMs plus the parts given to containers."""
        return self.passthrough_used + self.shared_share


_numbers = attrgetter(*(field.name for field in fields(Count)))


def total(counts: Iterable[Count]) -> Count:
    """Their sum; all zero where there are none."""
    columns = zip(*map(_numbers, counts), strict=True)
    return Count(*map(sum, columns))


Key = tuple[PoolName | None, str]
"""(pool, model); the pool is None for GPUs that no pool selects."""


@dataclass(frozen=True, slots=True)
class NodeCensus:
    """One node's part. Equal to the part of the census before where nothing changed, and then the very same value."""

    node: Node
    names: Names
    tenants: Tenants
    uses: tuple[GpuUse, ...]
    """Every GPU, joined with its workloads, in the node's order."""
    counts: tuple[tuple[Key, Count], ...]
    """Its GPUs, and the pods that run on them."""
    keys: dict[str, Key]
    """PCI address → pool and model."""
    resources: dict[str, Key]
    """Resource name → the first pool and model, in sorted order, with a GPU of it."""
    offers: frozenset[tuple[PoolName | None, str]]
    """(pool, resource name) of its GPUs."""
    trouble: tuple[GpuUse, ...]
    idle: int

    @property
    def pools(self) -> frozenset[PoolName | None]:
        """Those that have a GPU of it."""
        return frozenset(pool for pool, _ in self.keys.values())


@dataclass(frozen=True, slots=True)
class Census:
    """One snapshot, counted."""

    snapshot: ClusterSnapshot
    nodes: tuple[NodeCensus, ...]
    """In the snapshot's order."""
    counts: dict[Key, Count]
    """A waiting workload counts once: at the first pool and model that could serve it, in sorted order, or at
    (None, "") when no GPU of the cluster could."""

    @property
    def uses(self) -> Iterable[GpuUse]:
        """Every GPU of the snapshot, in its order."""
        return (use for node in self.nodes for use in node.uses)

    @property
    def trouble(self) -> tuple[GpuUse, ...]:
        return tuple(use for node in self.nodes for use in node.trouble)

    def resource_names(self, pool: PoolName) -> tuple[str, ...]:
        """What machines ask for to get a GPU of the pool, sorted."""
        return tuple(sorted({name for part in self.nodes for owner, name in part.offers if owner == pool}))

    def pool(self, pool: PoolName) -> Count:
        """All models of one pool together."""
        return total(count for (name, _), count in self.counts.items() if name == pool)


class CensusCache:
    """The nodes of the census before: it saves time and alters no number. A part is used again only for the very same
    `Node` value with equal pods and VMs on it."""

    def __init__(self) -> None:
        self._known: dict[NodeName, NodeCensus] = {}

    def take(self, snapshot: ClusterSnapshot) -> Census:
        """O(nodes + VMs) where little has changed."""
        occupancy = occupancy_of(snapshot)
        known, parts = self._known, []
        for node in snapshot.nodes:
            part = known.get(node.name)
            names = part.names if part is not None and part.node is node else Names.of(node)
            tenants = names.tenants(occupancy)
            if part is None or part.node is not node or part.tenants != tenants:
                part = _count_node(node, names, tenants)
            parts.append(part)
        self._known = {part.node.name: part for part in parts}
        return Census(snapshot, tuple(parts), _counts(snapshot, self._known))


def take_census(snapshot: ClusterSnapshot) -> Census:
    """A census of this snapshot alone."""
    return CensusCache().take(snapshot)


def _count_node(node: Node, names: Names, tenants: Tenants) -> NodeCensus:
    launched = iter(tenants.launched)
    uses: list[GpuUse] = []
    for gpu, pods in zip(node.gpus, tenants.pods, strict=True):
        by_launcher = next(launched) if gpu.allocated_to else None
        vm = (tenants.vms or {}).get(gpu.pci_address) or by_launcher
        on_it = tuple(pods)
        used = in_use(gpu, on_it, vm)
        share = 1.0 if gpu.observed_mode is Mode.PASSTHROUGH and used else _share(gpu, on_it)
        users = users_of(gpu, on_it, vm) if used else ()
        missing = unlisted(gpu, node)
        state = state_of(gpu, node.transition, used, listed=missing is None)
        uses.append(GpuUse(gpu, state, users, vm, on_it, share, missing))
    keys: dict[str, Key] = {gpu.pci_address: (gpu.pool, gpu.model) for gpu in node.gpus}
    resources: dict[str, Key] = {}
    for gpu in node.gpus:
        key = keys[gpu.pci_address]
        if gpu.resource_name:
            resources[gpu.resource_name] = min(key, resources.get(gpu.resource_name, key), key=_order)
    counts = [(keys[use.gpu.pci_address], _count_gpu(use)) for use in uses]
    counts += _running_pods(uses)
    return NodeCensus(
        node,
        names,
        tenants,
        tuple(uses),
        tuple(_sums(counts).items()),
        keys,
        resources,
        frozenset([(gpu.pool, gpu.resource_name) for gpu in node.gpus if gpu.resource_name]),
        tuple([use for use in uses if use.state is GpuState.TROUBLE]),
        sum([use.state is GpuState.IDLE for use in uses]),
    )


def _order(key: Key) -> tuple[str, str]:
    return key[0] or "", key[1]


def _sums(counts: Iterable[tuple[Key, Count]]) -> dict[Key, Count]:
    groups: dict[Key, list[Count]] = {}
    for key, count in counts:
        groups.setdefault(key, []).append(count)
    return {key: total(group) for key, group in groups.items()}


def _share(gpu: Gpu, pods: Iterable[SharedPod]) -> float:
    pieces = [piece for pod in pods for piece in pod.slices if piece.uuid == gpu.uuid]
    if not pieces:
        return 0.0
    memory = sum(piece.memory_mib for piece in pieces) / gpu.memory_mib if gpu.memory_mib else 0.0
    compute = sum(piece.cores_percent for piece in pieces) / FULL_CARD_PERCENT
    return min(1.0, max(memory, compute))


def _count_gpu(use: GpuUse) -> Count:
    if use.state is GpuState.TROUBLE:
        return Count(gpus=1, trouble=1)
    if use.state is GpuState.MOVING:
        return Count(gpus=1, moving=1)
    if use.state is GpuState.WITHDRAWN:
        return Count(gpus=1, withdrawn=1)
    used = int(use.state is GpuState.IN_USE)
    if use.gpu.observed_mode is Mode.PASSTHROUGH:
        return Count(gpus=1, passthrough=1, passthrough_used=used)
    return Count(gpus=1, shared=1, shared_used=used, shared_share=use.share)


def _running_pods(uses: list[GpuUse]) -> Iterable[tuple[Key, Count]]:
    """Each pod that is bound once, at the first of its slices' GPUs."""
    by_uuid = {use.gpu.uuid: use.gpu for use in uses}
    for pod in {id(pod): pod for use in uses for pod in use.pods if pod.node == use.gpu.node}.values():
        gpu = next(by_uuid[piece.uuid] for piece in pod.slices if piece.uuid in by_uuid)
        yield (gpu.pool, gpu.model), Count(running_pods=1)


def _counts(snapshot: ClusterSnapshot, nodes: dict[NodeName, NodeCensus]) -> dict[Key, Count]:
    counts = [pair for part in nodes.values() for pair in part.counts]
    kinds = sorted({key for key, _ in counts}, key=_order)
    resources: dict[str, Key] = {}
    for part in nodes.values():
        for name, key in part.resources.items():
            known = resources.get(name)
            if known is None or _order(key) < _order(known):
                resources[name] = key
    running, waiting, pods = Counter[Key](), Counter[Key](), Counter[Key]()
    for vm in snapshot.vms:
        if vm.waiting:
            waiting[_first_with(vm, resources) if vm.servable else NOWHERE] += 1
        else:
            running[_place_of(vm, nodes) or _first_with(vm, resources)] += 1
    first: dict[tuple[tuple[str, ...], ...], Key] = {}
    for pod in snapshot.pods:
        if pod.waiting and not pod.servable:
            pods[NOWHERE] += 1
        elif pod.waiting:
            constraints = (pod.models, pod.excluded_models, pod.allowed_uuids, pod.excluded_uuids)
            if constraints not in first:
                first[constraints] = next((k for k in kinds if pod.accepts(k[1], GpuUuid(""))), NOWHERE)
            pods[first[constraints]] += 1
    counts += [(key, Count(running_vms=number)) for key, number in running.items()]
    counts += [(key, Count(waiting_vms=number)) for key, number in waiting.items()]
    counts += [(key, Count(waiting_pods=number)) for key, number in pods.items()]
    return _sums(counts)


NOWHERE: Key = (None, "")


def _place_of(vm: Vm, nodes: dict[NodeName, NodeCensus]) -> Key | None:
    """The pool and model of its first device that is there."""
    for name, address in vm.devices:
        part = nodes.get(name)
        if part is not None and address in part.keys:
            return part.keys[address]
    return None


def _first_with(vm: Vm, resources: dict[str, Key]) -> Key:
    found = [resources[claim.resource_name] for claim in vm.claims if claim.resource_name in resources]
    return min(found, key=_order, default=NOWHERE)
