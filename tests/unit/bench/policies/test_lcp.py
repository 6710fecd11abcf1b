"""Lazy capacity provisioning against the best that hindsight could do."""

import itertools

import numpy as np
import pytest

from bench.policies.lcp import advance, limits, step_cost
from bench.quality.bounds import lazy_over_optimum
from bench.replay.demand import Demand

BETA, GPUS = 30.0, 4


def lazily(vms: list[float], pods: list[float]) -> float:
    """What the online rule pays, from size 0."""
    size, paid = 0, 0.0
    work = BETA * np.arange(GPUS + 1, dtype=np.float64)
    for wanted, waiting in zip(vms, pods, strict=True):
        cost = step_cost(GPUS, wanted, waiting, 10.0, 1.0, 1.0)
        work = advance(work, cost, BETA)
        low, high = limits(work, BETA)
        new = min(max(size, low), high)
        paid += float(cost[new]) + BETA * abs(new - size)
        size = new
    return paid


def brute_force(vms: list[float], pods: list[float]) -> float:
    best = float("inf")
    for sizes in itertools.product(range(GPUS + 1), repeat=len(vms)):
        paid = 0.0
        for previous, size, wanted, waiting in zip((sizes[0], *sizes), sizes, vms, pods, strict=False):
            paid += float(step_cost(GPUS, wanted, waiting, 10.0, 1.0, 1.0)[size]) + BETA * abs(
                size - previous
            )
        best = min(best, paid)
    return best


@pytest.mark.parametrize("seed", range(6))
def test_dynamic_programme_is_the_optimum_of_all_sequences(seed: int) -> None:
    chance = np.random.default_rng(seed)
    vms, pods = chance.integers(0, 5, 5).astype(float), chance.integers(0, 5, 5).astype(float)
    work = np.zeros(GPUS + 1)
    for wanted, waiting in zip(vms, pods, strict=True):
        work = advance(work, step_cost(GPUS, wanted, waiting, 10.0, 1.0, 1.0), BETA)
    assert float(work.min()) == pytest.approx(brute_force(list(vms), list(pods)))


@pytest.mark.parametrize("seed", range(20))
def test_online_rule_never_pays_more_than_three_times_the_optimum(seed: int) -> None:
    chance = np.random.default_rng(100 + seed)
    length = 60
    vms = chance.integers(0, 5, length).astype(float)
    pods = chance.integers(0, 5, length).astype(float)
    if seed % 2:  # long phases hurt a lazy provider most
        vms, pods = np.repeat(vms[:12], 5), np.repeat(pods[:12], 5)
    work = BETA * np.arange(GPUS + 1, dtype=np.float64)
    for wanted, waiting in zip(vms, pods, strict=True):
        work = advance(work, step_cost(GPUS, wanted, waiting, 10.0, 1.0, 1.0), BETA)
    optimum = float(work.min())
    assert lazily(list(vms), list(pods)) <= 3.0 * optimum + 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_lazy_provisioning_stays_within_its_proven_ratio_on_a_demand_of_sessions_and_pods(seed: int) -> None:
    chance = np.random.default_rng(seed)
    start = np.sort(chance.random(80)) * 36_000
    zeros = np.zeros(80, dtype=np.int64)
    demand = Demand(
        horizon=43_200.0,
        vm_start=start,
        vm_end=start + chance.exponential(3_000.0, 80),
        vm_gpus=zeros + 1,
        vm_model=zeros,
        pod_start=start,
        pod_seconds=chance.exponential(6_000.0, 80),
        pod_milli=zeros + 1_000,
        pod_best_effort=zeros > 0,
        pod_models=zeros + 1,
        vm_idle_after=np.full(80, np.inf),
    )
    assert 1.0 <= lazy_over_optimum(demand, 10) <= 3.0
    assert lazy_over_optimum(demand, 200) == pytest.approx(1.0, abs=0.6)
