"""Nodes that go away: what ran there begins again or is asked for again, and no planner is charged with it."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from bench.policies.catalog import policy_of
from bench.replay import replay as replay_module
from bench.replay.demand import Demand, even_fleet
from bench.replay.outages import outages_of
from bench.replay.replay import Replay
from bench.replay.state import ReplaySettings
from bench.replay.tally import Figures
from poolmgr.domain.fleet import Pool
from poolmgr.domain.identifiers import PoolName

DAY, HOUR = 86_400.0, 3_600.0
POOL = Pool(PoolName("p"))


def test_each_node_goes_away_as_often_as_asked_and_never_twice_at_once() -> None:
    settings = ReplaySettings(outages=2.0, outage_seconds=1_800.0)
    seen = list(outages_of(50, 10 * DAY, settings))
    assert seen == list(outages_of(50, 10 * DAY, settings))
    assert 900 < len(seen) < 1_100
    by_node: dict[int, list[tuple[float, float]]] = {}
    for node, begun, ended in seen:
        by_node.setdefault(node, []).append((begun, ended))
    for times in by_node.values():
        assert all(ended == begun + 1_800.0 for begun, ended in times)
        assert all(a[1] <= b[0] for a, b in pairwise(times))
    assert list(outages_of(50, 10 * DAY, ReplaySettings())) == []


def one_of_each(**over: Any) -> Demand:
    """A VM from the first to the fifth hour, and one pod of three hours on a whole GPU."""
    fields: dict[str, Any] = {
        "horizon": 6 * HOUR,
        "vm_start": np.array([HOUR]),
        "vm_end": np.array([5 * HOUR]),
        "vm_gpus": np.array([1]),
        "vm_model": np.array([0]),
        "pod_start": np.array([60.0]),
        "pod_seconds": np.array([3 * HOUR]),
        "pod_milli": np.array([1_000]),
        "pod_best_effort": np.array([False]),
        "pod_models": np.array([1]),
        "vm_idle_after": np.array([np.inf]),
    }
    return Demand(**{**fields, **over})


def run(
    monkeypatch: pytest.MonkeyPatch,
    demand: Demand,
    *away: tuple[int, float, float],
    nodes: int = 1,
    **over: Any,
) -> Figures:
    monkeypatch.setattr(replay_module, "outages_of", lambda *_: iter(away))
    chosen = policy_of("poolmgr")
    fleet = even_fleet(nodes, 2)
    settings = ReplaySettings(**over)
    pool = chosen.pool(POOL, fleet.total)
    return Replay(demand, fleet, pool, chosen.make(), settings, passthrough_at_start=0).run().figures()


def test_what_ran_on_a_node_that_went_away_goes_on_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = run(monkeypatch, one_of_each())
    cut = run(monkeypatch, one_of_each(), (0, 2 * HOUR, 2 * HOUR + 120))
    assert (sound.outages, sound.vms_cut, cut.outages, cut.vms_cut) == (0, 0, 1, 1)
    assert cut.vm_kills == cut.pdb_violations == cut.evictions == 0
    assert 0.95 < cut.vm_served < sound.vm_served
    assert cut.cut_gpu_hours == pytest.approx(2.0 - 60 / HOUR, abs=0.01)
    assert cut.vm_within_60s == sound.vm_within_60s


def test_a_vm_that_cannot_come_back_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = run(monkeypatch, one_of_each(), (0, 2 * HOUR, 4 * HOUR))
    assert seen.vm_served == pytest.approx(0.25, abs=0.01)


def test_another_node_serves_what_one_that_is_away_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    away = ((0, 2 * HOUR, 6 * HOUR), (1, 3 * HOUR, 6 * HOUR))
    seen = run(monkeypatch, one_of_each(), *away, nodes=3)
    assert seen.vm_served > 0.95


def test_a_move_that_is_cut_off_leaves_the_gpu_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    only_the_vm = one_of_each(pod_start=np.array([5.9 * HOUR]))
    away = (0, HOUR + 200.0, HOUR + 260.0)
    seen = run(monkeypatch, only_the_vm, away, flip_seconds=250.0, patience_seconds=1_000.0)
    assert seen.flips_per_gpu_day * 2 * 0.25 == pytest.approx(1.0)
    assert 1.0 - seen.vm_served == pytest.approx((260 + 250) / (4 * HOUR), abs=0.005)
