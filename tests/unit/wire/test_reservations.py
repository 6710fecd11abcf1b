"""GPUReservation to the domain: who holds it, and every window that it has."""

from datetime import datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from poolmgr.domain.modes import Mode
from poolmgr.domain.reservation import Reservation
from poolmgr.wire.instants import to_rfc3339
from poolmgr.wire.reservations import GpuReservation, reservation_from, windows_of

BERLIN = ZoneInfo("Europe/Berlin")


def wire(**spec: Any) -> GpuReservation:
    window = {"start": "2026-11-23T10:00:00Z", "end": "2026-11-23T11:00:00Z"}
    body = {
        "metadata": {"namespace": "ml", "name": "r", "generation": 3},
        "spec": {"model": "NVIDIA A10", "gpus": 2, **window, **spec},
        "status": {"cards": [{"node": "n1", "uuid": "GPU-1"}]},
    }
    return msgspec.convert(body, GpuReservation)


def read(**spec: Any) -> Reservation:
    found = reservation_from(wire(**spec))
    assert found is not None
    return found


def test_reservation_is_for_vms_of_its_own_namespace_unless_it_says_otherwise() -> None:
    found = read()
    ((starts_at, ends_at),) = found.windows
    assert (found.mode, found.gpus, ends_at - starts_at) == (Mode.PASSTHROUGH, 2, 3_600)
    assert (found.key, found.generation, found.cards) == ("ml/r", 3, ("GPU-1",))
    assert found.is_held_by("ml", {}, "")
    assert not found.is_held_by("other", {}, "")
    assert read(mode="Shared").mode is Mode.SHARED


@pytest.mark.parametrize(
    ("holders", "namespace", "labels", "claim", "held"),
    [
        ({"namespaces": ["a", "b"]}, "b", {}, "", True),
        ({"namespaces": ["a", "b"]}, "ml", {}, "", False),
        ({"matchLabels": {"course": "ml1"}}, "ml", {"course": "ml1", "x": "y"}, "", True),
        ({"matchLabels": {"course": "ml1"}}, "ml", {"course": "ml2"}, "", False),
        ({"byClaim": True}, "ml", {}, "", False),
        ({"byClaim": True}, "ml", {}, "r", True),
        ({"byClaim": True}, "ml", {}, "ml/r", True),
        ({"byClaim": True, "namespaces": ["a"]}, "a", {}, "r", False),
        ({"byClaim": True, "namespaces": ["a"]}, "a", {}, "ml/r", True),
        ({}, "ml", {}, "another", False),
    ],
)
def test_holders_are_by_namespace_label_or_claim(
    holders: dict[str, Any], namespace: str, labels: dict[str, str], claim: str, held: bool
) -> None:
    assert read(holders=holders).is_held_by(namespace, labels, claim) is held


def test_nothing_is_kept_for_a_mode_of_a_newer_release_or_for_what_is_no_window() -> None:
    assert reservation_from(wire(mode="Leased")) is None
    assert reservation_from(wire(start="soon")) is None
    assert reservation_from(wire(end="2026-11-23T10:00:00Z")) is None


def test_a_window_in_any_form_of_rfc_3339_is_read() -> None:
    assert read(start="2026-11-23t11:00:00.000+01:00", end="2026-11-23 11:00:00z").windows == read().windows


def test_a_course_begins_at_the_same_time_of_day_also_when_clocks_change() -> None:
    repeat = {"days": ["Monday", "Thursday"], "timeZone": "Europe/Berlin", "until": "2026-11-06T00:00:00Z"}
    spec = wire(start="2026-10-19T06:00:00Z", end="2026-10-19T08:00:00Z", repeat=repeat).spec
    starts = [datetime.fromtimestamp(window.starts_at, BERLIN) for window in windows_of(spec)]
    assert [(s.strftime("%a %d"), s.hour) for s in starts] == [
        ("Mon 19", 8),
        ("Thu 22", 8),
        ("Mon 26", 8),
        ("Thu 29", 8),
        ("Mon 02", 8),
        ("Thu 05", 8),
    ]
    assert {window.ends_at - window.starts_at for window in windows_of(spec)} == {7_200.0}
    assert to_rfc3339(windows_of(spec)[2].starts_at) == "2026-10-26T07:00:00Z"


def test_the_first_window_need_not_be_on_one_of_its_days() -> None:
    repeat = {"days": ["Friday"], "until": "2026-11-28T00:00:00Z"}
    assert [to_rfc3339(w.starts_at) for w in windows_of(wire(repeat=repeat).spec)] == [
        "2026-11-23T10:00:00Z",
        "2026-11-27T10:00:00Z",
    ]


def test_windows_never_overlap_not_even_over_a_day_of_23_hours() -> None:
    repeat = {"timeZone": "Europe/Berlin", "until": "2026-03-31T00:00:00Z"}
    spec = wire(start="2026-03-27T11:00:00Z", end="2026-03-28T11:00:00Z", repeat=repeat).spec
    windows = windows_of(spec)
    assert all(one.ends_at <= other.starts_at for one, other in pairwise(windows))


@pytest.mark.parametrize(
    ("repeat", "says"),
    [
        ({"until": "2026-12-01T00:00:00Z", "timeZone": "Mars/Base"}, "no time zone of IANA's database"),
        ({"until": "2026-12-01T00:00:00Z", "timeZone": "../../etc/passwd"}, "no time zone"),
        ({"until": "2028-12-01T00:00:00Z"}, "not be more than 366 days after start"),
        ({"until": "one day"}, "not an instant of RFC 3339"),
    ],
)
def test_what_is_no_window_says_why(repeat: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        windows_of(wire(repeat=repeat).spec)
    assert reservation_from(wire(repeat=repeat)) is None
