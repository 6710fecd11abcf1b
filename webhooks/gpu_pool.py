"""GPUPools: refuse one that claims another pool's GPUs; warn of limits that the fleet cannot meet and of
settings that have no effect together."""

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from poolmgr.domain.fleet import EvictionRule, Granularity, IdleVmAction, Pool, RebalanceMode
from poolmgr.domain.identifiers import NodeName, PoolName
from poolmgr.domain.reasons import Reason
from poolmgr.wire.gpu_pools import GpuPool, pool_from
from webhooks.fleet_view import FleetView
from webhooks.review import AdmissionRequest, Answer, admitted, refused
from webhooks.wording import gpus_word, listing


def decide_gpu_pool(request: AdmissionRequest, fleet: FleetView | None) -> Answer:
    """The answer for a GPUPool being created or changed."""
    object_ = request.object or {}
    if (object_.get("metadata") or {}).get("deletionTimestamp"):
        return admitted()
    pool = pool_from(msgspec.convert(object_, GpuPool))
    before = pool_from(msgspec.convert(request.old_object, GpuPool)) if request.old_object else None
    if fleet is None:
        return admitted(Reason.FLEET_UNKNOWN, warnings=tuple(_idle_settings(pool)))
    others = tuple(other for other in fleet.pools if other.name != pool.name)
    same_reach = before is not None and (before.models, before.node_labels) == (pool.models, pool.node_labels)
    claimed = _claimed_twice(pool, others, fleet)
    if claimed and not same_reach:
        # An overlap that labels or new nodes brought about later must not lock its owner out of a repair.
        name, nodes = next(iter(claimed.items()))
        return refused(
            Reason.POOL_OVERLAP,
            f"{sum(nodes.values())} {gpus_word(sum(nodes.values()))} on {listing(sorted(nodes))} would belong to "
            f"this pool and to GPUPool {name}. A GPU belongs to exactly one pool: narrow spec.models or "
            f"spec.nodeSelector.matchLabels of one of them.",
        )
    warnings = [*_overlaps_to_come(pool, others, claimed), *_limits(pool, fleet), *_idle_settings(pool)]
    return admitted(warnings=tuple(warnings))


def _claimed_twice(
    pool: Pool, others: tuple[Pool, ...], fleet: FleetView
) -> dict[PoolName, dict[NodeName, int]]:
    """Other pools that reach the same GPUs → nodes → how many."""
    found: dict[PoolName, dict[NodeName, int]] = defaultdict(lambda: defaultdict(int))
    candidates = tuple(other for other in others if not _apart(pool, other))
    if not candidates:
        return found
    for node, models in fleet.census.items():
        labels = fleet.node_labels.get(node, {})
        for model, number in models.items():
            if pool.takes(model, labels):
                for other in candidates:
                    if other.takes(model, labels):
                        found[other.name][node] += number
    return found


def _apart(one: Pool, other: Pool) -> bool:
    """True when no GPU could ever be in reach of both."""
    models = {m.casefold() for m in one.models} & {m.casefold() for m in other.models}
    if one.models and other.models and not models:
        return True
    theirs = dict(other.node_labels)
    return any(theirs.get(key, value) != value for key, value in one.node_labels)


def _overlaps_to_come(
    pool: Pool, others: tuple[Pool, ...], claimed: dict[PoolName, dict[NodeName, int]]
) -> Iterator[str]:
    for other in others:
        if other.name in claimed:
            yield f"this pool and GPUPool {other.name} both select some GPUs: they belong to the older pool"
        elif not _apart(pool, other):
            yield (
                f"a node with the labels of both this pool and GPUPool {other.name} would be selected by both; "
                f"its GPUs would belong to the older pool"
            )


def _limits(pool: Pool, fleet: FleetView) -> Iterator[str]:
    on_nodes = [
        sum(number for model, number in models.items() if pool.takes(model, fleet.node_labels.get(node, {})))
        for node, models in fleet.census.items()
    ]
    gpus = sum(on_nodes)
    if not gpus:
        if not fleet.empty:
            yield f"this pool selects no GPU of this cluster, which has {listing(fleet.model_names)}"
        return
    least = pool.passthrough.min + pool.shared.min
    if least > gpus:
        yield f"passthrough.min and shared.min add up to {least}, but the pool has {gpus} {gpus_word(gpus)}"
    elif least == gpus and pool.rebalance is not RebalanceMode.OFF:
        yield f"passthrough.min and shared.min add up to all {gpus} GPUs of the pool: once both are met, no GPU moves for demand"
    if pool.passthrough.max is not None and pool.shared.max is not None:
        most = pool.passthrough.max + pool.shared.max
        if most < gpus:
            yield (
                f"passthrough.max and shared.max add up to {most}, but the pool has {gpus} GPUs: "
                f"{gpus - most} will remain above a limit"
            )
    for side, limits in (("passthrough", pool.passthrough), ("shared", pool.shared)):
        if limits.headroom > gpus:
            yield f"{side}.headroom is {limits.headroom}, but the pool has {gpus} {gpus_word(gpus)}"
    largest = max(on_nodes)
    if pool.granularity is Granularity.NODE and pool.max_in_flight < largest:
        yield (
            f"rebalance.granularity Node moves up to {largest} GPUs at once here, but rebalance.maxInFlight is "
            f"{pool.max_in_flight}: set it to at least {largest}"
        )
    for quota in pool.quotas:
        if quota.max_gpus is not None and quota.max_gpus > gpus:
            yield (
                f"quota of namespace {quota.namespace}: maxGPUs {quota.max_gpus:g} is more than the pool's {gpus}"
            )


def _idle_settings(pool: Pool) -> Iterator[str]:
    if pool.idle_vm.action is IdleVmAction.STOP:
        yield "idleVM.action Stop does not stop virtual machines yet: like Notify, it tells owners, who must stop them themselves"
    if pool.rebalance is RebalanceMode.OFF:
        if pool.passthrough.headroom or pool.shared.headroom:
            yield "headroom has no effect while rebalance.mode is Off"
        if pool.eviction is not EvictionRule.NEVER:
            yield "rebalance.eviction has no effect while rebalance.mode is Off"
