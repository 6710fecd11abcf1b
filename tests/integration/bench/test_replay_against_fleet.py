"""The lean replay judges planners; the full fleet runs the live controller. Given the same demand and the same
planner they must agree on what people see: who got a GPU and about when, what moved, what was disturbed."""

import asyncio
from dataclasses import dataclass, replace

import numpy as np
import pytest

from bench.replay.demand import Demand, even_fleet
from bench.replay.replay import Replay
from bench.replay.state import ReplaySettings
from poolmgr.controller.interfaces import Dependencies
from poolmgr.controller.loop import Controller, LoopSettings
from poolmgr.domain.fleet import Pool
from poolmgr.domain.identifiers import PoolName
from poolmgr.domain.modes import Mode
from poolmgr.planner.plan import PoolPlanner
from poolmgr.sim.actuators import FixedLeadership, MemoryLedger
from poolmgr.sim.fleet import A10_RESOURCE, NodeShape, SimulatedFleet
from poolmgr.sim.world import PodRequest, VmRequest

HOUR = 3_600.0
CARD_MIB = 23_028
POOL = Pool(PoolName("p"), max_in_flight=8, cooldown_seconds=120)
MOVE_SECONDS = 60.0
"""About what a whole move takes on the simulated fleet: fence, settle, detach, rebind, attach."""


@dataclass(frozen=True)
class Case:
    vms: list[tuple[float, float]]
    """(start, seconds of use)."""
    pods: list[tuple[float, float]]
    """(start, seconds), whole cards."""


CASES = {
    "one desktop on an idle fleet": Case([(600.0, HOUR)], []),
    "desktops while containers run": Case(
        [(600.0, HOUR), (900.0, HOUR), (1_800.0, HOUR)], [(60.0, 2 * HOUR), (120.0, 3 * HOUR)]
    ),
    "containers that wait for a desktop to end": Case(
        [(300.0, HOUR), (330.0, HOUR), (360.0, HOUR), (390.0, HOUR)], [(1_800.0, HOUR), (1_860.0, HOUR)]
    ),
}


async def on_the_fleet(case: Case) -> tuple[int, float, int, dict[Mode | None, int]]:
    """(VMs that ran, longest wait, pods that started, GPUs by mode at the end)."""
    fleet = SimulatedFleet([NodeShape(count=2, gpus=2)], [POOL])
    bound: list[float] = []
    fleet.kube.on_bound.append(lambda vm: bound.append((vm.started_at or 0.0) - vm.created_at))
    fleet.kube.schedule(
        VmRequest(f"v{n}", at, seconds, A10_RESOURCE) for n, (at, seconds) in enumerate(case.vms)
    )
    pods = [
        PodRequest(f"x{n}", at, seconds, memory_mib=CARD_MIB, cores_percent=100)
        for n, (at, seconds) in enumerate(case.pods)
    ]
    fleet.kube.schedule(pods)
    actuators = fleet.actuators
    controller = Controller(
        Dependencies(
            fleet.clock,
            fleet,
            actuators,
            actuators,
            actuators,
            actuators,
            actuators,
            actuators,
            MemoryLedger(),
            FixedLeadership(),
            actuators,
            actuators.reservations,
        ),
        PoolPlanner(),
        LoopSettings(),
    )
    running = asyncio.create_task(controller.run())
    started: set[str] = set()
    for _ in range(240):
        await fleet.clock.run_for(60.0)
        started |= {p.request.name for p in fleet.world.pods.values() if p.started_at is not None}
    running.cancel()
    assert fleet.world.violations == []
    return len(bound), max(bound, default=0.0), len(started), fleet.modes()


def on_the_replay(case: Case) -> tuple[int, float, int, dict[Mode | None, int]]:
    count = len(case.vms)
    asked = Demand(
        horizon=4 * HOUR,
        vm_start=np.array([at for at, _ in case.vms]),
        # The replay's sessions end at a fixed time; on the fleet they last from when they run.
        vm_end=np.array([at + MOVE_SECONDS + seconds for at, seconds in case.vms]),
        vm_gpus=np.ones(count, dtype=np.int64),
        vm_model=np.zeros(count, dtype=np.int64),
        pod_start=np.array([at for at, _ in case.pods]),
        pod_seconds=np.array([seconds for _, seconds in case.pods]),
        pod_milli=np.full(len(case.pods), 1_000, dtype=np.int64),
        pod_best_effort=np.zeros(len(case.pods), dtype=bool),
        pod_models=np.ones(len(case.pods), dtype=np.int64),
        vm_idle_after=np.full(count, np.inf),
    )
    settings = ReplaySettings(flip_seconds=MOVE_SECONDS, patience_seconds=1e9)
    run = Replay(asked, even_fleet(2, 2), replace(POOL), PoolPlanner(), settings, passthrough_at_start=0)
    tally = run.run()
    waits = [at - tally.asked[vm] for vm, at in tally.bound.items()]
    modes: dict[Mode | None, int] = {}
    for gpu in run.snapshot().nodes[0].gpus + run.snapshot().nodes[1].gpus:
        modes[gpu.observed_mode] = modes.get(gpu.observed_mode, 0) + 1
    started = sum(1 for _, waited in tally.pod_waits.values() if waited >= 0)
    return len(waits), max(waits, default=0.0), started, modes


@pytest.mark.parametrize("name", list(CASES))
async def test_replay_and_fleet_agree_on_what_people_see(name: str) -> None:
    case = CASES[name]
    vms, wait, pods, modes = await on_the_fleet(case)
    lean_vms, lean_wait, lean_pods, lean_modes = on_the_replay(case)
    assert (vms, pods, modes) == (lean_vms, lean_pods, lean_modes)
    # VMs that arrive together share a node's one move at a time; a move there is longer than one flip.
    assert wait == pytest.approx(lean_wait, abs=1.5 * MOVE_SECONDS)
