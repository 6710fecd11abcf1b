"""What waiting VMs and pods are told in Events is held against what the simulated fleet does next."""

import random
from collections import Counter

import pytest

from poolmgr.domain.plan import SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.planner.plan import PoolPlanner
from poolmgr.sim.fleet import A10_RESOURCE
from poolmgr.sim.world import PodRequest, VmRequest
from tests.unit.controller.rig import Rig

BOUND_WITHIN = {Reason.FREE_CAPACITY: 60.0, Reason.MOVE_UNDER_WAY: 600.0}
"""Seconds in which one has to have started that was told this: the scheduler's slowest look, and a move with every step late."""


async def note_started(rig: Rig, started: dict[str, float]) -> None:
    snapshot = await rig.fleet.snapshot()
    for workload in (*snapshot.vms, *snapshot.pods):
        if workload.node is not None:
            started.setdefault(workload.name, rig.fleet.clock.now())


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
async def test_who_is_told_of_a_gpu_starts(seed: int) -> None:
    chance, rig = random.Random(seed), Rig(nodes=2, gpus=2)
    controller, kube, clock = rig.controller(PoolPlanner()), rig.fleet.kube, rig.fleet.clock
    started: dict[str, float] = {}
    for rank in range(16):
        if chance.random() < 0.6:
            kube.create_vm(
                VmRequest(
                    f"vm{rank}",
                    clock.now(),
                    chance.uniform(60.0, 900.0),
                    A10_RESOURCE,
                    gpus=chance.choice((1, 1, 2)),
                )
            )
        else:
            kube.create_pod(PodRequest(f"pod{rank}", clock.now(), chance.uniform(60.0, 900.0), 6_000, 30))
        for _ in range(chance.randrange(2, 12)):
            await rig.run(controller, 10.0, every=5.0)
            await note_started(rig, started)
    for _ in range(30):
        await rig.run(controller, 10.0, every=5.0)
        await note_started(rig, started)
    claims: Counter[Reason] = Counter()
    untrue = []
    for at, subject, reason, message, _ in rig.fleet.actuators.events:
        limit = BOUND_WITHIN.get(reason)
        if limit is None or subject.kind not in (SubjectKind.VM, SubjectKind.POD) or at + limit > clock.now():
            continue
        claims[reason] += 1
        if started.get(subject.name, float("inf")) - at > limit:
            untrue.append((subject.name, at, message))
    assert claims[Reason.MOVE_UNDER_WAY]
    assert untrue == []
