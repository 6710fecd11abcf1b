"""A pod that asks HAMi for slices, as the planner sees it."""

from sys import intern

from poolmgr.domain.demand import SharedPod, Slice
from poolmgr.domain.identifiers import GpuUuid, NodeName, WorkloadUid
from poolmgr.wire import Pod
from poolmgr.wire.hami import pods as pod_annotations
from poolmgr.wire.hami.asks import ask_of
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.instants import unix_or_zero
from poolmgr.wire.text import listed

WHOLE_CARD_PERCENT = 100


def shared_pod_of(
    pod: Pod, config: HamiConfig, schedulers: frozenset[str], cpu_milli: int, memory_mib: int
) -> SharedPod | None:
    """None where no container asks for a slice, or where the pod waits for a scheduler that is not HAMi's or
    is held back by a scheduling gate: such demand no move of ours can serve yet.

    A pod may hold slices before it is bound: HAMi assigns at Filter. `evictable` is True here: only the
    disruption budgets of the namespace, which a pod does not know, can say otherwise.
    """
    containers = (*pod.spec.containers, *pod.spec.init_containers)
    asks = [ask_of(c.resources.requests, c.resources.limits, config) for c in containers]
    asking = [ask for ask in asks if ask is not None]
    if not asking:
        return None
    meta, spec, annotations = pod.metadata, pod.spec, pod.metadata.annotations
    held = pod_annotations.slices(annotations.allocated, annotations.mig_allocations)
    if not spec.node_name and not held and (spec.scheduling_gates or spec.scheduler_name not in schedulers):
        return None
    # Containers of one pod may share a card, so the fewest cards that can serve it is the largest count;
    # what they want together is spread over these.
    cards = max(ask.cards for ask in asking)
    created_at = unix_or_zero(meta.creation_timestamp)
    node = intern(spec.node_name) if spec.node_name else None
    return SharedPod(
        uid=WorkloadUid(meta.uid),
        namespace=intern(meta.namespace),
        name=meta.name,
        gpus=cards,
        memory_mib=_per_card(sum(a.cards * a.memory_mib for a in asking), cards),
        memory_percent=min(
            WHOLE_CARD_PERCENT, _per_card(sum(a.cards * a.memory_percent for a in asking), cards)
        ),
        cores_percent=min(
            WHOLE_CARD_PERCENT, _per_card(sum(a.cards * a.cores_percent for a in asking), cards)
        ),
        node=NodeName(node) if node else None,
        slices=tuple(Slice(GpuUuid(intern(s.uuid)), s.memory_mib, s.cores_percent) for s in held),
        created_at=created_at,
        started_at=unix_or_zero(pod.status.start_time) or None,
        waiting_since=None if node else _waiting_since(pod) or created_at,
        models=listed(annotations.use_type),
        excluded_models=listed(annotations.nouse_type),
        allowed_uuids=tuple(map(GpuUuid, listed(annotations.use_uuid))),
        # What our webhook excluded is taken off again (`exclusions`); the planner is to see the user's own.
        excluded_uuids=_users_own(annotations.nouse_uuid, annotations.excluded_by_us),
        best_effort=annotations.best_effort == "true",
        evictable=True,
        priority=spec.priority,
        terminating=meta.deletion_timestamp is not None,
        cpu_milli=cpu_milli,
        memory_request_mib=memory_mib,
    )


def _per_card(total: int, cards: int) -> int:
    return -(-total // cards)


def _users_own(excluded: str, by_us: str) -> tuple[GpuUuid, ...]:
    ours = frozenset(listed(by_us))
    return tuple(GpuUuid(name) for name in listed(excluded) if name not in ours)


def _waiting_since(pod: Pod) -> float:
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.status == "False":
            return unix_or_zero(condition.last_transition_time)
    return 0.0
