"""Who of those that wait is within the quota of the namespace, and whose turn it is, VMs and pods together.

Where a pool names weights, the next is the namespace that holds least for its weight, and within a namespace who has
waited longest. A higher priority goes before both. Nobody loses what he has: shares decide about GPUs that fall free.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace

from poolmgr.domain.demand import Gate, SharedPod, Vm
from poolmgr.domain.fleet import Quota
from poolmgr.domain.identifiers import WorkloadUid
from poolmgr.domain.occupancy import unbound_pods, unbound_vms
from poolmgr.domain.plan import QuotaUse, Verdict
from poolmgr.domain.quota import quota_verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.charges import Charges, Share, Workload
from poolmgr.planner.inventory.inventory import Inventory

LEAST_WEIGHT = 1e-6
"""In place of a weight of 0."""


class Quotas:
    """What namespaces hold, and what becomes of each that waits. Nothing is worked out where no pool has quotas."""

    def __init__(self, snapshot: ClusterSnapshot, inventory: Inventory) -> None:
        self._snapshot = snapshot
        self._pools = {pool.name: pool for pool in snapshot.pools}
        self._quotas: dict[Share, Quota] = {}
        self._any = any(pool.quotas for pool in snapshot.pools)
        self._used: dict[Share, float] = {}
        self._waiting: dict[Share, float] = {}
        self._turn: dict[WorkloadUid, int] = {}
        self._over: dict[WorkloadUid, Verdict] = {}
        if self._any:
            self._charges = Charges(snapshot, inventory)
            self._used = self._charges.running()
            self._judge()

    @property
    def uses(self) -> tuple[QuotaUse, ...]:
        """For every entry of every pool's quotas."""
        return tuple(
            QuotaUse(
                pool.name,
                quota.namespace,
                quota.max_gpus,
                quota.weight,
                self._used.get((pool.name, quota.namespace), 0.0),
                self._waiting.get((pool.name, quota.namespace), 0.0),
            )
            for pool in self._snapshot.pools
            for quota in pool.quotas
        )

    def applied(self) -> ClusterSnapshot:
        """The snapshot with those marked that are over the quota of their namespace; the same one where none is."""
        over = self._over
        if not over:
            return self._snapshot
        return replace(
            self._snapshot,
            vms=tuple(
                replace(v, servable=over[v.uid]) if v.uid in over and v.servable else v
                for v in self._snapshot.vms
            ),
            pods=tuple(
                replace(p, servable=over[p.uid]) if p.uid in over and p.servable else p
                for p in self._snapshot.pods
            ),
        )

    def admits(self, workload: Workload) -> bool:
        """Whether one behind our gate may be admitted, as far as quotas are asked."""
        return workload.uid not in self._over

    def turn(self, workload: Workload) -> int:
        """The place of one that waits in the order of all."""
        return self._turn.get(workload.uid, 0)

    def is_weighed(self, workload: Workload) -> bool:
        """Whether it may get a GPU of a pool where it matters who is next."""
        return self._any and any(self._pools[pool].weighted for pool in self._charges.of_waiting(workload))

    def in_turn(self, waiting: list[Vm]) -> list[Vm]:
        """`waiting` in the order in which they are served; as it is where no pool has quotas."""
        return sorted(waiting, key=lambda vm: self._turn.get(vm.uid, 0)) if self._any else waiting

    def _judge(self) -> None:
        """Who is admitted already comes first and counts whatever a quota says of him: he may run any moment."""
        waiting: list[Workload] = list(unbound_vms(self._snapshot.vms))
        waiting += [p for p in unbound_pods(self._snapshot.pods) if not p.slices and _asks_for_ours(p)]
        admitted = self._in_turn(w for w in waiting if w.admitted)
        held_back = self._in_turn(w for w in waiting if not w.admitted)
        promised = dict(self._used)
        for workload in (*admitted, *held_back):
            self._turn[workload.uid] = len(self._turn)
            charge = self._charges.of_waiting(workload)
            over = self._over_quota(workload, promised)
            if over is not None:
                self._over[workload.uid] = over
            # Whoever is neither servable nor behind our gate is not about to be admitted.
            coming = over is None and (workload.servable.ok or workload.gate is Gate.OURS)
            for pool, gpus in charge.items():
                share = (pool, workload.namespace)
                counted = self._used if workload.admitted else self._waiting
                counted[share] = counted.get(share, 0.0) + gpus
                if workload.admitted or coming:
                    promised[share] = promised.get(share, 0.0) + gpus

    def _over_quota(self, workload: Workload, used: Mapping[Share, float]) -> Verdict | None:
        """What the first pool says that may not give it more; None where all may."""
        for pool, gpus in self._charges.of_waiting(workload).items():
            share = (pool, workload.namespace)
            verdict = quota_verdict(self._pools[pool], self._quota(share), used.get(share, 0.0), gpus)
            if not verdict:
                return verdict
        return None

    def _in_turn(self, waiting: Iterable[Workload]) -> list[Workload]:
        """One line for each namespace; the first of the line that ranks first is next."""
        lines: dict[str, deque[Workload]] = {}
        for workload in sorted(waiting, key=lambda w: (-w.priority, _since(w), w.uid)):
            lines.setdefault(workload.namespace, deque()).append(workload)
        promised: dict[Share, float] = {}
        heads = [(self._rank(line[0], promised), namespace) for namespace, line in lines.items()]
        heapq.heapify(heads)
        order: list[Workload] = []
        while heads:
            namespace = heads[0][1]
            workload = lines[namespace].popleft()
            order.append(workload)
            for pool, gpus in self._charges.of_waiting(workload).items():
                promised[pool, namespace] = promised.get((pool, namespace), 0.0) + gpus
            if lines[namespace]:
                heapq.heapreplace(heads, (self._rank(lines[namespace][0], promised), namespace))
            else:
                heapq.heappop(heads)
        return order

    def _rank(self, workload: Workload, promised: Mapping[Share, float]) -> tuple[int, float, float, str]:
        """Lowest first. The pool decides of which its namespace would hold most for its weight."""
        most = 0.0
        for name, gpus in self._charges.of_waiting(workload).items():
            pool, share = self._pools[name], (name, workload.namespace)
            if pool.quotas:
                held = self._used.get(share, 0.0) + promised.get(share, 0.0) + gpus
                most = max(most, held / max(self._quota(share).weight, LEAST_WEIGHT))
        return (-workload.priority, most, _since(workload), workload.uid)

    def _quota(self, share: Share) -> Quota:
        known = self._quotas.get(share)
        if known is None:
            known = self._quotas[share] = self._pools[share[0]].quota(share[1])
        return known


def _asks_for_ours(pod: SharedPod) -> bool:
    return not pod.terminating and pod.servable.reason is not Reason.UNSERVED_RESOURCE


def _since(workload: Workload) -> float:
    return workload.waiting_since or workload.created_at
