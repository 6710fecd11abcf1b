"""What happens to GPUReservations at admission."""

from typing import Any

import pytest

from poolmgr.domain.reasons import Reason
from poolmgr.wire.instants import from_rfc3339
from tests.unit.webhooks.objects import device, fleet, gpu_node, gpu_pool, request, small_fleet
from webhooks.gpu_reservation import decide_gpu_reservation
from webhooks.review import Answer
from webhooks.virtual_machine import UnknownResources

NOON = from_rfc3339("2026-11-22T12:00:00Z")

TWO_BY_TWO = [gpu_node(n, device(0, n), device(1, n)) for n in ("n1", "n2")]


def reservation(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "course", "namespace": "ml"},
        "spec": {
            "model": "nvidia a10",
            "mode": "Passthrough",
            "gpus": 2,
            "start": "2026-11-23T08:00:00Z",
            "end": "2026-11-23T18:00:00Z",
            **spec,
        },
    }


def decide(new: dict[str, Any], old: dict[str, Any] | None = None, **pool_spec: Any) -> Answer:
    return decide_gpu_reservation(request(new, old), small_fleet(**pool_spec), UnknownResources.REFUSE, NOON)


def test_a_reservation_that_can_be_met_passes() -> None:
    answer = decide(reservation())
    assert (answer.verdict.ok, answer.warnings) == (True, ())


@pytest.mark.parametrize(
    ("spec", "pool_spec", "reason", "sentence"),
    [
        (
            {"model": "NVIDIA H100"},
            {},
            Reason.UNKNOWN_RESOURCE,
            "No GPU of this cluster is a NVIDIA H100. It has: NVIDIA A10.",
        ),
        (
            {"gpus": 5},
            {},
            Reason.AT_MAXIMUM,
            "It requests 5 nvidia a10 in Passthrough, but the pools allow 4 of 4 in that mode; request at most 4.",
        ),
        (
            {"gpus": 2, "mode": "Shared"},
            {"shared": {"max": 1}},
            Reason.AT_MAXIMUM,
            "It requests 2 nvidia a10 in Shared, but the pools allow 1 of 4 in that mode; request at most 1.",
        ),
        (
            {"start": "2026-11-22T08:00:00Z", "end": "2026-11-22T11:59:59Z"},
            {},
            Reason.INVALID_REQUEST,
            "Its last window, from 2026-11-22 08:00 UTC to 2026-11-22 11:59 UTC, is over: specify one in the future.",
        ),
        (
            {"gpus": 2},
            {"quotas": [{"namespace": "ml", "maxGPUs": 1.5}]},
            Reason.QUOTA_EXCEEDED,
            "Namespace ml may have 1.5 nvidia a10; request no more than that.",
        ),
        (
            {"repeat": {"until": "2026-12-01T00:00:00Z", "timeZone": "Mars/Base"}},
            {},
            Reason.INVALID_REQUEST,
            "The reservation has no window: 'Mars/Base' is no time zone of IANA's database, such as Europe/Berlin.",
        ),
    ],
)
def test_refuses_what_can_never_be_met(
    spec: dict[str, Any], pool_spec: dict[str, Any], reason: Reason, sentence: str
) -> None:
    verdict = decide(reservation(**spec), **pool_spec).verdict
    assert (verdict.ok, verdict.reason, verdict.message) == (False, reason, sentence)


def test_warns_when_the_start_is_past() -> None:
    answer = decide(reservation(start="2026-11-22T08:00:00Z"))
    assert answer.warnings == ("start is in the past: the window begins at once",)


def test_an_unchanged_spec_passes_even_after_its_end() -> None:
    over = reservation(start="2026-11-01T08:00:00Z", end="2026-11-02T08:00:00Z")
    assert decide(over, old=over).verdict.ok


def test_mode_of_a_newer_release_passes_unchecked_and_is_told() -> None:
    answer = decide(reservation(mode="Leased", gpus=99))
    assert answer.verdict.ok
    assert "does not know the mode Leased" in answer.warnings[-1]


def other(name: str, start: str, end: str, **over: Any) -> dict[str, Any]:
    """A reservation that is there already."""
    found = reservation(gpus=3, start=start, end=end)
    found["metadata"] = {"name": name, "namespace": "cad", "creationTimestamp": "2026-11-01T00:00:00Z"}
    found["status"] = over
    return found


MORNING = other("morning", "2026-11-23T06:00:00Z", "2026-11-23T09:00:00Z")


def beside(new: dict[str, Any], *others: dict[str, Any], now: float = NOON, **pool_spec: Any) -> Answer:
    view = fleet(*TWO_BY_TWO, pools=(gpu_pool(**pool_spec),), reservations=others)
    return decide_gpu_reservation(request(new), view, UnknownResources.REFUSE, now)


def test_what_others_were_promised_first_is_refused_and_free_windows_are_named() -> None:
    evening = other("evening", "2026-11-23T20:00:00Z", "2026-11-23T22:00:00Z")
    verdict = beside(reservation(), MORNING, evening).verdict
    assert (verdict.ok, verdict.reason) == (False, Reason.RESERVATION_CONFLICT)
    assert verdict.message == (
        "Other reservations leave 1 of the 2 nvidia a10 that it requests from 2026-11-23 08:00 UTC to 2026-11-23 18:00 UTC; "
        "all 2 are free from 2026-11-23 09:00 UTC to 2026-11-23 19:00 UTC or from 2026-11-23 22:00 UTC to 2026-11-24 "
        "08:00 UTC."
    )


def test_a_free_window_that_is_named_is_free() -> None:
    after = reservation(start="2026-11-23T09:00:00Z", end="2026-11-23T19:00:00Z")
    assert beside(after, MORNING).verdict.ok


def test_one_that_fits_beside_the_others_passes() -> None:
    assert beside(reservation(gpus=1), MORNING).verdict.ok
    assert beside(
        reservation(), other("refused", "2026-11-23T06:00:00Z", "2026-11-24T09:00:00Z", phase="Refused")
    ).verdict.ok
    assert not beside(
        reservation(gpus=4), other("new", "2026-11-23T17:00:00Z", "2026-11-23T19:00:00Z")
    ).verdict.ok


def test_gpus_in_one_mode_are_not_promised_in_the_other_as_well() -> None:
    assert not beside(reservation(mode="Shared"), MORNING).verdict.ok
    assert beside(reservation(mode="Shared", gpus=1), MORNING).verdict.ok


def test_any_window_of_a_course_that_conflicts_refuses_it() -> None:
    repeat = {"days": ["Monday"], "until": "2027-01-01T00:00:00Z"}
    later = other("once", "2026-12-14T08:00:00Z", "2026-12-14T10:00:00Z")
    verdict = beside(reservation(repeat=repeat), later).verdict
    assert (verdict.ok, verdict.reason) == (False, Reason.RESERVATION_CONFLICT)
    assert "from 2026-12-14 08:00 UTC" in verdict.message
    days = {**repeat, "days": ["Tuesday"]}
    assert beside(reservation(repeat=days), later).verdict.ok


def test_the_quota_of_its_namespace_bounds_what_it_has_promised_at_once() -> None:
    quotas = [{"namespace": "ml", "maxGPUs": 3}]
    mine = reservation(gpus=2)
    mine["metadata"] = {"name": "first", "namespace": "ml"}
    assert not beside(reservation(), mine, quotas=quotas).verdict.ok
    assert beside(reservation(gpus=1), mine, quotas=quotas).verdict.ok


def test_changing_a_reservation_does_not_conflict_with_itself() -> None:
    before = reservation(gpus=3)
    assert decide_gpu_reservation(
        request(reservation(gpus=4), before),
        fleet(*TWO_BY_TWO, pools=(gpu_pool(),), reservations=(before,)),
        UnknownResources.REFUSE,
        NOON,
    ).verdict.ok


def test_instants_with_small_letters_are_checked_like_any() -> None:
    assert not decide(reservation(start="2026-11-21t08:00:00z", end="2026-11-21t18:00:00z")).verdict.ok
    assert decide(reservation(start="2026-11-23t08:00:00z", end="2026-11-23t18:00:00.5z")).verdict.ok
