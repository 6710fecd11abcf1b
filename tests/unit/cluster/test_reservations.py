"""GPUReservation.status: written when it says something new."""

from dataclasses import replace
from typing import Any

import pytest

from poolmgr import wire
from poolmgr.cluster.reservations import KubernetesReservations
from poolmgr.domain.errors import Stale
from poolmgr.domain.identifiers import GpuUuid, NodeName
from poolmgr.domain.plan import ReservationPhase, ReservationState
from poolmgr.domain.reasons import Reason
from poolmgr.wire.reservations import KeptCard, WindowStatus
from tests.unit.cluster.api_bench import ApiBench, Held
from tests.unit.cluster.builders import as_wire, reservation

RESERVATIONS = "/apis/poolmgr.io/v1alpha1/gpureservations"
STATE = ReservationState(
    namespace="uni",
    name="course",
    generation=2,
    phase=ReservationPhase.ACTIVE,
    window=(1_795_348_800.0, 1_795_356_000.0),
    ready=2,
    used=1,
    kept=1,
    cards=((NodeName("n1"), GpuUuid("GPU-1")),),
    ok=True,
    reason=Reason.RESERVATION_READY,
    message="all 2 GPU(s) are ready",
)


class Bench(ApiBench):
    def __init__(self, epoch: int | None = 3) -> None:
        super().__init__()
        self.api.put(RESERVATIONS, reservation())
        self.watched: wire.GpuReservation | None = self.stored
        self.reporter = KubernetesReservations(self.client, Held(epoch), lambda _: self.watched)

    @property
    def stored(self) -> wire.GpuReservation:
        path = "/apis/poolmgr.io/v1alpha1/namespaces/uni/gpureservations/course"
        return as_wire(self.api.get(path), wire.GpuReservation)

    async def report(self, **over: Any) -> None:
        await self.reporter.report(replace(STATE, **over))


async def test_status_window_cards_and_condition_are_written() -> None:
    bench = Bench()
    await bench.report()
    status = bench.stored.status
    assert (status.phase, status.ready, status.used, status.kept) == ("Active", 2, 1, 1)
    assert status.window == WindowStatus("2026-11-22T12:00:00Z", "2026-11-22T14:00:00Z")
    assert status.cards == (KeptCard("n1", "GPU-1"),)
    (ready,) = status.conditions
    assert (ready.type, ready.status, ready.reason) == ("Ready", "True", "ReservationReady")


async def test_equal_status_is_not_written_again_even_before_the_watch_shows_it() -> None:
    bench = Bench()
    await bench.report()
    bench.clock.jump(30)
    await bench.report()
    bench.watched = bench.stored
    bench.clock.jump(30)
    await bench.report()
    assert bench.api.count("PATCH") == 1
    await bench.report(ready=1, ok=False, reason=Reason.RESERVATION_SHORT, message="1 of 2")
    assert bench.api.count("PATCH") == 2
    assert bench.stored.status.conditions[0].status == "False"


async def test_a_window_that_is_over_is_taken_off() -> None:
    bench = Bench()
    await bench.report()
    bench.watched = bench.stored
    await bench.report(window=None, phase=ReservationPhase.EXPIRED, cards=())
    assert (bench.stored.status.window, bench.stored.status.cards) == (None, ())


async def test_one_that_is_gone_is_left_alone_and_only_the_leader_reports() -> None:
    bench = Bench()
    bench.watched = None
    await bench.report()
    assert bench.api.requests == []
    with pytest.raises(Stale):
        await Bench(epoch=None).report()
