"""What namespaces hold of a pool, VMs' whole cards and pods' shares counted together: limits, and whose turn it is.

A quota's limit refuses what would exceed it. Its weight orders waiting VMs where a pool names weights: the next
GPU goes to the namespace that holds least for its weight, and within a namespace to who has waited longest. A higher
priority goes before both.
Nobody loses what he has: shares decide about GPUs that fall free.
"""

from collections import deque

from poolmgr.domain.demand import Vm
from poolmgr.domain.fleet import Pool
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.eligibility import Denial
from poolmgr.planner.inventory.inventory import Inventory


class Quotas:
    """Holdings by (pool, namespace), grown as VMs are planned."""

    def __init__(self, snapshot: ClusterSnapshot, inventory: Inventory) -> None:
        self._inventory = inventory
        self._any = any(pool.quotas for pool in snapshot.pools)
        self._held = _held(snapshot) if self._any else {}

    def in_turn(self, waiting: list[Vm]) -> list[Vm]:
        """`waiting` (oldest first) in the order in which they are served."""
        if not self._any:
            return waiting
        lines: dict[str, deque[Vm]] = {}
        for vm in waiting:
            lines.setdefault(vm.namespace, deque()).append(vm)
        promised: dict[str, float] = {}
        order: list[Vm] = []
        while lines:
            namespace = min(lines, key=lambda name: self._rank(lines[name][0], promised.get(name, 0.0)))
            vm = lines[namespace].popleft()
            promised[namespace] = promised.get(namespace, 0.0) + vm.gpus
            order.append(vm)
            if not lines[namespace]:
                del lines[namespace]
        return order

    def _rank(self, vm: Vm, promised: float) -> tuple[int, float, float, str]:
        pool, since = self._pool_of(vm), vm.waiting_since or vm.created_at
        if pool is None or not pool.quotas:
            return (-vm.priority, 0.0, since, vm.uid)
        weight = next((q.weight for q in pool.quotas if q.namespace == vm.namespace), 1.0)
        held = self._held.get((pool.name, vm.namespace), 0.0)
        return (-vm.priority, (held + promised + vm.gpus) / max(weight, 1e-6), since, vm.uid)

    def _pool_of(self, vm: Vm) -> Pool | None:
        keys = self._inventory.groups_by_resource.get(vm.claims[0].resource_name)
        return self._inventory.groups[keys[0]].pool if keys else None

    def denial(self, vm: Vm) -> Denial | None:
        """The namespace's limit in the pool that would serve it; VMs planned before count already."""
        pool = self._pool_of(vm) if self._any else None
        quota = next((q for q in pool.quotas if q.namespace == vm.namespace), None) if pool else None
        if pool is None or quota is None or quota.max_gpus is None:
            return None
        held = self._held.get((pool.name, vm.namespace), 0.0)
        if held + vm.gpus > quota.max_gpus:
            return (
                Reason.QUOTA_EXCEEDED,
                f"namespace {vm.namespace} holds {held:.2g} GPU(s) of pool {pool.name} and may hold "
                f"{quota.max_gpus:g}; {vm.gpus} more would exceed it",
            )
        self._held[(pool.name, vm.namespace)] = held + vm.gpus
        return None


def _held(snapshot: ClusterSnapshot) -> dict[tuple[str, str], float]:
    """(pool, namespace) → GPUs."""
    pool_by_device = {(g.node, g.pci_address): g.pool for n in snapshot.nodes for g in n.gpus}
    by_uuid = {g.uuid: g for n in snapshot.nodes for g in n.gpus if g.uuid}
    held: dict[tuple[str, str], float] = {}
    for vm in snapshot.vms:
        for device in vm.devices:
            pool = pool_by_device.get((device[0], PciAddress(device[1])))
            if pool is not None:
                held[(pool, vm.namespace)] = held.get((pool, vm.namespace), 0.0) + 1
    for pod in snapshot.pods:
        for part in pod.slices:
            gpu = by_uuid.get(part.uuid)
            if gpu is not None and gpu.pool is not None:
                share = max(part.memory_mib / max(gpu.memory_mib, 1), part.cores_percent / 100)
                held[(gpu.pool, pod.namespace)] = held.get((gpu.pool, pod.namespace), 0.0) + share
    return held
