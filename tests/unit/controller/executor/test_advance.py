"""The steps that both recipes share: deadlines, the agent's turn, the way back, the end."""

from dataclasses import replace

import pytest

from poolmgr.controller.executor.actions import (
    Action,
    Advance,
    Cordon,
    Finish,
    PauseServices,
    Perform,
    Rollback,
    Wait,
)
from poolmgr.controller.executor.advance import StepDeadlines, first_step_back, next_action
from poolmgr.domain.fleet import Holder
from poolmgr.domain.liveness import AgentSign
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.neighbours import Neighbours, Service
from poolmgr.domain.reasons import Reason
from tests.builders import NOW, gpu, node, pod, pool, sharing, snapshot, transition

G0 = gpu(0, desired_mode=Mode.PASSTHROUGH)
G1 = gpu(1, desired_mode=Mode.PASSTHROUGH)
ARRIVED = gpu(0, mode=Mode.PASSTHROUGH, plan_id="plan1")
BROKEN = replace(G1, phase=DevicePhase.QUARANTINED, observed_mode=None, message="unbind hangs")
SILENT = AgentSign(heard=False, since=NOW - 300, silent=True)
OFF = sharing(plugin_wanted=False, plugin_pods=1, allocatable=0)


def at(
    step: Step, *gpus, pods=(), pools=None, to=Mode.PASSTHROUGH, waited=0.0, rollback=False, **over
) -> Action:
    """The next action for the GPUs with an address of G0 and G1, at `step` for so many seconds."""
    gpus = gpus or (G0,)
    over.setdefault("sharing", OFF)
    move = transition(*gpus, to=to, step=step, step_started_at=NOW - waited, rollback=rollback)
    n = node(*gpus, transition=move, **over)
    return next_action(n, snapshot(n, pods=pods, pools=pools or (pool(),)), StepDeadlines())


def test_a_move_begins_with_fence() -> None:
    action = at(Step.INTEND)
    assert isinstance(action, Advance) and action.to is Step.FENCE


# -- deadlines ----------------------------------------------------------------------------------------------

WAITING = {
    Step.FENCE: {"sharing": sharing(G0)},
    Step.DETACH: {"cordoned": True},
    Step.REBIND: {},
    Step.ATTACH: {"gpus": (replace(ARRIVED, advertised=False),)},
}
"""What each step waits for."""


@pytest.mark.parametrize(
    ("step", "seconds"), [(Step.FENCE, 90), (Step.DETACH, 240), (Step.REBIND, 180), (Step.ATTACH, 300)]
)
def test_each_step_may_take_so_long_and_no_longer(step: Step, seconds: float) -> None:
    over = dict(WAITING[step])
    gpus = over.pop("gpus", ())
    assert isinstance(at(step, *gpus, waited=seconds, **over), Wait | Perform)
    late = at(step, *gpus, waited=seconds + 1, **over)
    assert isinstance(late, Rollback) and late.reason is Reason.STEP_TIMED_OUT


def test_a_step_that_is_done_is_not_undone_however_late_that_is_seen() -> None:
    """No manager may have looked for a day."""
    for step, gpus in ((Step.INTEND, (G0,)), (Step.REBIND, (ARRIVED,)), (Step.ATTACH, (ARRIVED,))):
        assert isinstance(at(step, *gpus, waited=100_000), Advance), step


def test_a_drain_is_as_patient_as_the_least_patient_pool_of_its_gpus() -> None:
    stray, other = replace(G0, pool=None), replace(G1, pool="b")
    pods = (pod(on=G0),)
    pools = (pool(drain_timeout_seconds=50), pool("b", drain_timeout_seconds=20))
    assert isinstance(at(Step.DRAIN, G0, other, pods=pods, pools=pools, waited=20), Wait)
    assert isinstance(at(Step.DRAIN, G0, other, pods=pods, pools=pools, waited=21), Rollback)
    assert isinstance(at(Step.DRAIN, stray, pods=pods, waited=600), Wait), (
        "ten minutes where it is in no pool"
    )
    assert isinstance(at(Step.DRAIN, stray, pods=pods, waited=601), Rollback)


def test_a_node_is_opened_however_long_it_takes() -> None:
    action = at(Step.RELEASE, ARRIVED, waited=100_000, cordoned=True, cordoned_by_us=True)
    assert isinstance(action, Perform) and action.effects == (Cordon(False),)


# -- a silent agent -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", list(Step))
def test_a_silent_agent_is_waited_for_until_its_gpus_are_rebound(step: Step) -> None:
    action = at(step, ARRIVED, agent=replace(SILENT, since=NOW - 61), waited=100)
    waits = isinstance(action, Wait) and action.reason is Reason.AGENT_SILENT
    assert waits is (step.order <= Step.REBIND.order)


# -- the agent's turn ---------------------------------------------------------------------------------------


def test_gpus_that_left_the_node_are_not_waited_for() -> None:
    gone = transition(G0, step=Step.REBIND)
    n = node(gpu(5), transition=gone)
    action = next_action(n, snapshot(n), StepDeadlines())
    assert isinstance(action, Advance) and (action.to, action.reason) == (Step.ATTACH, Reason.DEVICE_GONE)


@pytest.mark.parametrize(
    "there",
    [
        replace(ARRIVED, observed_mode=Mode.SHARED),
        replace(ARRIVED, phase=DevicePhase.MOVING),
        replace(ARRIVED, plan_id="older"),
    ],
    ids=["on its old driver", "still moving", "of an older plan"],
)
def test_a_gpu_has_arrived_once_its_agent_says_so_of_this_plan(there) -> None:
    assert isinstance(at(Step.REBIND, there), Wait)
    assert isinstance(at(Step.REBIND, ARRIVED), Advance)
    assert isinstance(at(Step.REBIND, ARRIVED, reported=False), Wait), "of before the spec was written"


def test_a_move_goes_on_with_the_gpus_that_arrived_and_is_undone_if_none_did() -> None:
    action = at(Step.REBIND, ARRIVED, BROKEN)
    assert isinstance(action, Advance) and action.to is Step.ATTACH
    undone = at(Step.REBIND, BROKEN)
    assert isinstance(undone, Rollback) and undone.reason is Reason.BIND_FAILED
    back = at(Step.REBIND, BROKEN, to=Mode.SHARED, rollback=True)
    assert isinstance(back, Advance) and back.to is Step.ATTACH, "there is no way back from the way back"


def test_while_the_agent_works_its_words_about_a_gpu_under_way_are_repeated() -> None:
    done = replace(ARRIVED, message="verified")
    quiet, held = (
        gpu(1, desired_mode=Mode.PASSTHROUGH),
        gpu(2, desired_mode=Mode.PASSTHROUGH, message="is held"),
    )
    action = at(Step.REBIND, done, quiet, held)
    assert isinstance(action, Wait)
    assert action.message == (
        "the agent of n1 is rebinding NVIDIA A10 0000:00:01.0, NVIDIA A10 0000:00:02.0: is held"
    )


def test_a_service_that_opens_a_gpu_back_on_its_driver_is_left_alone() -> None:
    """Where GPUs are taken it is paused once more; where they come back it may look at them."""
    exporter = "nvidia.com/gpu.deploy.dcgm-exporter"
    held = (Holder(4711, "dcgm-exporter", path="/dev/nvidia0", service=exporter),)
    running = Neighbours(services=(Service(exporter, paused=False),))
    back = gpu(0, desired_mode=Mode.SHARED, plan_id="plan1", holders=held)
    coming = gpu(1, mode=Mode.PASSTHROUGH, desired_mode=Mode.SHARED)
    assert isinstance(at(Step.REBIND, back, coming, to=Mode.SHARED, neighbours=running), Wait)
    taken = at(Step.REBIND, replace(G0, holders=held), neighbours=running)
    assert isinstance(taken, Perform) and taken.effects == (PauseServices(frozenset({exporter})),)


# -- the way back -------------------------------------------------------------------------------------------


def test_undoing_starts_at_fence_where_one_of_several_gpus_has_moved() -> None:
    move = transition(ARRIVED, G1, step=Step.REBIND)
    assert first_step_back(node(ARRIVED, G1, transition=move), move) is Step.FENCE


def test_a_gpu_that_strays_while_a_move_is_undone_does_not_begin_it_anew() -> None:
    action = at(Step.ATTACH, ARRIVED, to=Mode.SHARED, rollback=True)
    assert isinstance(action, Advance) and action.to is Step.RELEASE


# -- the end ------------------------------------------------------------------------------------------------


def test_a_node_without_a_sharing_layer_is_opened_as_well() -> None:
    action = at(Step.RELEASE, ARRIVED, sharing=None)
    assert isinstance(action, Advance) and action.to is Step.DONE


def test_the_end_says_whether_the_move_was_made_or_undone() -> None:
    made = at(Step.DONE, ARRIVED)
    assert isinstance(made, Finish) and made.reason is Reason.MOVE_COMPLETED
    assert made.message == "NVIDIA A10 0000:00:00.0 on n1 is now Passthrough"
    undone = at(Step.DONE, G0, to=Mode.SHARED, rollback=True, sharing=sharing(G0))
    assert isinstance(undone, Finish) and undone.reason is Reason.ROLLED_BACK
    assert undone.message == "NVIDIA A10 0000:00:00.0 on n1 stays Shared: the move was undone"


def test_the_end_names_what_is_not_where_the_move_wanted_it() -> None:
    nowhere = gpu(1, mode=None, phase=DevicePhase.UNBOUND)
    made = at(Step.DONE, ARRIVED, nowhere)
    assert isinstance(made, Finish) and made.message == (
        "NVIDIA A10 0000:00:00.0 on n1 is now Passthrough; NVIDIA A10 0000:00:01.0 is on no driver of its modes"
    )
    undone = at(Step.DONE, ARRIVED, to=Mode.SHARED, rollback=True)
    assert isinstance(undone, Finish) and undone.reason is Reason.ROLLED_BACK
    assert undone.message == "the move on n1 was undone; NVIDIA A10 0000:00:00.0 is still Passthrough"
    lost = at(Step.DONE, nowhere)
    assert isinstance(lost, Finish) and lost.reason is Reason.DEVICE_GONE
    assert lost.message.startswith("no GPU of the move on n1 is Passthrough; ")


def test_a_move_whose_gpu_hami_does_not_list_is_not_called_complete() -> None:
    back, other = gpu(0, plan_id="plan1"), gpu(1)
    blind = {"sharing": sharing(other)}
    for rollback, head in ((False, "NVIDIA A10"), (True, "the move was undone, but NVIDIA A10")):
        end = at(Step.DONE, back, to=Mode.SHARED, rollback=rollback, **blind)
        assert isinstance(end, Finish) and end.reason is Reason.NOT_LISTED
        assert end.message.startswith(
            f"{head} 0000:00:00.0 on n1 is on its driver and serves nobody: HAMi does not list it"
        )
        assert "delete its pod" in end.message, "what to do"
    seen = at(Step.DONE, back, to=Mode.SHARED, sharing=sharing(back))
    assert isinstance(seen, Finish) and seen.reason is Reason.MOVE_COMPLETED


def test_only_gpus_that_are_back_are_called_ready_to_be_shared() -> None:
    action = at(Step.ATTACH, ARRIVED, to=Mode.SHARED, rollback=True)
    assert isinstance(action, Advance) and "ready to be shared: no GPU" in action.message


def test_our_cordon_goes_at_release_though_the_scheduler_was_not_asked() -> None:
    action = at(Step.RELEASE, ARRIVED, sharing=sharing(asked_for=""), cordoned=True, cordoned_by_us=True)
    assert isinstance(action, Perform) and action.effects == (Cordon(False),)
