"""When services beside the driver are paused and resumed, and upgrades of the driver held: questions to one node, no world."""

from dataclasses import replace
from typing import Any

import pytest

from poolmgr.controller import guard
from poolmgr.controller.executor import services
from poolmgr.controller.executor.actions import (
    Advance,
    HoldUpgrades,
    PauseServices,
    Perform,
    ResumeServices,
    Rollback,
    Wait,
)
from poolmgr.controller.executor.advance import StepDeadlines, next_action
from poolmgr.controller.intents import adopt, at_rest, drifted, repair, rolled_back
from poolmgr.domain.fleet import Gpu, Holder, Node
from poolmgr.domain.identifiers import LeaseEpoch, WorkloadUid
from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.neighbours import Neighbours, Service
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.usage import users_of
from poolmgr.planner.plan import PoolPlanner
from poolmgr.wire.gpu_operator import DEPLOY
from tests.builders import NOW, gpu, move, node, pool, sharing, snapshot, transition, vm

EXPORTER, DCGM = DEPLOY + "dcgm-exporter", DEPLOY + "dcgm"
HELD_BY_EXPORTER = Holder(7, "dcgm-exporter", "uid-e", "/dev/nvidia0", EXPORTER)
RUNS = Service(EXPORTER, paused=False, pods=(WorkloadUid("uid-e"),))
ENDS = replace(RUNS, paused=True)
GONE = replace(ENDS, pods=())
OTHERS = Verdict(False, Reason.GPUS_OF_OTHERS, "the GPU operator runs n1 for virtual machines")
CHANGING = Verdict(False, Reason.DRIVER_CHANGING, "the GPU operator replaces the driver of n1")


def neighbours(*found: Service, **over: Any) -> Neighbours:
    return Neighbours(services=found, **over)


def moving(*holders: Holder, **over: Any) -> Gpu:
    return gpu(0, desired_mode=Mode.PASSTHROUGH, holders=holders, **over)


def at(step: Step, moved: Gpu, beside: Neighbours, **over: Any) -> object:
    over.setdefault("sharing", None)
    found = node(moved, gpu(1), transition=transition(moved, step=step), neighbours=beside, **over)
    return next_action(found, snapshot(found, pools=(pool(),)), StepDeadlines())


def test_a_service_uses_no_gpu_and_anything_else_does() -> None:
    assert users_of(gpu(0, holders=(HELD_BY_EXPORTER,)), (), None) == ()
    other = replace(HELD_BY_EXPORTER, service="")
    assert [user.name for user in users_of(gpu(0, holders=(other,)), (), None)] == [
        "process dcgm-exporter (pid 7)"
    ]
    on_vfio = gpu(0, mode=Mode.PASSTHROUGH, holders=(HELD_BY_EXPORTER,))
    assert users_of(on_vfio, (), None), "on vfio-pci there is no service that could be meant"


def test_detach_pauses_what_holds_waits_for_its_end_and_for_the_agent_to_see_it() -> None:
    held, free = moving(HELD_BY_EXPORTER), moving()
    first = at(Step.DETACH, held, neighbours(RUNS))
    assert isinstance(first, Perform) and first.effects == (PauseServices(frozenset({EXPORTER})),)
    ending = at(Step.DETACH, held, neighbours(ENDS))
    assert isinstance(ending, Wait) and ending.reason is Reason.SERVICE_STILL_RUNNING
    assert "waiting for dcgm-exporter to end on n1; they come back after the move" in ending.message
    unseen = at(Step.DETACH, held, neighbours(GONE))
    assert (
        isinstance(unseen, Wait) and "the agent of n1 to see that dcgm-exporter has let go" in unseen.message
    )
    done = at(Step.DETACH, free, neighbours(GONE))
    assert isinstance(done, Advance) and done.to is Step.REBIND


def test_a_service_that_holds_no_gpu_of_the_move_is_left_alone() -> None:
    other = Service(DCGM, paused=False, pods=(WorkloadUid("uid-d"),))
    assert isinstance(at(Step.DETACH, moving(), neighbours(RUNS, other)), Advance)


def test_who_is_no_service_is_not_waited_for_as_one() -> None:
    """Detach has looked for users before; one that it let pass is not ours to pause."""
    stranger = replace(HELD_BY_EXPORTER, command="nvidia-persistenced", service="")
    assert services.pause(node(gpu(0)), (gpu(0, holders=(stranger,)),)) is None


def test_hami_is_not_disturbed_before_the_services_have_ended() -> None:
    for beside in (neighbours(RUNS), neighbours(ENDS), neighbours(GONE)):
        action = at(Step.DETACH, moving(HELD_BY_EXPORTER), beside, sharing=sharing(gpu(0), gpu(1)))
        assert isinstance(action, Wait) or action.effects == (PauseServices(frozenset({EXPORTER})),)


def test_attach_and_release_let_all_that_we_paused_run_again_in_both_directions() -> None:
    arrived = gpu(0, mode=Mode.PASSTHROUGH)
    for step in (Step.ATTACH, Step.RELEASE):
        action = at(step, arrived, neighbours(GONE, Service(DCGM, paused=False)))
        assert isinstance(action, Perform)
        assert action.effects == (ResumeServices(frozenset({EXPORTER})),)
    back = gpu(0)
    found = node(
        back, transition=transition(back, to=Mode.SHARED, step=Step.ATTACH), neighbours=neighbours(GONE)
    )
    action = next_action(found, snapshot(found), StepDeadlines())
    assert isinstance(action, Perform) and action.effects == (ResumeServices(frozenset({EXPORTER})),)


def test_what_looks_once_is_started_anew_for_a_gpu_that_comes_back() -> None:
    leaving = gpu(0, mode=Mode.PASSTHROUGH, desired_mode=Mode.SHARED, advertised=False)
    gfd = Service(DEPLOY + "gpu-feature-discovery", paused=False, pods=(WorkloadUid("uid-g"),))

    def action(*found: Service) -> object:
        here = node(
            leaving,
            sharing=None,
            transition=transition(leaving, to=Mode.SHARED, step=Step.DETACH),
            neighbours=neighbours(*found),
        )
        return next_action(here, snapshot(here), StepDeadlines())

    first = action(RUNS, gfd)
    assert isinstance(first, Perform) and first.effects == (PauseServices(frozenset({EXPORTER})),)
    assert isinstance(action(replace(RUNS, pods=())), Advance), "it does not run there"
    assert isinstance(action(ENDS, gfd), Advance), "nobody has to wait for it: the GPU is not its"


def test_a_service_that_runs_again_at_rebind_is_paused_again() -> None:
    action = at(Step.REBIND, moving(HELD_BY_EXPORTER), neighbours(RUNS))
    assert isinstance(action, Perform) and action.effects == (PauseServices(frozenset({EXPORTER})),)
    assert isinstance(at(Step.REBIND, moving(), neighbours(RUNS)), Wait)


# -- upgrades -----------------------------------------------------------------------------------------------


def test_upgrades_are_held_before_a_gpu_is_fenced_for_vms() -> None:
    action = at(Step.FENCE, moving(), Neighbours(installs_driver=True))
    assert isinstance(action, Perform) and action.effects == (HoldUpgrades(True),)
    held = Neighbours(installs_driver=True, upgrades_held=True)
    assert isinstance(at(Step.FENCE, moving(), held), Advance)


@pytest.mark.parametrize(
    ("mode", "beside", "effect"),
    [
        (Mode.PASSTHROUGH, Neighbours(installs_driver=True), HoldUpgrades(True)),
        (Mode.PASSTHROUGH, Neighbours(installs_driver=True, upgrades_held=True), None),
        (Mode.PASSTHROUGH, Neighbours(installs_driver=True, upgrades_let=True), None),
        (Mode.PASSTHROUGH, Neighbours(installs_driver=False), None),
        (Mode.PASSTHROUGH, Neighbours(installs_driver=True, verdict=OTHERS), None),
        (Mode.SHARED, Neighbours(installs_driver=True), None),
        (Mode.SHARED, Neighbours(installs_driver=True, upgrades_held=True), None),
        (
            Mode.SHARED,
            Neighbours(installs_driver=True, upgrades_held=True, upgrades_held_by_us=True),
            HoldUpgrades(False),
        ),
        (
            Mode.PASSTHROUGH,
            Neighbours(verdict=OTHERS, upgrades_held=True, upgrades_held_by_us=True),
            HoldUpgrades(False),
        ),
        (
            Mode.PASSTHROUGH,
            Neighbours(installs_driver=True, upgrades_held=True, upgrades_held_by_us=True),
            None,
        ),
        (Mode.SHARED, neighbours(GONE), ResumeServices(frozenset({EXPORTER}))),
    ],
    ids=[
        "hold",
        "is held",
        "somebody lets them",
        "host driver",
        "of others",
        "shared",
        "theirs",
        "ours",
        "ours, of others",
        "ours, with VMs",
        "orphan",
    ],
)
def test_a_node_without_a_move_has_upgrades_held_or_not_and_nothing_paused(
    mode: Mode, beside: Neighbours, effect: object
) -> None:
    here: Node = node(gpu(0, mode=mode), neighbours=beside)
    action = services.at_rest(here)
    assert (action.effects if action else ()) == ((effect,) if effect else ())
    assert at_rest(here) is (effect is None)


def test_a_driver_that_starts_anew_is_warned_of_where_gpus_serve_vms() -> None:
    beside = Neighbours(driver_restarts="gpu-operator/nvidia-driver-x ends", verdict=CHANGING)
    with_vms = node(gpu(0, mode=Mode.PASSTHROUGH), gpu(1), neighbours=beside)
    without = node(gpu(0, "n2"), name="n2", neighbours=beside)
    calm = node(gpu(0, "n3", Mode.PASSTHROUGH), name="n3")
    (said,) = services.warnings([with_vms, without, calm]).items()
    assert said[0] == "n1"
    assert "gpu-operator/nvidia-driver-x ends on n1" in said[1]
    assert "may take 0000:00:00.0 off vfio-pci, out of running VMs too" in said[1]


# -- nodes of others, drivers that change -------------------------------------------------------------------


@pytest.mark.parametrize("verdict", [OTHERS, CHANGING])
def test_nothing_is_planned_nor_begun_there_and_whoever_waits_is_told(verdict: Verdict) -> None:
    idle = gpu(0)
    seen = snapshot(node(idle, neighbours=Neighbours(verdict=verdict)), vms=(vm(),))
    plan = PoolPlanner().decide(seen, None).plan
    assert plan.moves == ()
    said = {refusal.subject.name: refusal for refusal in plan.refusals}
    assert said[idle.pci_address].reason is verdict.reason
    assert verdict.message in said[idle.pci_address].message
    accepted, (refused,) = guard.validate((move(idle),), seen)
    assert not accepted and refused.reason is verdict.reason


@pytest.mark.parametrize("step", [Step.INTEND, Step.FENCE, Step.DRAIN, Step.DETACH])
def test_a_move_that_has_rebound_nothing_is_undone_and_nobody_rests_for_it(step: Step) -> None:
    moved = moving()
    here = node(moved, transition=transition(moved, step=step), neighbours=Neighbours(verdict=CHANGING))
    action = next_action(here, snapshot(here), StepDeadlines())
    assert isinstance(action, Rollback) and action.reason is Reason.DRIVER_CHANGING
    undone = rolled_back(here, Step.ATTACH, action.reason, action.message, LeaseEpoch(1), NOW)
    assert undone.backoffs == ()


def test_a_move_that_is_at_rebind_or_on_its_way_back_goes_on() -> None:
    moved = moving()
    beside = Neighbours(verdict=CHANGING)
    assert not isinstance(at(Step.REBIND, moved, beside), Rollback)
    back = transition(gpu(0), to=Mode.SHARED, step=Step.DETACH, rollback=True)
    here = node(gpu(0), transition=back, neighbours=beside)
    assert not isinstance(next_action(here, snapshot(here), StepDeadlines()), Rollback)


def test_gpus_of_others_are_neither_adopted_nor_put_back() -> None:
    strayed = gpu(0, mode=Mode.PASSTHROUGH, desired_mode=Mode.SHARED)
    unknown = gpu(1, desired_mode=None)
    theirs = node(strayed, unknown, neighbours=Neighbours(verdict=OTHERS))
    assert drifted(theirs) == [] and adopt(theirs) is None and at_rest(theirs)
    assert repair(theirs, LeaseEpoch(1), NOW) is None
    ours = replace(theirs, neighbours=Neighbours(verdict=CHANGING))
    assert drifted(ours) == [strayed] and repair(ours, LeaseEpoch(1), NOW) is None, "when that is over"
    assert repair(replace(theirs, neighbours=Neighbours()), LeaseEpoch(1), NOW) is not None
