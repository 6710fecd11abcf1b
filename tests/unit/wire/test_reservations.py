"""GPUReservation to the domain."""

from typing import Any

import msgspec

from poolmgr.domain.demand import Reservation
from poolmgr.domain.modes import Mode
from poolmgr.wire.reservations import GpuReservation, reservation_from


def read(**spec: Any) -> Reservation | None:
    window = {"start": "2026-11-22T10:00:00Z", "end": "2026-11-22T11:00:00Z"}
    body = {
        "metadata": {"namespace": "ml", "name": "r"},
        "spec": {"model": "NVIDIA A10", "gpus": 2, **window, **spec},
    }
    return reservation_from(msgspec.convert(body, GpuReservation))


def test_reservation_is_for_vms_unless_it_says_otherwise() -> None:
    found = read()
    assert found is not None
    assert (found.mode, found.gpus, found.ends_at - found.starts_at) == (Mode.PASSTHROUGH, 2, 3_600)
    shared = read(mode="Shared")
    assert shared is not None
    assert shared.mode == Mode.SHARED


def test_nothing_is_kept_for_a_mode_of_a_newer_release() -> None:
    assert read(mode="Leased") is None
