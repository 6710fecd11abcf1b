"""GPUPool and GPUReservation to the domain."""

from enum import StrEnum
from typing import TypeVar

from poolmgr.domain.demand import Reservation
from poolmgr.domain.fleet import (
    EvictionRule,
    Granularity,
    IdleVmAction,
    IdleVmPolicy,
    Pool,
    Quota,
    RebalanceMode,
    SideLimits,
)
from poolmgr.domain.identifiers import PoolName
from poolmgr.wire import GpuPool, GpuReservation
from poolmgr.wire.instants import unix_or_zero
from poolmgr.wire.pools import Side

E = TypeVar("E", bound=StrEnum)


def pool_from(pool: GpuPool) -> Pool:
    """The CRD's schema has refused what is out of range; a value that this manager does not know (written
    under a newer schema) becomes the choice that does least."""
    spec, rebalance = pool.spec, pool.spec.rebalance
    return Pool(
        name=PoolName(pool.metadata.name),
        models=spec.models,
        node_labels=tuple(sorted(spec.node_selector.match_labels.items())),
        passthrough=_side(spec.passthrough),
        shared=_side(spec.shared),
        rebalance=_known(RebalanceMode, rebalance.mode, RebalanceMode.OFF),
        granularity=_known(Granularity, rebalance.granularity, Granularity.GPU),
        cooldown_seconds=rebalance.cooldown_seconds,
        max_in_flight=rebalance.max_in_flight,
        eviction=_known(EvictionRule, rebalance.eviction, EvictionRule.NEVER),
        drain_timeout_seconds=rebalance.drain_timeout_seconds,
        idle_vm=IdleVmPolicy(
            action=_known(IdleVmAction, spec.idle_vm.action, IdleVmAction.IGNORE),
            idle_after_seconds=spec.idle_vm.idle_after_seconds,
            notice_seconds=spec.idle_vm.notice_seconds,
        ),
        quotas=tuple(
            Quota(q.namespace, float(q.max_gpus) if q.max_gpus is not None else None, float(q.weight))
            for q in spec.quotas
        ),
        generation=pool.metadata.generation,
        created_at=unix_or_zero(pool.metadata.creation_timestamp),
    )


def reservation_from(reservation: GpuReservation) -> Reservation:
    return Reservation(
        namespace=reservation.metadata.namespace,
        name=reservation.metadata.name,
        model=reservation.spec.model,
        gpus=reservation.spec.gpus,
        mode=reservation.spec.mode,
        starts_at=unix_or_zero(reservation.spec.start),
        ends_at=unix_or_zero(reservation.spec.end),
    )


def _side(side: Side) -> SideLimits:
    return SideLimits(min=side.min, max=side.max, headroom=side.headroom)


def _known(kind: type[E], value: str, otherwise: E) -> E:
    try:
        return kind(value)
    except ValueError:
        return otherwise
