"""The whole controller on the simulated fleet with a pool in Recommend mode: nothing moves, everybody hears the truth."""

from dataclasses import replace

from poolmgr.controller.status import pool_statuses
from poolmgr.domain.fleet import RebalanceMode
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.planner.plan import PoolPlanner
from poolmgr.sim.fleet import A10_RESOURCE
from poolmgr.sim.world import VmRequest
from tests.unit.controller.rig import POOL, Rig

RECOMMEND = replace(POOL, rebalance=RebalanceMode.RECOMMEND)


async def waiting_for_minutes(pool=RECOMMEND):
    rig = Rig(pools=(pool,))
    controller = rig.controller(PoolPlanner())
    await rig.run(controller, 60)
    rig.fleet.kube.create_vm(VmRequest("desk", rig.fleet.clock.now(), 1e9, A10_RESOURCE))
    await rig.run(controller, 200)
    return rig, controller


async def test_who_waits_is_told_that_the_move_is_recommended_and_the_ledger_keeps_it_so() -> None:
    rig, controller = await waiting_for_minutes()
    seen = controller.snapshot
    assert [vm.waiting for vm in seen.vms] == [True]
    assert seen.transitions == ()
    assert all(gpu.observed_mode is Mode.SHARED for node in seen.nodes for gpu in node.gpus)
    reported = [
        (reason, message)
        for _, subject, reason, message, _ in rig.fleet.actuators.events
        if subject.kind is SubjectKind.VM
    ]
    assert [reason for reason, _ in reported] == [Reason.RECOMMEND_ONLY]
    assert "pool a10 is in Recommend mode" in reported[0][1]
    assert [(pool, dry_run, outcome) for _, pool, dry_run, outcome in rig.ledger.plans][-1] == (
        "a10",
        True,
        "recommended",
    )
    status = pool_statuses(controller.census, controller.plan)["a10"]
    assert status.reason is Reason.RECOMMEND_ONLY


async def test_what_is_recommended_is_made_when_an_operator_asks() -> None:
    rig, controller = await waiting_for_minutes()
    shown = await controller.request_rebalance("a10", dry_run=True)
    assert [move.recommended for move in shown.started] == [False]
    result = await controller.request_rebalance("a10", dry_run=False)
    assert len(result.started) == 1 and not result.refused
    assert rig.ledger.plans[-1][1:] == ("a10", False, "started")
    await rig.run(controller, 400)
    assert [vm.waiting for vm in controller.snapshot.vms] == [False]


async def test_an_operator_moves_nothing_of_a_pool_whose_spec_is_not_understood() -> None:
    unread = replace(POOL, rebalance=RebalanceMode.OFF, complaint="rebalance.granularity is 'Rack'")
    _, controller = await waiting_for_minutes(unread)
    result = await controller.request_rebalance("a10", dry_run=False)
    assert result.started == ()
    assert controller.snapshot.transitions == ()


async def test_the_same_vm_is_served_where_the_pool_is_automatic() -> None:
    _, controller = await waiting_for_minutes(POOL)
    assert [vm.waiting for vm in controller.snapshot.vms] == [False]
