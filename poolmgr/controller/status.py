"""What a pool's status says: the census' numbers for columns, one reason and one sentence for people. Pure."""

from collections.abc import Mapping

from poolmgr.controller.interfaces import PoolStatus
from poolmgr.domain.census import Census, Count
from poolmgr.domain.fleet import Node, Pool
from poolmgr.domain.identifiers import PoolName
from poolmgr.domain.membership import Overlap, overlaps
from poolmgr.domain.plan import Plan, QuotaUse, SubjectKind
from poolmgr.domain.reasons import Reason


def pool_statuses(census: Census, plan: Plan | None) -> Mapping[PoolName, PoolStatus]:
    """The status of every pool. `plan` is the last decision, for the sentence on who waits."""
    snapshot = census.snapshot
    counts = {pool.name: census.pool(pool.name) for pool in snapshot.pools}
    troubles: dict[PoolName | None, str] = {}
    for use in census.trouble:
        detail = use.trouble[1] or use.gpu.phase.value
        troubles.setdefault(use.gpu.pool, f"{use.gpu.pci_address} on {use.gpu.node}: {detail}")
    silent: dict[PoolName | None, list[Node]] = {}
    for part in census.nodes:
        if part.node.agent.silent:
            for pool in part.pools:
                silent.setdefault(pool, []).append(part.node)
    losses: dict[PoolName, Overlap] = {}
    for overlap in overlaps(snapshot.pools, snapshot.nodes):
        losses.setdefault(overlap.loser, overlap)
    return {
        pool.name: _status(
            pool,
            counts[pool.name],
            _sentence(
                pool,
                counts[pool.name],
                losses.get(pool.name),
                troubles.get(pool.name, ""),
                silent.get(pool.name, []),
                plan,
            ),
            plan.quota_uses if plan else (),
            census.resource_names(pool.name),
        )
        for pool in snapshot.pools
    }


def _status(
    pool: Pool,
    count: Count,
    said: tuple[Reason, str],
    uses: tuple[QuotaUse, ...],
    resource_names: tuple[str, ...],
) -> PoolStatus:
    return PoolStatus(
        observed_generation=pool.generation,
        gpus=count.gpus,
        passthrough=count.passthrough,
        passthrough_used=count.passthrough_used,
        shared=count.shared,
        shared_used=count.shared_used,
        moving=count.moving,
        trouble=count.trouble,
        waiting_vms=count.waiting_vms,
        waiting_pods=count.waiting_pods,
        reason=said[0],
        message=said[1],
        quotas=tuple(use for use in uses if use.pool == pool.name),
        resource_names=resource_names,
    )


def _sentence(
    pool: Pool, count: Count, loss: Overlap | None, trouble: str, silent: list[Node], plan: Plan | None
) -> tuple[Reason, str]:
    """The most urgent thing first."""
    if loss is not None:
        return (
            Reason.POOL_OVERLAP,
            f"{loss.gpus} GPU(s) that this pool selects belong to the older pool {loss.winner}; narrow the "
            "models or the node selector of one of them",
        )
    if pool.complaint:
        return Reason.INVALID_REQUEST, pool.complaint
    if not count.gpus:
        return Reason.NOT_IN_POOL, "no GPU of this cluster matches the pool's models and node selector"
    if trouble:
        return Reason.GPU_UNHEALTHY, f"{count.trouble} GPU(s) need attention; first {trouble}"
    if silent:
        first = silent[0].agent.verdict(silent[0].name).message
        return (
            Reason.AGENT_SILENT,
            f"the agent is silent on {len(silent)} node(s) of this pool; first {first}",
        )
    if count.moving:
        return Reason.GPU_MOVING, f"{count.moving} GPU(s) are moving"
    if count.waiting_vms or count.waiting_pods:
        return _waiting(pool, count, plan)
    recommended = [m for m in plan.moves if m.recommended and m.pool == pool.name] if plan else []
    if recommended:
        return (
            Reason.RECOMMEND_ONLY,
            f"{len(recommended)} move(s) are recommended but not made: the pool is in Recommend mode; first: "
            f"{recommended[0].message}",
        )
    return Reason.IN_PLACE, "every GPU is where it is needed; no VM or pod waits"


def _waiting(pool: Pool, count: Count, plan: Plan | None) -> tuple[Reason, str]:
    kinds = [SubjectKind.VM, SubjectKind.POD] if count.waiting_vms else [SubjectKind.POD]
    refusals = plan.refusals if plan else ()
    first = next((r for kind in kinds for r in refusals if r.subject.kind is kind), None)
    head = (
        f"{count.waiting_vms} VM(s) and {count.waiting_pods} pod(s) are waiting for GPUs of pool {pool.name}"
    )
    if first is None:
        return Reason.NO_CANDIDATE, head
    return first.reason, f"{head}; first {first.subject.namespace}/{first.subject.name}: {first.message}"
