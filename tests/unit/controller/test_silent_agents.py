"""An agent that is not heard: nothing begins on its node, what is under way waits and says so, and everybody is told once."""

from dataclasses import replace

import pytest

from poolmgr.api.ui.fleet import node_card
from poolmgr.api.ui.view import make_view
from poolmgr.controller import guard
from poolmgr.controller.executor.actions import Advance, Perform, Rollback, Wait
from poolmgr.controller.executor.advance import StepDeadlines, next_action
from poolmgr.controller.status import pool_statuses
from poolmgr.domain.census import take_census
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.liveness import SILENT_SECONDS, AgentSign
from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.planner.plan import PoolPlanner
from tests.builders import NOW, gpu, move, node, pool, sharing, snapshot, transition, vm
from tests.unit.controller.rig import Rig

SILENT = AgentSign(heard=False, since=NOW - 300, silent=True)
UNKNOWN = AgentSign(heard=False)
G0, G1 = gpu(0), gpu(1)


@pytest.mark.parametrize("sign", [SILENT, UNKNOWN])
def test_nothing_is_planned_and_nothing_begins_where_the_agent_is_not_heard(sign: AgentSign) -> None:
    seen = snapshot(node(G0, G1, agent=sign, ready=False), vms=(vm(),))
    plan = PoolPlanner().decide(seen, None).plan
    assert plan.moves == ()
    said = {r.subject.name: r for r in plan.refusals}
    assert said[G0.pci_address].reason is Reason.AGENT_SILENT
    assert "AgentSilent" in said["vm1"].message, "whoever waits is told"
    accepted, (refused,) = guard.validate((move(G0),), seen)
    assert not accepted and refused.reason is Reason.AGENT_SILENT


def action(step: Step, sign: AgentSign, *, late: float = 0.0, **over):
    moved = gpu(
        0, desired_mode=Mode.PASSTHROUGH, **({"observed_mode": Mode.PASSTHROUGH} if step.order > 4 else {})
    )
    under_way = transition(moved, step=step, step_started_at=NOW - late)
    return next_action(
        node(moved, G1, agent=sign, transition=under_way, **over), snapshot(pools=(pool(),)), StepDeadlines()
    )


@pytest.mark.parametrize("step", [Step.INTEND, Step.FENCE, Step.DRAIN, Step.DETACH, Step.REBIND])
def test_a_move_waits_without_a_deadline_while_the_agent_is_silent(step: Step) -> None:
    found = action(step, SILENT, late=86_400.0)
    assert isinstance(found, Wait) and found.reason is Reason.AGENT_SILENT
    assert step.value in found.message and "cannot be told" in found.message


def test_hami_and_the_node_are_given_back_whether_the_agent_is_heard_or_not() -> None:
    off = sharing(G1, plugin_wanted=False, plugin_pods=0)
    assert isinstance(action(Step.ATTACH, SILENT, sharing=off), Perform)
    opened = action(Step.RELEASE, SILENT, cordoned=True, cordoned_by_us=True)
    assert isinstance(opened, Perform)
    assert isinstance(action(Step.RELEASE, SILENT), Advance)


def test_a_step_has_its_time_anew_once_the_agent_is_heard_again() -> None:
    back = AgentSign(since=NOW - 10)
    assert isinstance(action(Step.REBIND, back, late=3_600.0), Wait)
    assert isinstance(action(Step.REBIND, AgentSign(since=NOW - 3_600), late=3_600.0), Rollback)


async def test_a_move_goes_on_where_it_stood_after_hours_of_silence() -> None:
    rig = Rig(nodes=1, gpus=2)
    controller = rig.controller()
    rig.want(Mode.PASSTHROUGH, 0)
    while rig.transition_step() is not Step.REBIND:
        await rig.run(controller, 1.0)
    rig.fleet.agents.kill(NodeName("node-1"))
    await rig.run(controller, 7_200.0, every=10.0)
    assert rig.transition_step() is Step.REBIND, "neither undone nor gone on"
    assert any("Rebind waits: the agent of node-1 was last heard at" in s.message for s in rig.ledger.steps)
    rig.fleet.agents.start(NodeName("node-1"))
    await rig.run_until_quiet(controller)
    assert rig.mode(0) is Mode.PASSTHROUGH
    assert rig.fleet.world.nodes[NodeName("node-1")].backoffs == ()


async def test_silence_is_told_once_whoever_leads_and_so_is_its_end() -> None:
    rig = Rig(nodes=2, gpus=1)
    controller = rig.controller()
    await rig.run(controller, 5.0)
    name = NodeName("node-2")
    rig.fleet.agents.kill(name)
    await rig.run(controller, SILENT_SECONDS + 60)
    rig.leadership.hand_over()
    await rig.run(rig.controller(), 120.0)
    told = [(s.name, reason, warning) for _, s, reason, _, warning in rig.fleet.actuators.events]
    assert told == [("node-2", Reason.AGENT_SILENT, True)]
    assert rig.fleet.world.nodes[name].silence_noted
    assert rig.fleet.actuators.pool_statuses["a10"].reason is Reason.AGENT_SILENT
    rig.fleet.agents.start(name)
    await rig.run(rig.controller(), 60.0)
    told = [(s.name, reason, warning) for _, s, reason, _, warning in rig.fleet.actuators.events]
    assert told[1:] == [("node-2", Reason.AGENT_AT_WORK, False)]
    assert not rig.fleet.world.nodes[name].silence_noted


def test_page_and_pool_say_it() -> None:
    seen = snapshot(node(G0), node(gpu(0, "n2"), name="n2", agent=SILENT, ready=False))
    census = take_census(seen)
    view = make_view(census, None, Verdict(True, Reason.ADMITTED, "leading"))
    assert view.headline == "1 agent is silent" and view.mood == "trouble" and "n2" in view.detail
    cards = [node_card(part, (), NOW) for part in census.nodes]
    assert [card.note for card in cards] == ["", "agent silent"]
    assert "last heard at" in cards[1].tiles[0].label
    status = pool_statuses(census, None)[pool().name]
    assert status.reason is Reason.AGENT_SILENT and "1 node(s)" in status.message


def test_the_page_says_where_an_agent_has_not_answered() -> None:
    seen = take_census(snapshot(node(G0, reported=False)))
    assert node_card(seen.nodes[0], (), NOW).note == "not reported"
    begun = take_census(snapshot(replace(node(G0), agent=UNKNOWN, ready=False)))
    assert node_card(begun.nodes[0], (), NOW).note == "agent not heard yet"
