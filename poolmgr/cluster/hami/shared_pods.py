"""A pod that asks HAMi for slices, as the planner sees it."""

from collections import Counter
from dataclasses import replace
from sys import intern

from poolmgr.cluster.observe.gates import foreign_gate, gate_of
from poolmgr.cluster.observe.labels import pairs_of
from poolmgr.cluster.observe.where import where_of
from poolmgr.cluster.trust import may_have_slices
from poolmgr.domain.demand import SERVABLE, CardAsk, SharedPod, Slice
from poolmgr.domain.identifiers import GpuUuid, NodeName, WorkloadUid
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.wire import Pod
from poolmgr.wire.hami import pods as pod_annotations
from poolmgr.wire.hami.asks import asks_of
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.hami.other_accelerators import card_names, other_accelerator
from poolmgr.wire.instants import unix_or_zero
from poolmgr.wire.pod_requests import Request, is_sidecar
from poolmgr.wire.quantities import count
from poolmgr.wire.scheduling import MOST
from poolmgr.wire.text import listed

WHOLE_CARD_PERCENT = 100
OVER_QUOTA = "ResourceQuotaNotFit"
"""HAMi's word where a ResourceQuota of GPU memory or compute is used up (pkg/device/common)."""


def shared_pod_of(
    pod: Pod, config: HamiConfig, schedulers: frozenset[str], request: Request
) -> SharedPod | None:
    """None where no container asks for a slice or for another kind of accelerator, and HAMi has given it none.

    What HAMi has assigned is told by its annotation, whatever its resources are called today and whichever scheduler runs
    the pod. A pod that is bound and has no assignment got its GPUs from another device plugin. A pod that waits for a scheduler that is not HAMi's, is held back by a scheduling gate or asks for what poolmgr does
    not give out is one that no move of ours can serve, and says so (`servable`).

    A pod may hold slices before it is bound: HAMi assigns at Filter. `evictable` is True here: only the
    disruption budgets of the namespace, which a pod does not know, can say otherwise.
    """
    asking = [ask.as_card_ask(init=init) for _, ask, init in asks_of(pod.spec, config)]
    meta, spec, annotations = pod.metadata, pod.spec, pod.metadata.annotations
    every = [*(not is_sidecar(c) for c in spec.init_containers), *(False for _ in spec.containers)]
    held: tuple[Slice, ...] = ()
    if may_have_slices(pod):
        held = pod_annotations.slices(
            annotations.allocated, annotations.mig_allocations, every, [ask.init for ask in asking]
        )
    if not asking and not held:
        return _of_another_kind(pod)
    asking = _without_covered(asking) or [_ask_met_by(held)]
    # Containers of one pod may share a card, so the fewest cards that can serve it is the largest count.
    cards = max(ask.cards for ask in asking)
    beside = [ask for ask in asking if not ask.init] or asking
    created_at = unix_or_zero(meta.creation_timestamp)
    node = intern(spec.node_name) if spec.node_name else None
    return SharedPod(
        uid=WorkloadUid(meta.uid),
        namespace=intern(meta.namespace),
        name=meta.name,
        gpus=cards,
        memory_mib=_per_card(sum(a.cards * a.memory_mib for a in beside), cards),
        memory_percent=min(
            WHOLE_CARD_PERCENT, _per_card(sum(a.cards * a.memory_percent for a in beside), cards)
        ),
        cores_percent=min(
            WHOLE_CARD_PERCENT, _per_card(sum(a.cards * a.cores_percent for a in beside), cards)
        ),
        containers=tuple(asking) if 1 < len(asking) <= MOST else (),
        node=NodeName(node) if node else None,
        slices=tuple(replace(s, uuid=GpuUuid(intern(s.uuid))) for s in held),
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
        cpu_milli=request.cpu_milli,
        memory_request_mib=request.memory_mib,
        placement=where_of(spec, request, frozenset(config.names)),
        servable=SERVABLE if node or held else _obstacle(pod, schedulers),
        gate=gate_of(pod),
        labels=pairs_of(meta.labels),
        reservation=annotations.reservation,
    )


def _ask_met_by(held: tuple[Slice, ...]) -> CardAsk:
    """What a pod must have asked for, by names that HAMi no longer goes by, to have been given this."""
    memory, cores = max(part.memory_mib for part in held), max(part.cores_percent for part in held)
    return CardAsk(len(held), memory, cores_percent=min(cores, WHOLE_CARD_PERCENT))


def _of_another_kind(pod: Pod) -> SharedPod | None:
    """One that waits for an accelerator of another kind, or has one of a device plugin that is not HAMi's."""
    meta, spec = pod.metadata, pod.spec
    asked: Counter[str] = Counter()
    for container in (*spec.init_containers, *spec.containers):
        for name, amount in {**container.resources.requests, **container.resources.limits}.items():
            asked[name] += count(amount) if "/" in name else 0
    found = other_accelerator(name for name, number in asked.items() if number > 0)
    if found is None:
        return None
    name, kind = found
    created_at = unix_or_zero(meta.creation_timestamp)
    return SharedPod(
        uid=WorkloadUid(meta.uid),
        namespace=intern(meta.namespace),
        name=meta.name,
        gpus=asked[name],
        card_names=card_names(name),
        node=NodeName(intern(spec.node_name)) if spec.node_name else None,
        created_at=created_at,
        started_at=unix_or_zero(pod.status.start_time) or None,
        waiting_since=None if spec.node_name else _waiting_since(pod) or created_at,
        terminating=meta.deletion_timestamp is not None,
        servable=Verdict(
            False, Reason.UNSERVED_RESOURCE, f"it asks for {name}, {kind}: poolmgr provides none of these"
        ),
        gate=gate_of(pod),
    )


def _obstacle(pod: Pod, schedulers: frozenset[str]) -> Verdict:
    """What keeps the pod from running, whatever slice is free."""
    spec = pod.spec
    gate = foreign_gate(pod)
    if gate:
        return Verdict(False, Reason.LACKS_SOMETHING_ELSE, f"it is held back by the scheduling gate {gate}")
    if spec.scheduler_name not in schedulers:
        message = f"it waits for the scheduler {spec.scheduler_name}, which is not HAMi's"
        return Verdict(False, Reason.LACKS_SOMETHING_ELSE, message)
    if any(OVER_QUOTA in c.message for c in pod.status.conditions if c.type == "PodScheduled"):
        return Verdict(
            False,
            Reason.QUOTA_EXCEEDED,
            f"the ResourceQuota of namespace {pod.metadata.namespace} leaves it too little GPU memory or compute",
        )
    return SERVABLE


def _without_covered(asks: list[CardAsk]) -> list[CardAsk]:
    """Init containers that need no more than a later one, or one of their own kind, make no difference. Of a pod with more
    than MOST containers they count as one that needs the most of each."""
    if len(asks) > MOST:
        asks = [*(ask for ask in asks if not ask.init), *_most_of([ask for ask in asks if ask.init])]
    decisive = [ask for ask in asks if not ask.init]
    for ask in asks:
        if ask.init and not any(other.covers(ask) for other in decisive):
            decisive.append(ask)
    return decisive


def _most_of(asks: list[CardAsk]) -> list[CardAsk]:
    if not asks:
        return []
    memory, percent = max(a.memory_mib for a in asks), max(a.memory_percent for a in asks)
    if any(not a.memory_mib for a in asks) and any(not a.memory_percent for a in asks):
        memory = percent = 0  # a whole card, or what cannot be compared
    cards, cores = max(a.cards for a in asks), max(a.cores_percent for a in asks)
    return [CardAsk(cards, memory, percent, cores, init=True)]


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
