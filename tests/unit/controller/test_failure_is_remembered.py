"""A move that failed is not begun again at once: what an hour of a GPU that cannot be rebound costs its node."""

from collections import Counter
from dataclasses import replace

import pytest

from poolmgr.controller import intents, lessons
from poolmgr.controller.loop import Controller
from poolmgr.domain import backoff
from poolmgr.domain.backoff import (
    CLOSED_SECONDS_AN_HOUR,
    HOUR,
    PLUGIN_STOPS_AN_HOUR,
    WHOLE_NODE,
    Disturbance,
)
from poolmgr.domain.errors import Rejected, Unavailable
from poolmgr.domain.fleet import Node, Pool
from poolmgr.domain.identifiers import LeaseEpoch, NodeName, PlanId, PoolName
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.plan import SubjectKind, Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.planner.plan import PoolPlanner
from poolmgr.sim.fleet import A10, A10_RESOURCE
from poolmgr.sim.world import PodRequest, SimGpu, SimNode, VmRequest
from tests.builders import NOW, gpu, node, paused, sharing, transition
from tests.unit.controller.rig import Rig

pytestmark = pytest.mark.long

PLANNED = Pool(PoolName("a10"), models=(A10,), max_in_flight=4, cooldown_seconds=300)


class StubbornRig(Rig):
    """The agents refuse to rebind the GPUs in `stubborn` at the very last, as they do where a holder comes back each
    time; what they say all the time is that it could be done."""

    def __init__(self, stubborn: set[tuple[str, int]], **shape: int) -> None:
        super().__init__(pools=(PLANNED,), **shape)
        self.stubborn = stubborn
        self.moves: Counter[str] = Counter()
        self.cordoned: Counter[str] = Counter()
        self._seen: set[tuple[str, str]] = set()
        agents, rebind = self.fleet.agents, self.fleet.agents._rebind

        def refusing(at: SimNode, found: SimGpu, wanted: Mode, plan_id: PlanId) -> None:
            if (str(at.name), at.gpus.index(found)) in self.stubborn and wanted is Mode.PASSTHROUGH:
                found.reason = Reason.HOLDER_PRESENT
                found.message = f"{found.pci_address} is open in monitor (pid 7); not unbound"
            else:
                rebind(at, found, wanted, plan_id)

        agents._rebind = refusing  # type: ignore[method-assign]

    def wait_with_a_vm(self, name: str = "desk") -> None:
        self.fleet.kube.create_vm(VmRequest(name, self.fleet.clock.now(), 1e9, A10_RESOURCE))

    async def watch(self, controller: Controller, seconds: float) -> None:
        for _ in range(int(seconds)):
            await self.run(controller, 1.0)
            for at in self.fleet.world.nodes.values():
                self.cordoned[at.name] += at.unschedulable
                if at.transition is not None:
                    self._seen.add((at.name, at.transition.plan_id))
        self.moves = Counter(name for name, _ in self._seen)

    def node(self, name: str = "node-1") -> SimNode:
        return self.fleet.world.nodes[NodeName(name)]


async def test_one_node_is_disturbed_once_an_hour_for_a_gpu_that_refuses() -> None:
    rig = StubbornRig({("node-1", 0), ("node-1", 1)}, nodes=1, gpus=2)
    rig.fleet.kube.create_pod(PodRequest("train", 1_000.0, 1e9, 23_000, 100))
    await rig.fleet.clock.run_for(60)
    controller = rig.controller(PoolPlanner())
    rig.wait_with_a_vm()
    await rig.watch(controller, HOUR)
    assert rig.moves == {"node-1": 1}
    assert rig.cordoned["node-1"] < 0.1 * HOUR
    failures = {b.pci_address: b.failures for b in rig.node().backoffs}
    assert failures[WHOLE_NODE] == 1 and len(failures) == 2, "the GPU that was tried, and its node"
    assert controller.plan is not None
    said = [r for r in controller.plan.refusals if r.reason is Reason.RECENTLY_FAILED]
    assert said and all("is not moved before" in r.message and "poolmgr.io/retry" in r.message for r in said)
    assert "RecentlyFailed" in next(
        r.message for r in controller.plan.refusals if r.subject.kind is SubjectKind.VM
    ), "whoever waits is told what keeps the GPUs"


async def test_a_fleet_that_refuses_is_tried_once_for_each_node() -> None:
    every = {(f"node-{k}", i) for k in (1, 2, 3) for i in range(4)}
    rig = StubbornRig(every, nodes=3, gpus=4)
    controller = rig.controller(PoolPlanner())
    rig.wait_with_a_vm()
    await rig.watch(controller, HOUR)
    assert rig.moves == {"node-1": 1, "node-2": 1, "node-3": 1}


async def test_another_candidate_is_tried_first() -> None:
    rig = StubbornRig({("node-1", 0), ("node-1", 1)}, nodes=2, gpus=2)
    rig.fleet.kube.create_pod(PodRequest("train", 1_000.0, 1e9, 23_000, 100))
    await rig.fleet.clock.run_for(60)
    controller = rig.controller(PoolPlanner())
    for name in ("first", "second", "third"):
        rig.wait_with_a_vm(name)
    await rig.watch(controller, 1_200)
    assert rig.moves["node-1"] <= 1
    assert rig.moves["node-2"] >= 1


async def test_a_successor_remembers_and_the_pause_grows() -> None:
    rig = StubbornRig({("node-1", 0)}, nodes=1, gpus=1)
    rig.wait_with_a_vm()
    await rig.watch(rig.controller(PoolPlanner()), 600)
    first = rig.node().backoffs
    assert rig.moves == {"node-1": 1}
    rig.leadership.hand_over()
    successor = rig.controller(PoolPlanner())
    await rig.watch(successor, HOUR / 2)
    assert rig.moves == {"node-1": 1}, "another leader, the same memory"
    await rig.watch(successor, HOUR)
    assert rig.moves == {"node-1": 2}
    before, after = first[0], rig.node().backoffs[0]
    assert (before.failures, after.failures) == (1, 2)
    assert after.until - after.failed_at > 1.5 * (before.until - before.failed_at)


async def test_an_operators_annotation_has_it_tried_at_once_and_goes() -> None:
    rig = StubbornRig({("node-1", 0)}, nodes=1, gpus=1)
    controller = rig.controller(PoolPlanner())
    rig.wait_with_a_vm()
    await rig.watch(controller, 600)
    assert rig.node().backoffs
    rig.stubborn.clear()
    rig.node().retry = "all"
    rig.fleet._touch(NodeName("node-1"))
    await rig.watch(controller, 120)
    assert rig.node().retry == ""
    assert rig.mode(0) is Mode.PASSTHROUGH
    assert rig.node().backoffs == (), "a success ends what is left"


async def test_the_rest_call_ends_pauses_unless_it_is_a_dry_run() -> None:
    rig = StubbornRig({("node-1", 0)}, nodes=1, gpus=2)
    controller = rig.controller(PoolPlanner())
    rig.wait_with_a_vm()
    with pytest.raises(Rejected):
        await controller.request_retry("node-7", (), dry_run=True)
    await rig.watch(controller, 20)
    with pytest.raises(Unavailable) as moving:
        await controller.request_retry("node-1", (), dry_run=True)
    assert moving.value.reason is Reason.NODE_IN_TRANSITION
    await rig.watch(controller, 600)
    known = rig.node().backoffs
    with pytest.raises(Rejected):
        await controller.request_retry("node-1", ("0000:99:00.0",), dry_run=False)
    assert await controller.request_retry("node-1", (), dry_run=True) == known == rig.node().backoffs
    assert await controller.request_retry("node-1", (rig.address(0),), dry_run=False) == known
    assert rig.node().backoffs == ()


async def test_moves_that_succeed_are_counted_and_bounded_as_well() -> None:
    rig = Rig(nodes=1, gpus=1)
    controller = rig.controller()
    way = [Mode.PASSTHROUGH, Mode.SHARED]
    began = rig.fleet.clock.now()
    done = 0
    while rig.fleet.clock.now() < began + HOUR:
        rig.want(way[done % 2], 0)
        await rig.run(controller, 5.0)
        done += rig.quiet()
    found = rig.fleet.world.nodes[NodeName("node-1")]
    stops = sum(d.plugin_stops for d in found.disturbances)
    seconds = sum(d.closed_seconds for d in found.disturbances)
    assert done > 3
    assert stops <= PLUGIN_STOPS_AN_HOUR
    assert seconds <= CLOSED_SECONDS_AN_HOUR + 120
    assert stops == PLUGIN_STOPS_AN_HOUR or seconds >= CLOSED_SECONDS_AN_HOUR, (
        "the bound was reached and held"
    )


G0, G1 = gpu(0, desired_mode=Mode.PASSTHROUGH), gpu(1)


def blamed(step: Step, reason: Reason = Reason.STEP_TIMED_OUT, why: Reason = Reason.VM_WAITING, **over):
    found = node(G0, G1, transition=transition(G0, step=step, reason=why.value), **over)
    assert found.transition is not None
    known = lessons.after_failure(found, found.transition, reason, "late", NOW)
    return {b.pci_address for b in known}


def test_who_rests_follows_from_the_step_that_failed() -> None:
    here = G0.pci_address
    assert blamed(Step.FENCE) == blamed(Step.DETACH) == blamed(Step.ATTACH) == {WHOLE_NODE}
    assert blamed(Step.DRAIN) == {here}, "nobody but its own pods was disturbed"
    assert blamed(Step.REBIND) == {here, WHOLE_NODE}, "the whole node was cordoned for nothing"
    assert blamed(Step.REBIND, sharing=None) == {here}
    assert blamed(Step.DRAIN, Reason.GPU_BUSY) == set()
    assert blamed(Step.DRAIN, why=Reason.HEADROOM) == set(), (
        "closed ahead, and its pods ran on: that is no failure"
    )


def test_a_gpu_that_arrived_is_not_blamed_for_its_neighbour() -> None:
    there = gpu(1, mode=Mode.PASSTHROUGH)
    found = node(G0, there, transition=transition(G0, there, step=Step.REBIND))
    assert found.transition is not None
    known = lessons.after_failure(found, found.transition, Reason.STEP_TIMED_OUT, "late", NOW)
    assert {b.pci_address for b in known} == {G0.pci_address, WHOLE_NODE}


def test_putting_things_right_after_a_reboot_is_no_success_of_a_plan() -> None:
    arrived = gpu(0, mode=Mode.PASSTHROUGH)
    known = (paused(G0.pci_address),)
    for why, left in ((Reason.DRIFTED, known), (Reason.VM_WAITING, ())):
        moved = transition(arrived, step=Step.DONE, reason=why.value)
        assert intents.ended(node(arrived, transition=moved, backoffs=known), NOW).backoffs == left


def test_a_quarantined_gpu_is_remembered_though_the_others_of_its_move_arrived() -> None:
    arrived = gpu(0, mode=Mode.PASSTHROUGH)
    broken = gpu(1, desired_mode=Mode.PASSTHROUGH, phase=DevicePhase.QUARANTINED, message="no answer")
    moved = transition(arrived, broken, step=Step.DONE)
    known = intents.ended(node(arrived, broken, transition=moved), NOW).backoffs
    assert [(b.pci_address, b.message) for b in known] == [(broken.pci_address, "no answer")]


def test_a_gpu_that_ends_its_move_unlisted_by_hami_has_failed() -> None:
    back, other = gpu(0), gpu(1)
    moved = transition(back, other, to=Mode.SHARED, step=Step.DONE)
    known = (paused(other.pci_address), paused(WHOLE_NODE))
    found = node(back, other, transition=moved, sharing=sharing(other), backoffs=known)
    (rests,) = intents.ended(found, NOW).backoffs
    assert (rests.pci_address, rests.reason) == (back.pci_address, Reason.NOT_LISTED)
    assert "HAMi does not list it" in rests.message


def test_stopping_the_plugin_is_noted_as_the_step_that_does_it_begins() -> None:
    draining = node(G0, G1, transition=transition(G0, step=Step.DRAIN, started_at=NOW))
    noted = intents.at_step(draining, Step.DETACH, LeaseEpoch(1), NOW).disturbances
    assert noted == (Disturbance(NOW, 1),)
    again = replace(draining, disturbances=noted)
    assert intents.at_step(again, Step.DETACH, LeaseEpoch(1), NOW + 9).disturbances == noted
    assert draining.transition is not None
    undoing = replace(again, transition=replace(draining.transition, rollback=True))
    assert intents.at_step(undoing, Step.DETACH, LeaseEpoch(1), NOW + 99).disturbances == (
        Disturbance(NOW, 2),
    )
    stopped = replace(draining, sharing=sharing(G0, G1, plugin_wanted=False))
    assert intents.at_step(stopped, Step.DETACH, LeaseEpoch(1), NOW).disturbances == ()


BOTH = frozenset({G0.uuid, G1.uuid})
LEAVING = gpu(0, mode=Mode.PASSTHROUGH, desired_mode=Mode.SHARED)
STOPPED_BY = gpu(2, closed=Verdict(False, Reason.GPU_QUARANTINED, "taken out of use by anna"))


@pytest.mark.parametrize(
    ("found", "to", "seconds"),
    [
        (node(G0, G1, sharing=sharing(G0, G1, closing=BOTH)), Mode.PASSTHROUGH, 400.0),
        (node(G0, G1, sharing=sharing(G0, G1, closing=frozenset({G0.uuid}))), Mode.PASSTHROUGH, 200.0),
        (node(G0, G1, sharing=sharing(G0, G1, version=(2, 8))), Mode.PASSTHROUGH, 200.0),
        (node(G0, G1, cordoned=True, cordoned_by_us=True), Mode.PASSTHROUGH, 400.0),
        (
            node(
                G0,
                gpu(1),
                STOPPED_BY,
                gpu(3),
                sharing=sharing(G0, gpu(1), STOPPED_BY, gpu(3), closing=frozenset({G0.uuid, "GPU-n1-2"})),
            ),
            Mode.PASSTHROUGH,
            100.0,
        ),
        (node(LEAVING, G1, sharing=sharing(G1, closing=frozenset({G1.uuid}))), Mode.SHARED, 400.0),
        (node(LEAVING, G1), Mode.SHARED, 0.0),
        (node(G0, G1, sharing=None), Mode.PASSTHROUGH, 0.0),
    ],
    ids=[
        "all are closed",
        "the others are open meanwhile",
        "2.8 closes by our webhook",
        "the node is cordoned",
        "what an operator closes is not the move's",
        "the others close for one that comes back",
        "one that comes back closes none by itself",
        "a node without HAMi",
    ],
)
def test_what_a_move_keeps_closed_before_the_plugin_is_stopped_is_counted(
    found: Node, to: Mode, seconds: float
) -> None:
    """As seconds of the whole node; also where the move is given up before it stops the plugin."""
    began, step = NOW - 400, {"step": Step.DRAIN, "started_at": NOW - 400, "step_started_at": NOW - 390}
    moved = replace(found, transition=transition(found.gpus[0], to=to, **step))
    noted = intents.at_step(moved, Step.DETACH, LeaseEpoch(1), NOW).disturbances
    if found.sharing is not None:
        assert noted == (Disturbance(NOW - seconds, 1),)
        over = backoff.ended(noted, began, NOW + 60)
        assert over == (Disturbance(NOW - seconds, 1, seconds + 60),)
    undone = intents.rolled_back(moved, Step.ATTACH, Reason.STEP_TIMED_OUT, "late", LeaseEpoch(1), NOW)
    for_nothing = ((Disturbance(NOW - seconds, 0, seconds)),) if seconds else ()
    assert undone.disturbances == for_nothing
    assert backoff.spent(for_nothing, NOW).closed_seconds == seconds


def test_gpus_that_a_move_gives_up_while_it_waits_are_counted_as_they_are_opened() -> None:
    both = (G0, replace(G1, desired_mode=Mode.PASSTHROUGH))
    waits = transition(*both, step=Step.DRAIN, started_at=NOW - 400)
    found = node(*both, transition=waits, sharing=sharing(*both, closing=BOTH))
    smaller = intents.shrunk(found, (G0.pci_address,), LeaseEpoch(1), NOW)
    assert smaller.disturbances == (Disturbance(NOW - 200, 0, 200.0),)


def test_once_the_plugin_has_been_stopped_all_of_the_time_counts_until_the_end() -> None:
    for step in (Step.DRAIN, Step.DETACH, Step.REBIND):
        move = transition(G0, step=step, started_at=NOW - 400)
        stopped = node(G0, G1, transition=move, disturbances=(Disturbance(NOW - 100, 1),))
        undone = intents.rolled_back(stopped, Step.FENCE, Reason.STEP_TIMED_OUT, "late", LeaseEpoch(1), NOW)
        assert undone.disturbances == stopped.disturbances


def test_a_wait_longer_than_the_bound_is_remembered_for_an_hour_after_its_end() -> None:
    waited = 3 * HOUR
    move = transition(G0, step=Step.DRAIN, started_at=NOW - waited)
    alone = node(G0, transition=move)
    noted = intents.at_step(alone, Step.DETACH, LeaseEpoch(1), NOW).disturbances
    assert noted == (Disturbance(NOW - waited, 0, waited), Disturbance(NOW, 1))
    over = backoff.ended(noted, move.started_at, NOW + 60)
    assert backoff.node_rests(alone.name, (), over, NOW + HOUR - 1).reason is Reason.DISTURBANCE_SPENT
    assert not backoff.node_rests(alone.name, (), over, NOW + HOUR + 1)
