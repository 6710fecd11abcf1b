"""One policy on one scenario: the line that `poolmgr simulate --json` prints."""

from dataclasses import asdict, replace
from time import perf_counter
from typing import Any

import numpy as np

from bench.policies.baselines import Policy
from bench.policies.catalog import policy_of, static_policy
from bench.quality.bounds import admission_bound, capacity_bound, lazy_over_optimum
from bench.replay.backlog import fullest, least_fragmenting
from bench.replay.replay import Replay
from bench.replay.state import ReplaySettings, remembered
from bench.replay.tally import Figures
from bench.scenarios.workload import Scenario
from poolmgr.domain.fleet import Pool
from poolmgr.domain.identifiers import PoolName

POOL = Pool(PoolName("fleet"))
VM_SERVED_FLOOR = 0.99
"""The service that a split in hindsight has to give VMs before its goodput counts."""
SPLITS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def replay(scenario: Scenario, policy: Policy, settings: ReplaySettings) -> tuple[Figures, list[float]]:
    """The figures, and the seconds that each decision took."""
    gpus = scenario.fleet.total
    pool = policy.pool(POOL, gpus, scenario.idle_vm)
    run = Replay(
        scenario.demand,
        scenario.fleet,
        pool,
        policy.make(),
        replace(settings, on_release=policy.on_release),
        passthrough_at_start=_at_start(scenario, policy),
        learned=remembered(scenario.demand, scenario.fleet.models, pool) if policy.forecasts else None,
        choose=least_fragmenting(scenario.demand) if policy.placement == "fgd" else fullest,
    )
    return run.run().figures(), run.plan_seconds


def _at_start(scenario: Scenario, policy: Policy) -> int:
    """GPUs in passthrough when the window opens: a fixed split's own; for policies that move, those of the VMs
    that run then, so that nobody is charged for moves that lie before the window. Whole nodes where GPUs move
    together."""
    demand, fleet = scenario.demand, scenario.fleet
    if policy.passthrough_at_start is not None:
        return round(policy.passthrough_at_start * fleet.total)
    running = int(demand.vm_gpus[(demand.vm_start <= 0.0) & (demand.vm_end > 0.0)].sum())
    bundle = int(fleet.gpus.max()) if fleet.nvswitch.any() else 1
    return min(-(-running // bundle) * bundle, fleet.total)


def _static_in_hindsight(scenario: Scenario, settings: ReplaySettings) -> tuple[Figures, list[float]]:
    """B1: the fixed split with the most goodput among those that serve VMs, else the one serving most."""
    runs = [replay(scenario, static_policy("B1", share), settings) for share in SPLITS]
    good = [run for run in runs if run[0].vm_served >= VM_SERVED_FLOOR]
    if good:
        return max(good, key=lambda run: run[0].goodput)
    return max(runs, key=lambda run: run[0].vm_served)


def score(scenario: Scenario, name: str, settings: ReplaySettings, split: str = "all") -> dict[str, Any]:
    """All figures of policy `name`. Raises Rejected for a name that is not known."""
    begun = perf_counter()
    if name == "B1":
        figures, seconds = _static_in_hindsight(scenario, settings)
    else:
        figures, seconds = replay(scenario, policy_of(name), settings)
    plan_ms = 1_000 * np.array(seconds or [0.0])
    gpus = scenario.fleet.total
    return {
        "scenario": scenario.name,
        "load": scenario.load,
        "policy": name,
        "seed": scenario.seed,
        **asdict(figures),
        "bound": admission_bound(scenario.demand, gpus),
        "bound_capacity": capacity_bound(scenario.demand, gpus),
        "lazy_over_optimum": lazy_over_optimum(scenario.demand, gpus),
        "gpus": gpus,
        "flip_seconds": settings.flip_seconds,
        "failures": settings.failures,
        "outages_per_node_day": settings.outages,
        "offered": scenario.demand.facts["offered"],
        "plan_ms_p50": float(np.percentile(plan_ms, 50)),
        "plan_ms_max": float(plan_ms.max()),
        "run_s": perf_counter() - begun,
        "period": scenario.period,
        "split": split,
        **scenario.facts,
        "note": scenario.note,
    }
