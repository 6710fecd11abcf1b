"""Quotas hold on the simulated fleet whatever comes in between: nobody ever has more than the namespace may."""

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from poolmgr.controller.admitting import ADMISSIONS_A_TICK, Admitting
from poolmgr.controller.loop import Controller
from poolmgr.domain.demand import Gate
from poolmgr.domain.errors import Rejected, Unavailable
from poolmgr.domain.fleet import Pool, Quota
from poolmgr.domain.identifiers import WorkloadUid
from poolmgr.domain.plan import Admission, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.planner.plan import PoolPlanner
from poolmgr.sim.actuators import Crash, FixedLeadership
from poolmgr.sim.fleet import A10_RESOURCE
from poolmgr.sim.world import PodRequest, VmRequest
from tests.builders import pod, snapshot, vm
from tests.unit.controller.rig import POOL, Rig

pytestmark = pytest.mark.long

CARD_MIB = 23_028


def limited(**limits: float) -> Pool:
    return replace(POOL, quotas=tuple(Quota(namespace, most) for namespace, most in limits.items()))


def machine(name: str, at: float = 1_000.0, seconds: float = 1e6, namespace: str = "cad") -> VmRequest:
    return VmRequest(name, at, seconds, A10_RESOURCE, namespace=namespace, gated=True)


def container(
    name: str, at: float = 1_000.0, seconds: float = 1e6, share: float = 0.5, namespace: str = "cad"
) -> PodRequest:
    memory = int(CARD_MIB * share)
    return PodRequest(name, at, seconds, memory, int(100 * share), namespace=namespace, gated=True)


def held(rig: Rig) -> Counter[str]:
    """GPUs by namespace that really are somebody's."""
    found: Counter[str] = Counter()
    for machine_ in rig.fleet.world.vms.values():
        found[machine_.request.namespace] += len(machine_.devices)
    for pod_ in rig.fleet.world.pods.values():
        found[pod_.request.namespace] += sum(s.memory_mib for s in pod_.slices) / CARD_MIB  # type: ignore[assignment]
    return found


def manager(rig: Rig) -> Controller:
    return rig.controller(PoolPlanner())


async def test_the_third_machine_waits_until_one_of_two_ends() -> None:
    rig = Rig(nodes=1, gpus=4, pools=(limited(cad=2),))
    rig.fleet.kube.schedule([machine("a", seconds=300.0), machine("b"), machine("c")])
    controller = manager(rig)
    await rig.run(controller, 250)
    assert held(rig) == {"cad": 2}
    said = [e[3] for e in rig.fleet.actuators.events if e[1].name == "c"]
    assert said[0] == "it would take namespace cad over its quota of 2 GPU(s) in pool a10"
    await rig.run(controller, 300)
    assert sorted(vm_.request.name for vm_ in rig.fleet.world.vms.values() if vm_.node) == ["b", "c"]
    assert [e[2] for e in rig.fleet.actuators.events if e[1].name == "c"][-1] is not Reason.QUOTA_EXCEEDED


@pytest.mark.parametrize("seed", range(6))
async def test_nobody_ever_holds_more_than_the_namespace_may(seed: int) -> None:
    rng = random.Random(seed)
    limits = {"cad": 2.5, "ml": 1.0}
    rig = Rig(nodes=2, gpus=3, pools=(limited(**limits),))
    requests: list[VmRequest | PodRequest] = []
    for n in range(30):
        namespace, at = rng.choice(["cad", "ml", "free"]), 1_000.0 + rng.uniform(0, 1_200)
        seconds = rng.uniform(30, 600)
        if rng.random() < 0.4:
            requests.append(machine(f"v{n}", at, seconds, namespace))
        else:
            requests.append(container(f"p{n}", at, seconds, rng.choice([0.25, 0.5, 1.0]), namespace))
    rig.fleet.kube.schedule(requests)
    controller = manager(rig)
    most: Counter[str] = Counter()
    world, clock = rig.fleet.world, rig.fleet.clock
    while clock.now() < 2_300 or world.vms or world.pods:
        assert clock.now() < 12_000, "everybody has a turn"
        await rig.run(controller, 1.0)
        now = held(rig)
        most |= now
        assert all(now[name] <= limit + 0.01 for name, limit in limits.items()), now
        if rng.random() < 0.005:
            rig.leadership.hand_over()
            controller = manager(rig)
    assert most["cad"] > 0.9


async def test_a_manager_that_dies_at_any_admission_leaves_nobody_out_and_admits_nobody_twice() -> None:
    undisturbed = Rig(nodes=1, gpus=4, pools=(limited(cad=2),))
    undisturbed.fleet.kube.schedule([machine(n) for n in "abc"])
    await undisturbed.run(manager(undisturbed), 200)
    points = [n for n, name, _ in undisturbed.fleet.faults.log if name == "ensure_admitted"]
    assert len(points) == 2
    for number in points:
        for when in ("before", "after"):
            rig = Rig(nodes=1, gpus=4, pools=(limited(cad=2),))
            rig.fleet.kube.schedule([machine(n) for n in "abc"])
            rig.fleet.faults.crash_at[number] = when  # type: ignore[assignment]
            with pytest.raises(Crash):
                await rig.run(manager(rig), 200)
            rig.leadership.hand_over()
            await rig.run(manager(rig), 200)
            assert held(rig) == {"cad": 2}


class Door:
    """An `Admitter` that notes who was let in, and fails as told."""

    def __init__(self) -> None:
        self.let_in: list[str] = []
        self.failures: dict[str, Any] = {}

    async def ensure_admitted(self, pod: WorkloadUid, namespace: str, name: str) -> None:
        if name in self.failures:
            raise self.failures[name]
        self.let_in.append(name)


def admission(name: str) -> Admission:
    return Admission(Subject(SubjectKind.POD, "ml", name), WorkloadUid(f"uid-{name}"), name, "go on")


async def test_what_was_lifted_and_is_not_seen_yet_counts_as_lifted() -> None:
    admitting = Admitting(Door(), FixedLeadership())
    gated = snapshot(
        pods=(pod("a", gate=Gate.OURS), pod("b", gate=Gate.OURS)), vms=(vm("v", gate=Gate.OURS),)
    )
    launcher = Admission(Subject(SubjectKind.VM, "desktops", "v"), WorkloadUid("launcher-v"), "l", "go on")
    await admitting.follow((admission("a"), launcher))
    seen = admitting.applied(gated)
    assert [p.gate for p in seen.pods] == [Gate.OPEN, Gate.OURS]
    assert [v.gate for v in seen.vms] == [Gate.OPEN]
    there = replace(gated, pods=(pod("a"), pod("b", gate=Gate.OURS)), vms=())
    assert admitting.applied(there) is there
    assert admitting.applied(gated) is gated, (
        "another pod of the same name and UID cannot be; it was seen once"
    )


async def test_one_that_fails_keeps_no_other_and_an_api_server_that_is_away_ends_the_round() -> None:
    door = Door()
    door.failures["b"] = Rejected(Reason.FORBIDDEN, "a policy says no")
    admitting = Admitting(door, FixedLeadership())
    made = await admitting.follow(tuple(map(admission, "abc")))
    assert [a.pod_name for a in made] == door.let_in == ["a", "c"]
    door.failures["d"] = Unavailable(Reason.API_UNAVAILABLE, "away")
    assert await admitting.follow(tuple(map(admission, "de"))) == ()
    assert door.let_in == ["a", "c"]


async def test_at_most_so_many_are_let_in_at_a_tick_and_none_without_the_lease() -> None:
    door, leadership = Door(), FixedLeadership()
    many = tuple(admission(f"p{n}") for n in range(ADMISSIONS_A_TICK + 5))
    await Admitting(door, leadership).follow(many)
    assert len(door.let_in) == ADMISSIONS_A_TICK
    leadership.held = None
    assert await Admitting(door, leadership).follow(many) == ()
