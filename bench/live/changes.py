"""Pods that share GPUs come and go, as where they live for an hour: one is deleted, another takes its place.

Each replacement is five writes: the old pod is deleted, the new one created, placed by HAMi (annotations), bound, and
reported as running. 24,000 pods that live for an hour make about 40 such changes a second.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice

from bench.live import fleet, workloads
from bench.live.fill import Api
from bench.live.fleet import Size
from bench.live.workloads import PODS, Slot
from poolmgr.wire import kinds

WRITES_PER_POD = 5
LATE_SECONDS = 5.0
"""Writes that fall behind by more than this are left out and not made up for: the rate then was lower, and `made`
says so."""


class Changes:
    """`run` until `stop`: a replacement that was begun is ended. `made` counts what the API server has taken."""

    def __init__(self, api: Api, size: Size, rate: float, rng: random.Random) -> None:
        self._api = api
        self._pause = 1.0 / rate
        self._slots = dict(zip(workloads.churning(size), _slots_of(size), strict=True))
        self._generation = dict.fromkeys(self._slots, 0)
        self._rng = rng
        self._stopping = False
        self.made = 0

    def stop(self) -> None:
        self._stopping = True

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        self._stopping = False
        while not self._stopping:
            number = self._rng.choice(tuple(self._slots))
            for write in self._replacement(number):
                due = max(due + self._pause, loop.time() - LATE_SECONDS)
                await asyncio.sleep(due - loop.time())
                await write()
                self.made += 1

    def _replacement(self, number: int) -> Iterator[Callable[[], Awaitable[object]]]:
        slot, generation = self._slots[number], self._generation[number]
        self._generation[number] = generation + 1
        old, name = f"job-{number:06d}-{generation}", f"job-{number:06d}-{generation + 1}"
        pod = workloads.sharing_pod(name, slot, placed=False)
        placed = {"metadata": {"annotations": workloads.assignment(slot)}}
        target = {"kind": "Node", "name": fleet.node_name(slot.node)}
        binding = {"metadata": {"name": name}, "target": target}
        yield lambda: self._api.delete(kinds.PODS, old, namespace=PODS)
        yield lambda: self._api.create(kinds.PODS, pod, namespace=PODS)
        yield lambda: self._api.patch(kinds.PODS, name, placed, namespace=PODS)
        yield lambda: self._api.create(kinds.PODS, binding, namespace=PODS, subresource="binding")
        yield lambda: self._api.patch(
            kinds.PODS, name, workloads.RUNNING, namespace=PODS, subresource="status"
        )


def _slots_of(size: Size) -> Iterator[Slot]:
    numbers = workloads.churning(size)
    return islice(workloads.slots(size), numbers.start, numbers.stop)
