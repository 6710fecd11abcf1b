"""The lean replay: what it counts, and that it obeys the planner protocol's promises."""

from dataclasses import replace

import numpy as np
import pytest

from bench.policies.baselines import PerClaim, StaticSplit
from bench.policies.catalog import POLICIES
from bench.quality.bounds import admission_bound, capacity_bound
from bench.replay.demand import Demand, even_fleet, presence
from bench.replay.replay import Replay
from bench.replay.state import ReplaySettings
from bench.replay.tally import Figures
from poolmgr.domain.fleet import EvictionRule, Pool
from poolmgr.domain.identifiers import PoolName
from poolmgr.planner.plan import PoolPlanner
from poolmgr.planner.sizing.forecast_sizer import ForecastSizer

HOUR = 3_600.0


def demand(
    vms: list[tuple[float, float]], pods: list[tuple[float, float, int, bool]], hours: float = 4.0
) -> Demand:
    """`vms` as (start, end), `pods` as (start, seconds, milli, best effort); all in seconds."""
    ones = np.ones(len(vms), dtype=np.int64)
    return Demand(
        horizon=hours * HOUR,
        vm_start=np.array([v[0] for v in vms]),
        vm_end=np.array([v[1] for v in vms]),
        vm_gpus=ones,
        vm_model=np.zeros(len(vms), dtype=np.int64),
        pod_start=np.array([p[0] for p in pods]),
        pod_seconds=np.array([p[1] for p in pods]),
        pod_milli=np.array([p[2] for p in pods], dtype=np.int64),
        pod_best_effort=np.array([p[3] for p in pods], dtype=bool),
        pod_models=np.ones(len(pods), dtype=np.int64),
        vm_idle_after=np.full(len(vms), np.inf),
    )


def replay(
    asked: Demand, planner: object, *, nodes: int = 1, gpus: int = 2, vm_gpus: int = 0, **pool: object
) -> Figures:
    rules = replace(Pool(PoolName("p"), max_in_flight=99, cooldown_seconds=0), **pool)  # type: ignore[arg-type]
    run = Replay(
        asked, even_fleet(nodes, gpus), rules, planner, ReplaySettings(), passthrough_at_start=vm_gpus
    )  # type: ignore[arg-type]
    return run.run().figures()


def test_static_split_serves_exactly_what_fits() -> None:
    asked = demand([(0.0, 2 * HOUR), (10.0, 2 * HOUR)], [(0.0, HOUR, 1000, False)])
    seen = replay(asked, StaticSplit(), vm_gpus=1)
    assert seen.vm_served == pytest.approx(7_200 / (7_200 + 7_190))
    assert (seen.vm_lost, seen.vm_wait_p99_s > 290, seen.flips_per_gpu_day) == (1, True, 0)
    assert seen.goodput == pytest.approx((7_200 + 3_600) / (2 * 4 * HOUR))


def test_waiting_vm_is_served_after_tick_and_flip() -> None:
    seen = replay(demand([(5.0, HOUR)], []), PoolPlanner(explain=False))
    assert seen.vm_wait_p99_s == pytest.approx(65.0, abs=5.1)
    assert seen.vm_lost == 0


def test_evicted_work_counts_as_allocated_and_not_as_good() -> None:
    asked = demand([(HOUR, 3 * HOUR)], [(0.0, 2 * HOUR, 1000, True), (0.0, 2 * HOUR, 1000, False)])
    seen = replay(asked, PerClaim("e"), eviction=EvictionRule.BEST_EFFORT)
    assert seen.evictions == 1
    assert seen.evicted_gpu_hours == pytest.approx(1.0, abs=0.01)
    assert seen.allocation - seen.goodput == pytest.approx(1.0 / 8, abs=0.01)
    assert seen.vm_kills == 0


def test_pods_that_may_not_be_disturbed_are_not() -> None:
    asked = demand([(HOUR, 3 * HOUR)], [(0.0, 4 * HOUR, 1000, False), (0.0, 4 * HOUR, 1000, False)])
    seen = replay(asked, PerClaim("e"), eviction=EvictionRule.BEST_EFFORT)
    assert (seen.evictions, seen.vm_lost) == (0, 1)


@pytest.mark.parametrize("name", list(POLICIES))
def test_no_policy_exceeds_the_bound_or_loses_a_figure(name: str) -> None:
    chance = np.random.default_rng(4)
    starts = np.sort(chance.random(30)) * 3 * HOUR
    vms = [(float(s), float(s + 1_200 + 3_000 * chance.random())) for s in starts]
    pods = [
        (
            float(chance.random() * 3 * HOUR),
            600.0 + 3_000 * float(chance.random()),
            int(chance.integers(1, 11)) * 100,
            bool(n % 2),
        )
        for n in range(60)
    ]
    asked = demand(vms, sorted(pods))
    policy, gpus = POLICIES[name], 16
    rules = policy.pool(Pool(PoolName("p")), gpus)
    run = Replay(
        asked,
        even_fleet(4, 4),
        rules,
        policy.make(),
        ReplaySettings(on_release=policy.on_release),
        passthrough_at_start=round((policy.passthrough_at_start or 0.3) * gpus),
    )
    seen = run.run().figures()
    assert seen.goodput <= admission_bound(asked, gpus) + 1e-9
    assert seen.goodput <= seen.allocation <= 1.0
    assert seen.vm_kills == seen.pdb_violations == 0
    assert 0.0 <= seen.vm_within_60s <= 1.0


def test_equal_runs_are_equal() -> None:
    asked = demand([(100.0 * n, 100.0 * n + 2_000) for n in range(20)], [(0.0, 900.0, 500, True)] * 20)
    one, two = (replay(asked, PoolPlanner(ForecastSizer(), explain=False), nodes=2, gpus=4) for _ in range(2))
    assert one == two


def test_capacity_bound_counts_what_is_present_and_no_more_than_there_is() -> None:
    asked = demand([(0.0, 4 * HOUR)] * 3, [], hours=4.0)
    assert capacity_bound(asked, 2) == pytest.approx(1.0)
    assert capacity_bound(asked, 6) == pytest.approx(0.5)


def test_admission_bound_lets_pods_wait_but_not_run_before_they_came() -> None:
    asked = demand([(0.0, 2 * HOUR)], [(0.0, 2 * HOUR, 1000, False)], hours=4.0)
    assert admission_bound(asked, 1) == pytest.approx(1.0)
    late = demand([], [(3 * HOUR, 2 * HOUR, 1000, False)], hours=4.0)
    assert admission_bound(late, 1) == pytest.approx(0.25)


def test_presence_is_the_highest_level_in_each_step() -> None:
    level = presence(np.array([0.0, 10.0]), np.array([15.0, 40.0]), np.array([1, 2]), 0.0, 40.0, 20.0)
    assert level.tolist() == [3, 2]
