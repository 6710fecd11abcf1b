"""What is reserved is kept from others at admission: machines wait behind the gate, containers are kept off the cards."""

from typing import Any

import pytest

from poolmgr.domain.reasons import Reason
from poolmgr.wire.annotations import ADMISSION_GATE, EXCLUDED_BY_US
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.hami.names import NOUSE_UUID
from tests.unit.webhooks.objects import (
    A10_RESOURCE,
    T4,
    T4_RESOURCE,
    Object,
    applied,
    container,
    device,
    fleet,
    gpu_node,
    gpu_pool,
    launcher,
    pod,
    request,
    vm,
    vmi,
)
from webhooks.fleet_view import FleetView
from webhooks.pod import decide_pod
from webhooks.review import Answer
from webhooks.virtual_machine import UnknownResources, decide_virtual_machine


def course(mode: str = "Passthrough", holders: Object | None = None, **status: Any) -> Object:
    return {
        "metadata": {"name": "course", "namespace": "uni", "creationTimestamp": "2026-11-01T00:00:00Z"},
        "spec": {
            "model": "nvidia a10",
            "gpus": 1,
            "mode": mode,
            "start": "2026-11-23T08:00:00Z",
            "end": "2026-11-23T10:00:00Z",
            "holders": holders or {},
        },
        "status": status,
    }


def view(*reservations: Object, free: int = 2) -> FleetView:
    """`free` A10 that are idle in passthrough, one that is shared, and a T4."""
    a10 = [device(n, mode="Passthrough") for n in range(free)]
    other = device(9, model=T4, resourceName=T4_RESOURCE)
    return fleet(gpu_node("n1", *a10, device(8), other), pools=(gpu_pool(),), reservations=reservations)


def stored(new: Object, found: FleetView) -> Object:
    return applied(decide_pod(request(new), found, HamiConfig()).patch, new)


def gates(new: Object, found: FleetView) -> list[str]:
    return [gate["name"] for gate in stored(new, found)["spec"].get("schedulingGates", ())]


@pytest.mark.parametrize(
    ("reservation", "resource", "gated"),
    [
        (course(), A10_RESOURCE, True),
        (course(phase="Active"), A10_RESOURCE, True),
        (course(), T4_RESOURCE, False),
        (course("Shared"), A10_RESOURCE, False),
        (course(phase="Expired"), A10_RESOURCE, False),
        (course(phase="Refused"), A10_RESOURCE, False),
    ],
    ids=["promised", "open", "another model", "for containers", "over", "not promised"],
)
def test_launchers_wait_for_the_managers_word_where_such_gpus_are_promised(
    reservation: Object, resource: str, gated: bool
) -> None:
    assert gates(launcher(resource), view(reservation)) == [ADMISSION_GATE] * gated
    assert gates(launcher(resource, namespace="uni"), view(reservation)) == [ADMISSION_GATE] * gated


def test_containers_do_not_wait_for_what_machines_were_promised() -> None:
    assert gates(pod(container(gpu=1)), view(course())) == []


CARDS = [{"node": "n1", "uuid": "GPU-n1-8"}]


def test_containers_of_others_are_kept_off_the_cards_of_a_reservation_and_holders_are_not() -> None:
    found = view(course("Shared", cards=CARDS))
    annotations = stored(pod(container(gpu=1)), found)["metadata"]["annotations"]
    assert annotations == {NOUSE_UUID: "GPU-n1-8", EXCLUDED_BY_US: "GPU-n1-8"}
    holder = pod(container(gpu=1))
    holder["metadata"]["namespace"] = "uni"
    assert "annotations" not in stored(holder, found)["metadata"]


def test_holders_are_known_by_label_and_by_claim() -> None:
    found = view(
        course("Shared", {"namespaces": ["ml"], "matchLabels": {"who": "me"}, "byClaim": True}, cards=CARDS)
    )
    both = pod(container(gpu=1), annotations={"poolmgr.io/reservation": "uni/course"}, labels={"who": "me"})
    assert EXCLUDED_BY_US not in stored(both, found)["metadata"]["annotations"]
    for one in (pod(container(gpu=1), labels={"who": "me"}), pod(container(gpu=1))):
        assert stored(one, found)["metadata"]["annotations"][EXCLUDED_BY_US] == "GPU-n1-8"


def of_machine(new: Object, found: FleetView) -> Answer:
    return decide_virtual_machine(request(new), found, HamiConfig(), UnknownResources.REFUSE)


def test_a_machine_is_told_that_what_is_free_is_kept_for_others() -> None:
    answer = of_machine(vm(A10_RESOURCE), view(course(kept=2)))
    assert (answer.verdict.ok, answer.verdict.reason) == (True, Reason.WILL_WAIT)
    assert answer.warnings[0] == (
        "the 2 free NVIDIA A10 are reserved by uni/course: the machine waits until others are free or the reservation ends"
    )
    assert of_machine(vm(A10_RESOURCE), view(course(kept=1))).warnings == ()
    assert of_machine(vm(A10_RESOURCE), view(course(kept=0))).warnings == ()


def test_a_holder_is_told_nothing_where_what_is_free_is_kept_for_it() -> None:
    for new in (vm(A10_RESOURCE), vmi(A10_RESOURCE)):
        new["metadata"]["namespace"] = "uni"
        assert of_machine(new, view(course(kept=2))).warnings == ()
    by_claim = view(course(holders={"namespaces": ["desktops"], "byClaim": True}, kept=2))
    claiming = vmi(A10_RESOURCE)
    claiming["metadata"]["annotations"] = {"poolmgr.io/reservation": "uni/course"}
    assert of_machine(claiming, by_claim).warnings == ()
    assert of_machine(vmi(A10_RESOURCE), by_claim).warnings != ()
