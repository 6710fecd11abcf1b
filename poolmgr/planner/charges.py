"""What workloads take up of pools, in GPUs: those that run by what they have, those that wait by what they may come to have
(`domain.charge`)."""

from collections import Counter

from poolmgr.domain.charge import Charge, accepts_one_of, charge_of_slices, charge_of_whole, reached
from poolmgr.domain.demand import FULL_CORES, SharedPod, Vm
from poolmgr.domain.fleet import Gpu, Node
from poolmgr.domain.identifiers import PciAddress, PoolName
from poolmgr.domain.placement import Placement
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.card_table import card_size
from poolmgr.planner.inventory.inventory import Inventory
from poolmgr.planner.inventory.node import GroupKey
from poolmgr.planner.inventory.node_filter import NodeFilter

Workload = Vm | SharedPod
Share = tuple[PoolName, str]
"""(pool, namespace)."""


class Charges:
    """Answers for one snapshot; waiting workloads that are alike are worked out once."""

    def __init__(self, snapshot: ClusterSnapshot, inventory: Inventory) -> None:
        self._snapshot, self._inventory = snapshot, inventory
        self._sizes = {key: card_size(group) for key, group in inventory.groups.items()}
        self._filter: NodeFilter | None = None
        self._known: dict[tuple[object, ...], Charge] = {}

    def of_waiting(self, workload: Workload) -> Charge:
        """What it may come to take up of each pool where it may land."""
        if isinstance(workload, Vm):
            key: tuple[object, ...] = (workload.claims, workload.placement)
        else:
            key = (
                (workload.gpus, workload.memory_mib, workload.memory_percent, workload.cores_percent),
                workload.containers,
                (workload.models, workload.excluded_models, workload.allowed_uuids, workload.excluded_uuids),
                workload.placement,
            )
        known = self._known.get(key)
        if known is None:
            known = self._of_vm(workload) if isinstance(workload, Vm) else self._of_pod(workload)
            self._known[key] = known
        return known

    def running(self) -> dict[Share, float]:
        """What namespaces hold by those that have GPUs. O(GPUs + slices)."""
        held: dict[Share, float] = {}
        nodes = {node.name: node for node in self._snapshot.nodes}
        for vm in self._snapshot.vms:
            node = nodes.get(vm.node) if vm.node is not None else None
            for pool, gpus in _of_bound(vm, node).items() if node is not None else ():
                held[pool, vm.namespace] = held.get((pool, vm.namespace), 0.0) + gpus
        known = [gpu for node in self._snapshot.nodes for gpu in node.gpus if gpu.uuid]
        cards = {gpu.uuid: gpu for gpu in known}
        # Where two nodes report one UUID, a pod has the GPU of its own node, see `occupancy.bound_here`.
        twins = {(gpu.node, gpu.uuid): gpu for gpu in known} if len(cards) < len(known) else {}
        for pod in self._snapshot.pods:
            for part in pod.slices:
                own = twins.get((pod.node, part.uuid)) if twins and pod.node is not None else None
                card = own or cards.get(part.uuid)
                if card is not None and card.pool is not None:
                    size = self._sizes.get((card.pool, card.model)) or card.memory_mib
                    share = max(part.memory_mib / max(size, 1), part.cores_percent / FULL_CORES)
                    share_of = (card.pool, pod.namespace)
                    held[share_of] = held.get(share_of, 0.0) + min(1.0, share)
        return held

    def _of_vm(self, vm: Vm) -> Charge:
        by_resource = self._inventory.groups_by_resource
        return charge_of_whole(
            (claim.count, map(_pool, self._reached(by_resource.get(claim.resource_name, []), vm.placement)))
            for claim in vm.claims
        )

    def _of_pod(self, pod: SharedPod) -> Charge:
        accepting = [key for key in self._inventory.groups if self._accepts(pod, key)]
        keys = self._reached(accepting, pod.placement, shared=True)
        return charge_of_slices(pod.asks, ((_pool(key), self._sizes[key]) for key in keys))

    def _accepts(self, pod: SharedPod, key: GroupKey) -> bool:
        """Whether the pod accepts a GPU of the group."""
        nodes = self._inventory.groups[key].nodes.values()
        return accepts_one_of(
            key[1],
            (gpu.uuid for at in nodes for gpu in at.node.gpus if (gpu.pool, gpu.model) == key),
            models=pod.models,
            excluded_models=pod.excluded_models,
            allowed_uuids=pod.allowed_uuids,
            excluded_uuids=pod.excluded_uuids,
        )

    def _reached(self, keys: list[GroupKey], placement: Placement, *, shared: bool = False) -> list[GroupKey]:
        def admits(key: GroupKey) -> bool:
            if self._filter is None:
                self._filter = NodeFilter(self._snapshot)
            return bool(self._filter.admitted(placement, self._inventory.groups[key].nodes, shared=shared))

        return reached(keys, _pool, admits)


def _pool(key: GroupKey) -> PoolName:
    return PoolName(key[0])


def _of_bound(vm: Vm, node: Node) -> Charge:
    """What the agent reported, and for what it did not yet, every pool of such GPUs there."""
    charge: Counter[PoolName] = Counter()
    missing = Counter({claim.resource_name: claim.count for claim in vm.claims})
    for name, address in vm.devices:
        gpu: Gpu | None = node.gpu(PciAddress(address)) if name == node.name else None
        if gpu is not None and gpu.pool is not None:
            charge[gpu.pool] += 1
            missing[gpu.resource_name] -= 1
    for resource, gpus in missing.items():
        if gpus > 0:
            charge.update(
                {
                    pool: gpus
                    for g in node.gpus
                    if g.resource_name == resource and (pool := g.pool) is not None
                }
            )
    return charge
