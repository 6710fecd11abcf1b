"""GPUPool.status: written when it says something new."""

from dataclasses import replace
from typing import Any

import pytest

from poolmgr import wire
from poolmgr.cluster.pools import KubernetesPools
from poolmgr.controller.interfaces import PoolStatus
from poolmgr.domain.errors import Stale
from poolmgr.domain.identifiers import PoolName
from poolmgr.domain.plan import QuotaUse
from poolmgr.domain.reasons import Reason
from poolmgr.wire import gpu_pools
from poolmgr.wire.gpu_pools import pool_from
from tests.unit.cluster.api_bench import GPU_POOLS, ApiBench, Held
from tests.unit.cluster.builders import as_wire, pool

STATUS = PoolStatus(1, 8, 3, 2, 5, 1, 0, 0, 2, 4, Reason.NO_CANDIDATE, "2 VM(s) wait")


class Bench(ApiBench):
    def __init__(self, epoch: int | None = 3) -> None:
        super().__init__()
        self.api.put(GPU_POOLS, pool())
        self.watched = self.stored
        self.reporter = KubernetesPools(self.client, Held(epoch), lambda _: self.watched)

    @property
    def stored(self) -> wire.GpuPool:
        return as_wire(self.api.get(f"{GPU_POOLS}/a10"), wire.GpuPool)

    async def report(self, **over: Any) -> None:
        await self.reporter.report(pool_from(self.watched), replace(STATUS, **over))

    @property
    def ready(self) -> wire.Condition:
        return next(c for c in self.stored.status.conditions if c.type == "Ready")


async def test_status_and_its_ready_condition_are_written() -> None:
    bench = Bench()
    await bench.report()
    assert (bench.stored.status.gpus, bench.stored.status.waiting_vms) == (8, 2)
    assert (bench.ready.status, bench.ready.reason, bench.ready.message) == (
        "True",
        "NoCandidate",
        "2 VM(s) wait",
    )


async def test_quotas_are_written_as_numbers() -> None:
    bench = Bench()
    await bench.report(quotas=(QuotaUse(PoolName("a10"), "ml", None, 1.0, used=1 / 3, waiting=0.0),))
    assert bench.stored.status.quotas == (gpu_pools.QuotaStatus("ml", None, 0.333, 0),)


async def test_equal_status_is_not_written_again_even_before_the_watch_shows_it() -> None:
    bench = Bench()
    await bench.report()
    bench.clock.jump(30)
    await bench.report()
    bench.watched = bench.stored
    bench.clock.jump(30)
    await bench.report()
    assert bench.api.count("PATCH") == 1


async def test_status_that_another_overwrote_is_written_again() -> None:
    bench = Bench()
    await bench.report()
    bench.api.put(GPU_POOLS, pool())
    bench.watched = bench.stored
    await bench.report()
    assert bench.api.count("PATCH") == 2


async def test_condition_keeps_its_time_while_its_status_stays() -> None:
    bench = Bench()
    await bench.report()
    since = bench.ready.last_transition_time
    for over, moved in (
        ({"message": "3 VM(s) wait"}, False),
        ({"reason": Reason.POOL_OVERLAP, "message": "pool all has its GPUs"}, True),
    ):
        bench.watched = bench.stored
        bench.clock.jump(60)
        await bench.report(**over)
        assert (bench.ready.last_transition_time != since) is moved
    assert bench.ready.status == "False"


async def test_pool_that_is_gone_is_left_alone() -> None:
    bench = Bench()
    known = pool_from(bench.watched)
    reporter = KubernetesPools(bench.client, Held(3), lambda _: None)
    await reporter.report(known, STATUS)
    assert bench.api.requests == []


async def test_only_the_leader_reports() -> None:
    with pytest.raises(Stale):
        await Bench(epoch=None).report()
