"""The webhook's feed: it outlives whatever the cluster's objects say."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from poolmgr.cli.reflected_fleet import ReflectedFleet
from poolmgr.cluster.client import Client
from poolmgr.domain.fleet import RebalanceMode
from tests.unit.cluster.fake_api import FakeApi
from tests.unit.cluster.virtual_clock import VirtualClock
from tests.unit.webhooks.objects import device, gpu_node, gpu_pool, node
from webhooks.fleet_view import FleetView

GROUP = "/apis/poolmgr.io/v1alpha1"
GPU_NODES, GPU_POOLS, NODES = f"{GROUP}/gpunodes", f"{GROUP}/gpupools", "/api/v1/nodes"
GPU_RESERVATIONS = f"{GROUP}/gpureservations"


class Bench:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.api = FakeApi(self.clock)
        self.api.kinds.update((GPU_NODES, GPU_POOLS, GPU_RESERVATIONS, NODES))
        self.api.put(GPU_NODES, gpu_node("n1", device(0, mode="Passthrough")))
        self.api.put(NODES, node("n1"))
        client = Client(self.api.transport(), clock=self.clock, rng=random.Random(1))
        self.fleet = ReflectedFleet(client, self.clock, "nvidia.com/gpu")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        feed = asyncio.create_task(self.fleet.run())
        try:
            yield feed
        finally:
            feed.cancel()
            await asyncio.gather(feed, return_exceptions=True)

    async def view(self, wanted: Any) -> FleetView:
        """The first view of which `wanted` holds."""
        while not ((view := self.fleet.current()) and wanted(view)):
            await self.pass_time()
        return view

    async def pass_time(self) -> None:
        await self.clock.advance(0.5)
        await asyncio.sleep(0.001)  # the view is made in a thread


async def test_pool_of_a_newer_release_does_not_end_the_feed() -> None:
    bench = Bench()
    bench.api.put(GPU_POOLS, gpu_pool("new", rebalance={"mode": "Scheduled"}))
    async with bench.running() as feed:
        view = await bench.view(lambda view: view.pools)
        assert view.pools[0].rebalance is RebalanceMode.OFF
        bench.api.put(GPU_POOLS, gpu_pool("later"))
        assert len((await bench.view(lambda view: len(view.pools) == 2)).pools) == 2
        assert not feed.done()


async def test_object_that_cannot_be_read_lets_every_request_pass_until_it_is_gone() -> None:
    bench = Bench()
    async with bench.running() as feed:
        await bench.view(lambda view: not view.empty)
        bench.api.put(GPU_POOLS, gpu_pool("odd", models="all of them"))
        while bench.fleet.current() is not None:
            await bench.pass_time()
        assert not feed.done()
        bench.api.remove(f"{GPU_POOLS}/odd")
        assert not (await bench.view(lambda view: not view.empty)).pools
