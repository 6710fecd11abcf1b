"""Pods that wait for a place, and HAMi's choice of one: oldest that fits first, on the fullest GPU that has the room.

Pods of one shape are equal to HAMi, so the backlog is a queue for each shape; those that a person waits for go
before all others.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from bench.replay.demand import Demand
from bench.replay.state import SLICES, ReplayGpu, ReplayNode
from poolmgr.domain.modes import Mode

Shape = tuple[bool, int, int, bool]
"""(may wait, thousandths of a GPU, acceptable models as bits, best effort)."""


@dataclass(frozen=True, slots=True)
class OpenGpus:
    """GPUs with room for new pods."""

    everybody: list[ReplayGpu]
    best_effort: list[ReplayGpu]
    """Those and the ones that are lent to best-effort pods."""

    def of(self, shape: Shape) -> list[ReplayGpu]:
        return self.best_effort if shape[3] else self.everybody


def shape_of(demand: Demand, pod: int) -> Shape:
    may_wait = demand.pod_urgent is None or not bool(demand.pod_urgent[pod])
    milli, models = int(demand.pod_milli[pod]), int(demand.pod_models[pod])
    return may_wait, milli, models, bool(demand.pod_best_effort[pod])


def takes_pods(gpu: ReplayGpu, node: ReplayNode) -> bool:
    return gpu.mode is Mode.SHARED and not gpu.fenced and not node.closed and not node.away


def open_gpus(nodes: list[ReplayNode]) -> OpenGpus:
    """What all shared GPUs have left."""
    room = [g for node in nodes for g in node.gpus if g.used_milli < 1000 and takes_pods(g, node)]
    return OpenGpus([g for g in room if not nodes[g.node].lent], room)


Chooser = Callable[[list[ReplayGpu], int, int], ReplayGpu | None]
"""(GPUs with room, thousandths, models) → where the pod goes; None where it fits nowhere."""


def fullest(room: list[ReplayGpu], milli: int, mask: int) -> ReplayGpu | None:
    """HAMi's binpack."""
    best: ReplayGpu | None = None
    most, limit = -1, 1000 - milli
    for gpu in room:
        used = gpu.used_milli
        if most < used <= limit and mask >> gpu.model & 1 and len(gpu.pods) < SLICES:
            best, most = gpu, used
    return best


def least_fragmenting(demand: Demand) -> Chooser:
    """FGD with GPUs alone: of F(gpu) = sum of p_m × what is left, if that is less than m asks for, as little more
    as possible; then the fullest GPU. Shapes and their shares are those of all pods of the demand."""
    sizes, counts = np.unique(demand.pod_milli, return_counts=True)
    share = np.cumsum(counts[::-1])[::-1] / max(int(counts.sum()), 1)
    left = np.arange(1_001)
    first = np.searchsorted(sizes, left, side="right")
    amount = (left * np.append(share, 0.0)[first]).tolist()

    def choose(room: list[ReplayGpu], milli: int, mask: int) -> ReplayGpu | None:
        best: ReplayGpu | None = None
        least = (float("inf"), 0)
        for gpu in room:
            free = 1000 - gpu.used_milli
            if free >= milli and mask >> gpu.model & 1 and len(gpu.pods) < SLICES:
                rank = (amount[free - milli] - amount[free], free)
                if rank < least:
                    best, least = gpu, rank
        return best

    return choose


class Backlog:
    """Waiting pods by shape, each queue oldest first."""

    def __init__(self, choose: Chooser = fullest) -> None:
        self._choose = choose
        self._queues: dict[Shape, deque[int]] = {}

    def add(self, pod: int, shape: Shape) -> None:
        self._queues.setdefault(shape, deque()).append(pod)

    def put_back(self, pod: int, shape: Shape) -> None:
        """One that had begun and was evicted: it is the oldest of its shape."""
        self._queues.setdefault(shape, deque()).appendleft(pod)

    def placements(self, room: OpenGpus) -> Iterator[tuple[int, ReplayGpu]]:
        """Take pods off the backlog for as long as one fits. The caller fills the GPU before it asks for the next.

        Room only shrinks meanwhile, so a shape that fits nowhere needs no second look."""
        if not room.best_effort:
            return
        heads = [(shape[0], queue[0], shape) for shape, queue in self._queues.items()]
        heapq.heapify(heads)
        while heads:
            _, pod, shape = heads[0]
            gpu = self._choose(room.of(shape), shape[1], shape[2])
            if gpu is None:
                heapq.heappop(heads)
                continue
            queue = self._queues[shape]
            queue.popleft()
            if queue:
                heapq.heapreplace(heads, (shape[0], queue[0], shape))
            else:
                del self._queues[shape]
                heapq.heappop(heads)
            yield pod, gpu

    def place_newest(self, shape: Shape, room: OpenGpus) -> tuple[int, ReplayGpu] | None:
        """The same for a pod that has just come, when before it none had fitted."""
        queue = self._queues[shape]
        gpu = self._choose(room.of(shape), shape[1], shape[2])
        if gpu is None:
            return None
        pod = queue.popleft()
        if not queue:
            del self._queues[shape]
        return pod, gpu
