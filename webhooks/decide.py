"""Which handler answers which path, and what a handler that breaks means: let the request pass, loudly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from poolmgr.domain.reasons import Reason
from poolmgr.wire.hami.config import HamiConfig
from webhooks.fleet_view import FleetFeed, FleetView
from webhooks.gpu_pool import decide_gpu_pool
from webhooks.gpu_reservation import decide_gpu_reservation
from webhooks.pod import decide_pod
from webhooks.pod_review import decode_pod_review
from webhooks.review import AdmissionRequest, Answer, admitted, decode_review
from webhooks.virtual_machine import UnknownResources, decide_virtual_machine

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Policy:
    """What an administrator sets about admission."""

    hami: HamiConfig = field(default_factory=HamiConfig)
    unknown: UnknownResources = UnknownResources.REFUSE
    gates: bool = True
    """Whether pods may be made to wait for the manager's word."""


Handler = Callable[[AdmissionRequest, FleetView | None], Answer]


def read(kind: str, body: bytes) -> AdmissionRequest:
    """The review in `body`, as far as the handler for `kind` looks at it. Raises Rejected where it is none."""
    return decode_pod_review(body) if kind == "pods" else decode_review(body)


def handlers(policy: Policy, now: Callable[[], float]) -> Mapping[str, Handler]:
    """By the last part of the path that the webhook configurations name."""

    def virtual_machine(request: AdmissionRequest, fleet: FleetView | None) -> Answer:
        return decide_virtual_machine(request, fleet, policy.hami, policy.unknown)

    return {
        "pods": lambda request, fleet: decide_pod(
            request, fleet, policy.hami, policy.unknown, gates=policy.gates
        ),
        "virtualmachines": virtual_machine,
        "virtualmachineinstances": virtual_machine,
        "gpupools": decide_gpu_pool,
        "gpureservations": lambda request, fleet: decide_gpu_reservation(
            request, fleet, policy.unknown, now()
        ),
    }


def decide(kind: str, handler: Handler, request: AdmissionRequest, feed: FleetFeed) -> Answer:
    """Fails open: a defect of ours must not keep a cluster from working. It is logged with the request's
    uid, counted as `broken`, and the user is told that nothing was checked."""
    try:
        return handler(request, feed.current())
    except Exception:
        log.exception("admission_decision_broken", kind=kind, uid=request.uid, namespace=request.namespace)
        return admitted(
            Reason.INVARIANT_BROKEN,
            warnings=(
                "poolmgr could not check this request and admitted it unchecked; the webhook's log says why",
            ),
        )
