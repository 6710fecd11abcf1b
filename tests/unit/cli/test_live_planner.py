"""The collector comes back on, whatever happens, and is left off where it was off."""

import asyncio
import gc
import threading
from typing import Any

import pytest

from bench.speed.planner import random_cluster
from poolmgr.cli.live_planner import GcPausedPlanner, gc_paused, in_a_thread
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.interfaces import Decision
from poolmgr.planner.plan import PoolPlanner


async def test_plans_are_made_in_one_thread_that_is_not_the_loops() -> None:
    beside = in_a_thread()
    made_in = await asyncio.gather(*(beside(threading.get_ident) for _ in range(8)))
    assert len(set(made_in)) == 1
    assert threading.get_ident() not in made_in


def test_collector_is_off_within_and_on_afterwards() -> None:
    with gc_paused():
        assert not gc.isenabled()
        with gc_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_collector_is_on_again_after_an_error() -> None:
    with pytest.raises(RuntimeError), gc_paused():
        raise RuntimeError
    assert gc.isenabled()


class Watching(PoolPlanner):
    """Notes whether the collector is on while it decides."""

    def decide(self, snapshot: ClusterSnapshot, learned: Any) -> Decision:
        self.was_on = gc.isenabled()
        return super().decide(snapshot, learned)


def test_the_planner_decides_as_ever_with_the_collector_off() -> None:
    view, planner = random_cluster(nodes=3, gpus=2, pods=4, seed=1), Watching()
    assert GcPausedPlanner(planner).decide(view, None) == PoolPlanner().decide(view, None)
    assert not planner.was_on
    assert GcPausedPlanner(planner).name == planner.name


@pytest.mark.parametrize(("nodes", "times"), [(3, 1), (2, 0)])
def test_what_a_large_cluster_is_first_seen_as_is_kept_for_good_once(nodes: int, times: int) -> None:
    calls: list[None] = []
    planner = GcPausedPlanner(PoolPlanner(), large_nodes=3, freeze=lambda: calls.append(None))
    for _ in range(3):
        planner.decide(random_cluster(nodes=nodes, gpus=2, pods=4, seed=1), None)
    assert len(calls) == times
