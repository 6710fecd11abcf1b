"""An agent that is not heard: nothing begins on its node, what is under way waits and says so, and everybody is told once."""

from dataclasses import replace

import pytest

from poolmgr.api.ui.fleet import node_card
from poolmgr.api.ui.view import make_view
from poolmgr.controller import guard
from poolmgr.controller.status import pool_statuses
from poolmgr.domain.census import take_census
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.liveness import SILENT_SECONDS, AgentSign
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.planner.plan import PoolPlanner
from tests.builders import NOW, gpu, move, node, pool, snapshot, vm
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


async def test_silence_is_told_once_whoever_leads_and_so_is_its_end() -> None:
    rig = Rig(nodes=2, gpus=1)
    controller = rig.controller()
    await rig.run(controller, 5.0)
    name = NodeName("node-2")
    rig.fleet.agents.kill(name)
    await rig.run(controller, SILENT_SECONDS + 60)
    rig.leadership.hand_over()
    await rig.run(rig.controller(), 120.0)
    events = [(s.name, reason, warning) for _, s, reason, _, warning in rig.fleet.actuators.events]
    assert events == [("node-2", Reason.AGENT_SILENT, True)]
    assert rig.fleet.world.nodes[name].silence_noted
    assert rig.fleet.actuators.pool_statuses["a10"].reason is Reason.AGENT_SILENT
    rig.fleet.agents.start(name)
    await rig.run(rig.controller(), 60.0)
    events = [(s.name, reason, warning) for _, s, reason, _, warning in rig.fleet.actuators.events]
    assert events[1:] == [("node-2", Reason.AGENT_AT_WORK, False)]
    assert not rig.fleet.world.nodes[name].silence_noted


def test_page_and_pool_say_it() -> None:
    seen = snapshot(node(G0), node(gpu(0, "n2"), name="n2", agent=SILENT, ready=False))
    census = take_census(seen)
    view = make_view(census, None, Verdict(True, Reason.ADMITTED, "leading"))
    assert view.headline == "1 agent is silent" and view.mood == "trouble" and "n2" in view.detail
    cards = [node_card(part, (), NOW) for part in census.nodes]
    assert [card.note for card in cards] == ["", "agent silent"]
    assert "last heard from at" in cards[1].tiles[0].label
    status = pool_statuses(census, None)[pool().name]
    assert status.reason is Reason.AGENT_SILENT and "1 node(s)" in status.message


def test_the_page_says_where_an_agent_has_not_answered() -> None:
    seen = take_census(snapshot(node(G0, reported=False)))
    assert node_card(seen.nodes[0], (), NOW).note == "not reported"
    begun = take_census(snapshot(replace(node(G0), agent=UNKNOWN, ready=False)))
    assert node_card(begun.nodes[0], (), NOW).note == "agent not heard yet"
