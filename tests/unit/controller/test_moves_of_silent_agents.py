"""An agent falls silent somewhere in a move: dead, cut off from the API server, or standing still at the worst place. However
long that lasts, HAMi and the node are back within minutes, no GPU is offered twice or unbound while it is used, and when the
agent is back every GPU ends where it is wanted.

Seconds are of the fleet's virtual clock.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle

import pytest

from poolmgr.controller.executor.advance import StepDeadlines
from poolmgr.controller.loop import Controller
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.liveness import SILENT_SECONDS
from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.reasons import Reason
from poolmgr.domain.usage import is_parked
from poolmgr.sim.actuators import When
from poolmgr.sim.agent import SimAgents
from poolmgr.sim.fleet import A10_RESOURCE
from poolmgr.sim.world import PodRequest, SimNode, SpecRead, VmRequest
from tests.unit.controller.rig import POOL, Rig

pytestmark = pytest.mark.long

NODE = NodeName("node-1")

SILENCES: dict[str, tuple[Callable[[SimAgents, NodeName], None], Callable[[SimAgents, NodeName], None]]] = {
    "dead": (SimAgents.kill, SimAgents.start),
    "cut-off": (SimAgents.cut_off, SimAgents.reconnect),
    "frozen": (SimAgents.freeze, SimAgents.thaw),
}
ONE_AT_A_TIME = replace(POOL, max_in_flight=1)
BOTH_WAYS = [Mode.PASSTHROUGH, Mode.SHARED]
BACK_AFTER = SILENT_SECONDS + StepDeadlines().silence + 120
"""Of silence: HAMi has the node back. The last two minutes: its plugin starts and its scheduler looks."""


@dataclass
class Silence:
    """One move on a node of four GPUs, on one of which somebody works, and what its agent does to it."""

    rig: Rig
    controller: Controller
    index: int
    """Of the GPU that moves."""
    to_mode: Mode

    @classmethod
    async def before(cls, to_mode: Mode, hami: tuple[int, int] = (2, 10)) -> "Silence":
        """The move is about to begin."""
        rig = Rig(gpus=4, hami_version=hami)
        controller = rig.controller()
        rig.fleet.kube.create_pod(PodRequest("stays", 1_000.0, 1e9, 3_000, 30))
        await rig.run(controller, 60)
        (pod,) = rig.fleet.world.pods.values()
        index = next(
            i for i, gpu in enumerate(rig.fleet.world.nodes[NODE].gpus) if gpu.uuid != pod.slices[0].uuid
        )
        if to_mode is Mode.SHARED:
            rig.want(Mode.PASSTHROUGH, index)
            await rig.run_until_quiet(controller)
        rig.want(to_mode, index)
        return cls(rig, controller, index, to_mode)

    @property
    def node(self) -> SimNode:
        return self.rig.fleet.world.nodes[NODE]

    @property
    def uuid(self) -> str:
        return self.node.gpus[self.index].uuid

    async def run(self, seconds: float, *, every: float = 1.0) -> None:
        """Looks for the promises each second, or where nothing is expected to happen `every` so many."""
        await self.rig.run(self.controller, seconds, every=every)

    async def until(self, step: Step, extra: int = 0) -> None:
        for _ in range(300):
            if self.rig.transition_step() is step:
                break
            await self.run(1)
        assert self.rig.transition_step() is step, self.rig.state()
        await self.run(extra)

    def open_but_for_the_moving(self) -> bool:
        sharing = self.node.sharing
        others = {g.uuid for i, g in enumerate(self.node.gpus) if i != self.index}
        listed = others <= {g.uuid for g in sharing.registered}
        return sharing.ready and listed and not self.node.unschedulable and sharing.fence <= {self.uuid}

    async def fall_silent(self, how: str, seconds: float) -> None:
        """For so long, and with HAMi back all the while but for the first minutes."""
        agents = self.rig.fleet.agents
        SILENCES[how][0](agents, NODE)
        await self.run(min(seconds, BACK_AFTER))
        for _ in range(0, int(seconds - BACK_AFTER), 20):
            await self.run(20, every=20)
            assert self.open_but_for_the_moving(), self.rig.state()
        SILENCES[how][1](agents, NODE)

    async def settle(self) -> None:
        """Nobody plans anew, and every GPU comes to be where it is wanted, and is had by whom it is meant for."""
        self.rig.orders.wanted.clear()
        await self.run(120)
        await self.run(900, every=4)
        node = self.node
        assert node.transition is None and not node.unschedulable and not node.sharing.fence, self.rig.state()
        listed = {g.uuid for g in node.sharing.registered}
        for gpu in node.gpus:
            wanted, _ = node.desired[gpu.pci_address]
            assert gpu.mode is wanted, self.rig.state()
            assert (gpu.uuid in listed) is (wanted is Mode.SHARED), f"{gpu.uuid}: {self.rig.state()}"
            assert gpu.advertised is (wanted is Mode.PASSTHROUGH), self.rig.state()
        (pod,) = self.rig.fleet.world.pods.values()
        assert pod.run == 1 and not pod.ended, "who worked there still does"


@pytest.mark.parametrize("to_mode", BOTH_WAYS)
@pytest.mark.parametrize("how", SILENCES)
@pytest.mark.parametrize("step", [Step.FENCE, Step.DETACH, Step.REBIND, Step.ATTACH])
async def test_hami_is_back_within_minutes_wherever_the_agent_fell_silent(
    how: str, step: Step, to_mode: Mode
) -> None:
    move = await Silence.before(to_mode)
    await move.until(step)
    await move.fall_silent(how, 1_500)
    await move.settle()
    assert sum(d.plugin_stops for d in move.node.disturbances) <= 2 + (to_mode is Mode.SHARED)


@pytest.mark.sweep
@pytest.mark.parametrize("hami", [(2, 10), (2, 8)], ids=["hami-2.10", "hami-2.8"])
@pytest.mark.parametrize("to_mode", BOTH_WAYS)
@pytest.mark.parametrize("how", SILENCES)
async def test_an_agent_may_fall_silent_at_any_second_and_for_any_time(
    how, to_mode, hami, record_property
) -> None:
    undisturbed = await Silence.before(to_mode, hami)
    seconds = 0
    while not undisturbed.rig.quiet():
        await undisturbed.run(1)
        seconds += 1
    points = list(zip(range(1, seconds, 4), cycle((90, 340, 1_000, 300, 420)), strict=False))
    for second, lasts in points:
        move = await Silence.before(to_mode, hami)
        await move.run(second)
        await move.fall_silent(how, lasts)
        await move.settle()
    record_property("points", f"silent ({how}) at {len(points)} points of a move to {to_mode}, HAMi {hami}")


async def test_a_parked_gpu_is_closed_and_the_rest_of_the_node_serves() -> None:
    move = await Silence.before(Mode.PASSTHROUGH)
    await move.until(Step.REBIND)
    move.rig.fleet.agents.cut_off(NODE)
    await move.run(BACK_AFTER)
    assert move.rig.transition_step() is Step.ATTACH and move.node.sharing.fence == {move.uuid}
    said = [s.message for s in move.rig.ledger.steps if s.reason is Reason.AGENT_SILENT]
    assert any("HAMi gets node-1 back; of NVIDIA A10" in s for s in said)
    assert any("is closed to new vGPU pods" in s and "last heard from at" in s for s in said)
    move.rig.fleet.kube.create_pod(PodRequest("comes", move.rig.fleet.clock.now(), 1e9, 20_000, 60))
    await move.run(60)
    comes = next(p for p in move.rig.fleet.world.pods.values() if p.request.name == "comes")
    assert comes.started_at is not None and comes.slices[0].uuid != move.uuid


@pytest.mark.parametrize(
    ("hami", "refused"),
    [((2, 10), False), ((2, 10), True), ((2, 8), False)],
    ids=["hami-2.10", "hami-2.10-one-write-refused", "hami-2.8"],
)
async def test_hamis_scheduler_has_looked_before_a_node_with_a_parked_gpu_is_opened(
    hami: tuple[int, int], refused: bool
) -> None:
    asked, opened = "ensure_scheduler_asked", "ensure_cordoned"
    calls = await calls_while_parked(hami, {})
    assert [name for _, name in calls if name in (asked, opened)] == [asked, opened]
    if refused:
        number = next(number for number, name in calls if name == asked)
        calls = await calls_while_parked(hami, {number: "before"})
        assert [name for _, name in calls if name in (asked, opened)] == [asked, asked, opened]


async def calls_while_parked(hami: tuple[int, int], fail_at: dict[int, When]) -> list[tuple[int, str]]:
    """(number, name) of what the manager does in the first minutes after it has parked a move to VMs."""
    move = await Silence.before(Mode.PASSTHROUGH, hami)
    faults = move.rig.fleet.faults
    faults.fail_at = fail_at
    await move.until(Step.REBIND)
    move.rig.fleet.agents.kill(NODE)
    await move.until(Step.ATTACH)
    assert move.node.transition is not None
    parked_at, before = move.node.transition.step_started_at, faults.calls
    await move.run(120)
    assert move.node.sharing.opened_at >= int(parked_at) and move.open_but_for_the_moving()
    return [(number, name) for number, name, _ in faults.log if number > before]


@pytest.mark.parametrize("gpus", [1, 2])
async def test_a_move_undone_at_detach_gives_all_back_though_the_agent_stays_silent(gpus: int) -> None:
    rig, controller = await silent_at(Step.DETACH, gpus)
    node = rig.fleet.world.nodes[NODE]
    assert not node.sharing.wanted, "HAMi's plugin is off"
    await rig.run(controller, 3_600, every=20)
    assert node.sharing.wanted and node.sharing.ready and not node.sharing.fence, rig.state()
    assert {g.uuid for g in node.sharing.registered} == {g.uuid for g in node.gpus}
    assert node.transition is None or not is_parked(rig.fleet._view().nodes[0])


@pytest.mark.parametrize("how", ["dead", "cut-off"])
@pytest.mark.parametrize("lasts", [90, 1_500])
async def test_a_gpu_that_is_on_vfio_is_not_taken_back_because_its_agent_died_before_it_was_offered(
    how: str, lasts: int
) -> None:
    move = await Silence.before(Mode.PASSTHROUGH)
    await move.until(Step.ATTACH)
    await move.fall_silent(how, lasts)
    await move.settle()
    assert move.node.gpus[move.index].mode is Mode.PASSTHROUGH, "it is where it was wanted"
    reasons = [s.reason for s in move.rig.ledger.steps]
    assert Reason.MOVE_COMPLETED in reasons and Reason.ROLLED_BACK not in reasons
    assert move.node.backoffs == () and sum(d.plugin_stops for d in move.node.disturbances) == 1


async def test_a_move_that_waits_before_rebind_closes_the_moving_gpu_alone() -> None:
    rig, controller = await silent_at(Step.FENCE, 2)
    await rig.run(controller, 5)
    node = rig.fleet.world.nodes[NODE]
    assert node.sharing.fence == {node.gpus[0].uuid}


async def silent_at(step: Step, gpus: int) -> tuple[Rig, Controller]:
    """The silence of a dead agent shows while its node's first GPU is at `step` of its way to Passthrough."""
    for wanted_after in range(30, 62, 2):
        rig = Rig(gpus=gpus)
        controller = rig.controller()
        await rig.run(controller, 20)
        rig.fleet.agents.kill(NODE)
        await rig.run(controller, wanted_after, every=2)
        rig.want(Mode.PASSTHROUGH, 0)
        for _ in range(90):
            await rig.run(controller, 1)
            if rig.fleet._view().nodes[0].agent.silent:
                break
        if rig.transition_step() is step and (
            step is not Step.DETACH or not rig.fleet.world.nodes[NODE].sharing.wanted
        ):
            return rig, controller
    raise AssertionError(f"no silence showed at {step}")


async def test_a_parked_move_takes_no_slot_of_its_pool() -> None:
    rig = Rig(nodes=2, gpus=2, pools=(ONE_AT_A_TIME,))
    controller = rig.controller()
    rig.want(Mode.PASSTHROUGH, 0)
    for _ in range(120):
        if rig.transition_step() is Step.REBIND:
            break
        await rig.run(controller, 1)
    rig.fleet.agents.kill(NODE)
    rig.want(Mode.PASSTHROUGH, 0, node="node-2")
    await rig.run(controller, 200)
    assert rig.mode(0, "node-2") is Mode.SHARED, "one at a time"
    await rig.run(controller, BACK_AFTER)
    assert rig.mode(0, "node-2") is Mode.PASSTHROUGH


async def test_a_gpu_that_arrived_meanwhile_serves_as_soon_as_its_agent_says_so() -> None:
    """Cut off after it had unbound: it finished, and a VM has the GPU before the manager knows."""
    move = await Silence.before(Mode.PASSTHROUGH)
    move.rig.fleet.kube.create_vm(VmRequest("desk", move.rig.fleet.clock.now(), 1e9, A10_RESOURCE))
    await move.until(Step.REBIND, extra=5)
    await move.fall_silent("cut-off", 1_000)
    (vm,) = move.rig.fleet.world.vms.values()
    assert vm.node == NODE
    await move.settle()
    assert move.node.gpus[move.index].allocated_to and move.node.backoffs == (), "a success ends the pause"
    assert sum(d.plugin_stops for d in move.node.disturbances) == 1


async def test_an_agent_that_thaws_between_its_last_read_and_the_unbind_meets_hamis_plugin() -> None:
    """The look for holders right before the unbind is what stands there; nothing that is read from the API server can."""
    move = await Silence.before(Mode.PASSTHROUGH)
    await move.until(Step.DETACH)
    move.rig.fleet.agents.freeze(NODE)
    await move.until(Step.REBIND)
    move.node.read = SpecRead(dict(move.node.desired), move.node.transition)
    await move.run(BACK_AFTER)
    move.rig.fleet.agents.thaw(NODE)
    assert move.node.gpus[move.index].mode is Mode.SHARED, "not unbound"
    assert move.node.gpus[move.index].reason == Reason.HOLDER_PRESENT
    await move.settle()
    assert move.node.gpus[move.index].mode is Mode.SHARED


async def test_a_node_whose_agent_comes_and_goes_is_disturbed_once_an_hour() -> None:
    move = await Silence.before(Mode.PASSTHROUGH)
    agents, away = move.rig.fleet.agents, 0
    for _ in range(3_600 // 80):
        agents.cut_off(NODE)
        for _ in range(70):
            await move.run(1)
            away += not move.node.sharing.ready
        agents.reconnect(NODE)
        for _ in range(10):
            await move.run(1)
            away += not move.node.sharing.ready
    assert sum(d.plugin_stops for d in move.node.disturbances) <= 2
    assert away < 900, away


async def test_a_successor_finds_the_move_parked() -> None:
    move = await Silence.before(Mode.PASSTHROUGH)
    await move.until(Step.REBIND)
    move.rig.fleet.agents.kill(NODE)
    await move.run(SILENT_SECONDS + StepDeadlines().silence + 20)
    assert is_parked((await move.rig.fleet.snapshot()).nodes[0])
    move.rig.leadership.hand_over()
    move.controller = move.rig.controller()
    await move.run(200)
    assert is_parked((await move.rig.fleet.snapshot()).nodes[0]) and move.open_but_for_the_moving()
    move.rig.fleet.agents.start(NODE)
    await move.settle()


@pytest.mark.parametrize("how", ["frozen", "dead"])
async def test_a_pod_that_comes_onto_a_parked_gpu_of_hami_2_8_keeps_it(how: str) -> None:
    """2.8 has no device cordon, and our webhook fails open: HAMi lists the GPU again and gives it away. The agent comes back, at the
    worst place."""
    move = await Silence.before(Mode.PASSTHROUGH, (2, 8))
    await move.until(Step.DETACH)
    SILENCES[how][0](move.rig.fleet.agents, NODE)
    await move.until(Step.REBIND)
    move.node.read = SpecRead(dict(move.node.desired), move.node.transition)
    await move.run(BACK_AFTER)
    for number in range(4):
        move.rig.fleet.kube.create_pod(
            PodRequest(f"late-{number}", move.rig.fleet.clock.now(), 1e9, 20_000, 60)
        )
    await move.run(60)
    (user,) = [pod for pod, _ in move.rig.fleet.world.slices_on(move.node.gpus[move.index].uuid)]
    SILENCES[how][1](move.rig.fleet.agents, NODE)
    move.rig.orders.wanted.clear()
    await move.run(300)
    assert move.node.gpus[move.index].mode is Mode.SHARED and move.node.transition is None
    assert user.run == 1 and not user.ended and user.started_at is not None
