"""The planner as a manager runs it: the pool planner with the learned forecast, in a thread of its own, the garbage
collector off meanwhile.

The planner makes many values and no cycles, so Python's cyclic collector is only in its way. The collector is a switch
of the whole process: it is thrown here, where the manager is put together, and not in the planner, which is pure.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from poolmgr.controller.beside import Beside
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.interfaces import Decision, Planner
from poolmgr.planner.plan import PoolPlanner
from poolmgr.planner.sizing.learning import LearningSizer

T = TypeVar("T")

LARGE_NODES = 1_000
"""On fewer the collector is never in the way."""


@contextmanager
def gc_paused() -> Iterator[None]:
    """At 40,000 GPUs the collector walks a decision's values ten times over, a quarter of its time. What it would have
    found meanwhile it finds afterwards."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class GcPausedPlanner:
    """A planner with the collector off while it decides.

    After the first decision on a large cluster all that is there is taken out of the collector, once: the view of the
    cluster and what follows from its nodes live as long as the process, and walking them holds up decisions for a
    quarter of a second at a time. Values are freed when nobody needs them, as ever; only cycles that are garbage
    already stay.
    """

    def __init__(
        self, planner: Planner, *, large_nodes: int = LARGE_NODES, freeze: Callable[[], None] = gc.freeze
    ) -> None:
        self._planner = planner
        self._large_nodes = large_nodes
        self._freeze = freeze
        self._frozen = False

    @property
    def name(self) -> str:
        return self._planner.name

    def decide(self, snapshot: ClusterSnapshot, learned: Any) -> Decision:
        with gc_paused():
            decision = self._planner.decide(snapshot, learned)
        if snapshot.synced and not self._frozen and len(snapshot.nodes) >= self._large_nodes:
            self._frozen = True
            self._freeze()
        return decision


def in_a_thread() -> Beside:
    """Plans are made in one thread: one at a time, also where whoever asked for one has gone away meanwhile."""
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="planner")

    def beside(work: Callable[[], T], /) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(thread, work)

    return beside


def live_planner(*, forecast: bool = True) -> Planner:
    """What `poolmgr manager` plans with; without `forecast` only the pools' specs say what to have ready."""
    return GcPausedPlanner(PoolPlanner(LearningSizer() if forecast else None))
