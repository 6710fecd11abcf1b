"""poolmgr.io/v1alpha1 GPUPool. The chart's CRD describes every field."""

import msgspec

from poolmgr.domain.fleet import (
    EvictionRule,
    Granularity,
    IdleVmAction,
    IdleVmPolicy,
    OverQuota,
    Pool,
    Quota,
    RebalanceMode,
    SideLimits,
)
from poolmgr.domain.identifiers import PoolName
from poolmgr.wire.enums import known
from poolmgr.wire.instants import unix_or_zero
from poolmgr.wire.meta import Condition, ObjectMeta, Wire
from poolmgr.wire.workloads import LabelSelector


class Side(Wire, frozen=True):
    min: int = 0
    max: int | None = None
    headroom: int = 0


class Rebalance(Wire, frozen=True):
    mode: str = "Automatic"
    granularity: str = "GPU"
    cooldown_seconds: int = 300
    max_in_flight: int = 1
    eviction: str = "Never"
    drain_timeout_seconds: int = 600


class IdleVm(Wire, frozen=True):
    action: str = "Ignore"
    idle_after_seconds: int = 3600
    notice_seconds: int = 900


class QuotaEntry(Wire, frozen=True):
    namespace: str
    max_gpus: int | float | None = msgspec.field(name="maxGPUs", default=None)
    weight: int | float = 1


class PoolSpec(Wire, frozen=True):
    models: tuple[str, ...] = ()
    node_selector: LabelSelector = LabelSelector()
    passthrough: Side = Side()
    shared: Side = Side()
    rebalance: Rebalance = Rebalance()
    idle_vm: IdleVm = msgspec.field(name="idleVM", default=IdleVm())
    quotas: tuple[QuotaEntry, ...] = ()
    over_quota: str = "Wait"


class QuotaStatus(Wire, frozen=True, omit_defaults=False):
    namespace: str
    max_gpus: int | float | None = msgspec.field(name="maxGPUs", default=None)
    used: int | float = 0
    waiting: int | float = 0


class PoolStatus(Wire, frozen=True, omit_defaults=False):
    observed_generation: int = 0
    gpus: int = 0
    passthrough: int = 0
    passthrough_used: int = 0
    shared: int = 0
    shared_used: int = 0
    moving: int = 0
    trouble: int = 0
    waiting_vms: int = msgspec.field(name="waitingVMs", default=0)
    waiting_pods: int = 0
    quotas: tuple[QuotaStatus, ...] = ()
    resource_names: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()


class GpuPool(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: PoolSpec = PoolSpec()
    status: PoolStatus = PoolStatus()


def pool_from(pool: GpuPool) -> Pool:
    """The CRD's schema has refused what is out of range; a value that this release does not know (written
    under a newer schema) becomes the choice that does least. Of one that says what moves, or with what, that is to move
    nothing: its owner did not allow GPUs to move one by one."""
    spec, rebalance = pool.spec, pool.spec.rebalance
    complaint = _complaint_of(rebalance)
    return Pool(
        name=PoolName(pool.metadata.name),
        models=spec.models,
        node_labels=tuple(sorted(spec.node_selector.match_labels.items())),
        passthrough=_side(spec.passthrough),
        shared=_side(spec.shared),
        rebalance=RebalanceMode.OFF if complaint else RebalanceMode(rebalance.mode),
        granularity=known(Granularity, rebalance.granularity, Granularity.GPU),
        cooldown_seconds=rebalance.cooldown_seconds,
        max_in_flight=rebalance.max_in_flight,
        eviction=known(EvictionRule, rebalance.eviction, EvictionRule.NEVER),
        drain_timeout_seconds=rebalance.drain_timeout_seconds,
        idle_vm=IdleVmPolicy(
            action=known(IdleVmAction, spec.idle_vm.action, IdleVmAction.IGNORE),
            idle_after_seconds=spec.idle_vm.idle_after_seconds,
            notice_seconds=spec.idle_vm.notice_seconds,
        ),
        quotas=tuple(
            Quota(q.namespace, float(q.max_gpus) if q.max_gpus is not None else None, float(q.weight))
            for q in spec.quotas
        ),
        over_quota=known(OverQuota, spec.over_quota, OverQuota.WAIT),
        complaint=complaint,
        generation=pool.metadata.generation,
        created_at=unix_or_zero(pool.metadata.creation_timestamp),
    )


def _complaint_of(rebalance: Rebalance) -> str:
    said = (("mode", rebalance.mode, RebalanceMode), ("granularity", rebalance.granularity, Granularity))
    for field, word, words in said:
        if word not in tuple(words):
            return (
                f"rebalance.{field} is {word!r}, which this release does not know: no GPU of this pool moves until "
                "poolmgr is updated"
            )
    return ""


def _side(side: Side) -> SideLimits:
    return SideLimits(min=side.min, max=side.max, headroom=side.headroom)
