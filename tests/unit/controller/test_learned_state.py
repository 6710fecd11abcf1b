"""What the planner has learnt outlives its manager, and a ledger that is away does not cost it."""

from typing import Any

from poolmgr.controller.loop import Controller
from poolmgr.domain.errors import Rejected
from poolmgr.domain.plan import Plan
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.interfaces import Decision
from poolmgr.planner.plan import PoolPlanner
from poolmgr.sim.actuators import MemoryLedger
from poolmgr.sim.fleet import A10_RESOURCE
from poolmgr.sim.world import VmRequest
from tests.unit.controller.rig import Rig


class Counting:
    """A planner that counts how often it has looked."""

    name = "counting"

    def decide(self, snapshot: ClusterSnapshot, learned: Any) -> Decision:
        seen = learned["seen"] + 1 if learned else 1
        return Decision(Plan("p", snapshot.generation, snapshot.taken_at), {"seen": seen})  # type: ignore[arg-type]


async def watch(rig: Rig, controller: Controller, seconds: float) -> None:
    await rig.run(controller, seconds, every=10.0)


async def test_memory_is_kept_every_five_minutes_and_read_by_the_successor() -> None:
    rig = Rig()
    await watch(rig, rig.controller(Counting()), 290)
    assert rig.ledger.learned == {}
    await watch(rig, rig.controller(Counting()), 310)
    assert rig.ledger.learned["counting"] == {"seen": 30}
    await watch(rig, rig.controller(Counting()), 310)
    assert rig.ledger.learned["counting"] == {"seen": 60}


async def test_a_ledger_that_is_away_at_the_start_is_read_once_it_is_back_and_not_overwritten() -> None:
    rig = Rig()
    rig.ledger.learned["counting"] = {"seen": 1_000}
    rig.ledger.gone = True
    controller = rig.controller(Counting())
    await watch(rig, controller, 400)
    rig.ledger.gone = False
    await watch(rig, controller, 400)
    assert rig.ledger.learned["counting"]["seen"] > 1_000


async def test_a_standby_learns_and_goes_on_from_there_when_it_leads() -> None:
    rig = Rig()
    led, rig.leadership.held = rig.leadership.held, None
    standby = rig.controller(Counting())
    await watch(rig, standby, 600)
    assert standby.plan is None
    learnt = rig.ledger.learned["counting"]["seen"]
    assert 5 <= learnt <= 11
    rig.leadership.held = led
    await watch(rig, standby, 310)
    assert rig.ledger.learned["counting"]["seen"] > learnt + 20


class Damaged(MemoryLedger):
    async def load_learned_state(self, planner: str) -> Any:
        raise Rejected(Reason.LEARNED_STATE_DAMAGED, f"what planner {planner} remembered is not JSON")


async def test_damaged_memory_is_begun_anew() -> None:
    rig = Rig()
    rig.ledger = Damaged()
    await watch(rig, rig.controller(Counting()), 310)
    assert rig.ledger.learned["counting"] == {"seen": 30}


async def test_waits_are_kept_by_who_leads_and_known_to_the_successor() -> None:
    rig = Rig()
    first = rig.controller(PoolPlanner())
    rig.fleet.kube.create_vm(VmRequest("desk", rig.fleet.clock.now(), 1e9, A10_RESOURCE))
    await watch(rig, first, 600)
    [kept] = [entry for entry in rig.ledger.learned["waiting-times"] if entry[1] == "New"]
    [(seconds, ended, _)] = kept[4]
    assert ended and seconds > 0
    rig.fleet.kube.create_vm(VmRequest("next", rig.fleet.clock.now(), 1e9, A10_RESOURCE))
    await watch(rig, rig.controller(PoolPlanner()), 600)
    [kept] = [entry for entry in rig.ledger.learned["waiting-times"] if entry[1] == "New"]
    assert len(kept[4]) == 2
    mine = rig.ledger.learned["waiting-times"]
    led, rig.leadership.held = rig.leadership.held, None
    await watch(rig, rig.controller(PoolPlanner()), 600)
    assert rig.ledger.learned["waiting-times"] is mine, "a standby overwrites nothing"
    rig.leadership.held = led
