"""Figures of one small congested run, pinned: who makes the replay or the inventory faster may not change them.

The policies are baselines that the planner's own tuning does not touch. A change of the simulator's rules
changes these numbers; then say in the commit why they are better now.
"""

import numpy as np
import pytest

from bench.policies.catalog import policy_of
from bench.replay.demand import Demand, FleetPlan
from bench.replay.replay import Replay
from bench.replay.state import ReplaySettings
from poolmgr.domain.fleet import Pool
from poolmgr.domain.identifiers import PoolName

pytestmark = pytest.mark.long

HOUR = 3_600.0


def congested(seed: int = 11, hours: float = 8.0) -> Demand:
    """Two models, VMs of one and two GPUs and pods of all sizes, more than 32 GPUs can serve."""
    chance = np.random.default_rng(seed)
    vms, pods = 120, 500
    start = np.sort(chance.random(vms)) * (hours - 1) * HOUR
    return Demand(
        horizon=hours * HOUR,
        vm_start=start,
        vm_end=start + 600 + chance.exponential(3_000.0, vms),
        vm_gpus=chance.choice([1, 1, 1, 2], vms),
        vm_model=(chance.random(vms) < 0.3).astype(np.int64),
        pod_start=np.sort(chance.random(pods)) * (hours - 1) * HOUR,
        pod_seconds=60 + chance.exponential(3_600.0, pods),
        pod_milli=chance.choice([100, 250, 470, 810, 1000], pods),
        pod_best_effort=chance.random(pods) < 0.6,
        pod_models=chance.choice([1, 2, 3, 3], pods),
        vm_idle_after=np.full(vms, np.inf),
    )


PINNED = {
    "B2": (0.781695, 0.351784, 66, 12, 0, 4138.275, 1038),
    "B3": (0.819488, 0.696298, 35, 12, 0, 6814.575, 1001),
    "B4": (0.880268, 0.286545, 72, 92, 0, 3318.935, 1199),
    "B5": (0.831075, 0.731251, 23, 195, 100, 6480.742, 1252),
    "B6": (0.877364, 0.383937, 65, 40, 0, 3927.277, 1069),
    "B7": (0.882085, 0.195988, 89, 22, 0, 3079.65, 1099),
    "B9": (0.780271, 0.796326, 19, 289, 203, 8216.645, 1220),
    "B10": (0.824274, 0.799373, 16, 131, 78, 7333.401, 1124),
}
"""Goodput, VM served, VMs lost, flips, evictions, mean wait of pods in seconds, decisions."""


@pytest.mark.parametrize("name", list(PINNED))
def test_a_small_congested_run_gives_the_figures_it_always_gave(name: str) -> None:
    asked, policy = congested(), policy_of(name)
    fleet = FleetPlan(
        np.full(8, 4, dtype=np.int64),
        np.array([0, 0, 0, 0, 0, 1, 1, 1]),
        ("NVIDIA A10", "NVIDIA L40S"),
        np.array([False] * 4 + [True] + [False] * 3),
    )
    pool = policy.pool(Pool(PoolName("p")), fleet.total)
    settings = ReplaySettings(on_release=policy.on_release)
    run = Replay(asked, fleet, pool, policy.make(), settings, passthrough_at_start=10)
    seen = run.run().figures()
    assert PINNED[name] == (
        round(seen.goodput, 6),
        round(seen.vm_served, 6),
        seen.vm_lost,
        round(seen.flips_per_gpu_day * fleet.total * asked.horizon / 86_400),
        seen.evictions,
        round(seen.pod_wait_mean_s, 3),
        len(run.plan_seconds),
    )
