"""The collector comes back on, whatever happens, and is left off where it was off."""

import gc

import pytest

from bench.speed.planner import random_cluster
from poolmgr.planner import rebalance
from poolmgr.planner.collector import collector_paused


def test_collector_is_off_within_and_on_afterwards() -> None:
    with collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_collector_is_on_again_after_an_error() -> None:
    with pytest.raises(RuntimeError), collector_paused():
        raise RuntimeError
    assert gc.isenabled()


@pytest.mark.parametrize(("nodes", "times"), [(3, 1), (2, 0)])
def test_what_a_large_cluster_is_first_seen_as_is_kept_for_good_once(
    monkeypatch: pytest.MonkeyPatch, nodes: int, times: int
) -> None:
    calls: list[None] = []
    monkeypatch.setattr(rebalance, "LARGE_NODES", 3)
    monkeypatch.setattr(rebalance, "keep_for_good", lambda: calls.append(None))
    planner, view = rebalance.PoolPlanner(), random_cluster(nodes=nodes, gpus=2, pods=4, seed=1)
    for _ in range(3):
        planner.decide(view, None)
    assert len(calls) == times
