"""A client on the API server in memory, and a lease that is held or not."""

import random
from typing import Any

from poolmgr import wire
from poolmgr.cluster.client import Client
from poolmgr.domain.identifiers import LeaseEpoch
from tests.unit.cluster.fake_api import FakeApi, FakeTransport
from tests.unit.cluster.virtual_clock import VirtualClock

NODES = "/api/v1/nodes"
GPU_NODES = "/apis/poolmgr.io/v1alpha1/gpunodes"
GPU_POOLS = "/apis/poolmgr.io/v1alpha1/gpupools"


class Held:
    def __init__(self, epoch: int | None = 3) -> None:
        self.epoch = LeaseEpoch(epoch) if epoch is not None else None


class ApiBench:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.api = FakeApi(self.clock)
        self.transport: FakeTransport = self.api.transport()
        self.client = Client(self.transport, clock=self.clock, rng=random.Random(7))
        self.written: list[tuple[str, str]] = []
        """(resourceVersion before, after) of each answer to a write of a GPUNode."""

    def wrote(self, over: str, stored: wire.GpuNode) -> None:
        self.written.append((over, stored.metadata.resource_version))

    async def do(self, awaitable: Any, seconds: float = 120.0) -> Any:
        """Run to the end while virtual time passes."""
        import asyncio

        task = asyncio.ensure_future(awaitable)
        for _ in range(int(seconds * 2)):
            await self.clock.settle()
            if task.done():
                break
            await self.clock.advance(0.5)
        return await asyncio.wait_for(task, 60)
