"""A move whose agent is silent is undone or parked. Parked: HAMi and the node are given back, the GPUs of the move stay closed, and the agent's word decides."""

from dataclasses import replace
from typing import Any

import pytest

from poolmgr.controller.executor.actions import (
    Action,
    Advance,
    Cordon,
    FenceGpus,
    Park,
    Perform,
    Plugin,
    ResumeServices,
    Rollback,
    Shrink,
    Wait,
)
from poolmgr.controller.executor.advance import StepDeadlines, first_step_back, next_action
from poolmgr.domain.backoff import WHOLE_NODE
from poolmgr.domain.fleet import Gpu
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.liveness import AgentSign
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.neighbours import Neighbours, Service
from poolmgr.domain.reasons import Reason
from tests.builders import NOW, gpu, node, paused, pod, pool, sharing, snapshot, transition, vm

SILENT = AgentSign(heard=False, since=NOW - 300, silent=True)
STAYED, ALSO_STAYED = gpu(0, desired_mode=Mode.PASSTHROUGH), gpu(1, desired_mode=Mode.PASSTHROUGH)
ARRIVED = gpu(1, mode=Mode.PASSTHROUGH, desired_mode=Mode.PASSTHROUGH, plan_id="plan1")
HIDDEN = replace(ARRIVED, pci_address=gpu(0).pci_address, uuid=gpu(0).uuid, advertised=False)
NEIGHBOUR = gpu(2)
GIVEN_BACK = sharing(NEIGHBOUR, STAYED, fenced=frozenset({STAYED.uuid}), asked_for="", opened_at=NOW)


def parked(
    *gpus: Gpu, to: Mode = Mode.PASSTHROUGH, rollback: bool = False, since: float = NOW, **over: Any
) -> Action:
    """The next action of a move of `gpus` on a node that has NEIGHBOUR, too."""
    move = transition(*gpus, to=to, step=Step.ATTACH, step_started_at=since, rollback=rollback)
    rest = replace(paused(WHOLE_NODE, failed_at=since), reason=Reason.MOVE_PARKED.value)
    over.setdefault("sharing", GIVEN_BACK)
    seen = node(*gpus, NEIGHBOUR, transition=move, backoffs=(rest,), **over)
    return next_action(seen, snapshot(seen, pools=(pool(),)), StepDeadlines())


NOT_HEARD_YET = AgentSign(heard=False)

# -- before Attach --------------------------------------------------------------------------------------------------


def move_at(step: Step, sign: AgentSign, *, late: float = 0.0, rollback: bool = False, **over):
    moved = gpu(
        0,
        desired_mode=Mode.PASSTHROUGH,
        **({"observed_mode": Mode.PASSTHROUGH, "advertised": False} if step.order > 4 else {}),
    )
    under_way = transition(moved, step=step, step_started_at=NOW - late, rollback=rollback)
    return next_action(
        node(moved, NEIGHBOUR, agent=sign, transition=under_way, **over),
        snapshot(pools=(pool(),)),
        StepDeadlines(),
    )


BEFORE_ATTACH = [Step.INTEND, Step.FENCE, Step.DRAIN, Step.DETACH, Step.REBIND]

PATIENCE = StepDeadlines().silence


def silent_for(seconds: float) -> AgentSign:
    return AgentSign(heard=False, since=NOW - seconds, silent=True)


@pytest.mark.parametrize("step", BEFORE_ATTACH)
def test_a_move_waits_a_while_for_an_agent_that_falls_silent_and_says_so(step: Step) -> None:
    found = move_at(step, silent_for(PATIENCE), late=PATIENCE)
    assert isinstance(found, Wait) and found.reason is Reason.AGENT_SILENT
    assert step.value in found.message and "240 s at most" in found.message
    assert isinstance(move_at(step, NOT_HEARD_YET, late=86_400.0), Wait), (
        "a manager that has just started hears it first"
    )


@pytest.mark.parametrize("step", BEFORE_ATTACH)
def test_after_that_it_is_undone_where_no_gpu_was_touched_and_parked_where_one_may_have_been(
    step: Step,
) -> None:
    found = move_at(step, silent_for(PATIENCE + 1), late=PATIENCE + 1)
    assert isinstance(found, Park if step is Step.REBIND else Rollback)
    assert found.reason is Reason.AGENT_SILENT and "last heard from at" in found.message
    back = move_at(step, silent_for(PATIENCE + 1), late=PATIENCE + 1, rollback=True)
    assert isinstance(back, Park), "a way back has no way back"


def test_an_agent_that_comes_and_goes_holds_a_step_up_no_longer_than_one_that_stays_away() -> None:
    limit = StepDeadlines().rebind + PATIENCE
    for sign in (AgentSign(since=NOW - 5), silent_for(70)):
        assert isinstance(move_at(Step.REBIND, sign, late=limit), Wait)
    assert isinstance(move_at(Step.REBIND, silent_for(70), late=limit + 1), Park)
    assert isinstance(move_at(Step.REBIND, AgentSign(since=NOW - 5), late=limit + 1), Rollback)


def test_what_an_agents_own_clock_says_keeps_nobody_waiting() -> None:
    """A new manager knows of an agent that is silent only what that one wrote: here an instant a year ahead."""
    skewed = AgentSign(heard=False, since=NOW + 3e7, silent=True)
    assert isinstance(move_at(Step.REBIND, skewed, late=PATIENCE), Wait)
    assert isinstance(move_at(Step.REBIND, skewed, late=PATIENCE + 1), Park)
    assert isinstance(move_at(Step.REBIND, silent_for(0), late=PATIENCE + 1), Wait), "now is no time ahead"


def test_undone_before_rebind_it_ends_without_a_word_of_the_agent() -> None:
    """Its report is of before the last write: the GPU has not been touched all the same."""
    moved = gpu(0, desired_mode=Mode.PASSTHROUGH)
    for step in (Step.FENCE, Step.DRAIN, Step.DETACH):
        under_way = transition(moved, step=step)
        assert first_step_back(node(moved, transition=under_way, reported=False), under_way) is Step.ATTACH
    under_way = transition(moved, step=Step.REBIND)
    assert first_step_back(node(moved, transition=under_way, reported=False), under_way) is Step.FENCE


def test_hami_and_the_node_are_given_back_whether_the_agent_is_heard_or_not() -> None:
    off = sharing(NEIGHBOUR, plugin_wanted=False, plugin_pods=0)
    assert isinstance(move_at(Step.ATTACH, SILENT, sharing=off), Perform)
    opened = move_at(Step.RELEASE, SILENT, cordoned=True, cordoned_by_us=True)
    assert isinstance(opened, Perform)
    # Reopening clears what HAMi's scheduler was asked for.
    assert isinstance(move_at(Step.RELEASE, SILENT, sharing=sharing(NEIGHBOUR, asked_for="")), Advance)


def test_a_step_has_its_time_anew_once_the_agent_is_heard_again() -> None:
    back = AgentSign(since=NOW - 10)
    assert isinstance(move_at(Step.REBIND, back, late=400.0), Wait)
    assert isinstance(move_at(Step.REBIND, AgentSign(since=NOW - 400), late=400.0), Rollback)


# -- at Attach --------------------------------------------------------------------------------------------------------


def test_a_gpu_that_waits_to_be_offered_to_vms_waits_for_its_agent_and_is_not_taken_back() -> None:
    """It is bound to vfio-pci: to offer it takes the agent, and to undo the move does as well."""
    waits = move_at(Step.ATTACH, silent_for(70), late=90, sharing=sharing(NEIGHBOUR))
    assert isinstance(waits, Wait) and waits.reason is Reason.AGENT_SILENT
    assert waits.message.startswith(
        "NVIDIA A10 0000:00:00.0 is on its driver for VMs, and only the agent can offer it to them: the agent of n1 was last heard"
    )
    found = move_at(Step.ATTACH, silent_for(PATIENCE + 1), late=PATIENCE + 30, sharing=sharing(NEIGHBOUR))
    assert isinstance(found, Park) and found.reason is Reason.AGENT_SILENT
    assert "was last on its driver for Passthrough and serves once the agent is back" in found.message
    parked_since = parked(HIDDEN, agent=SILENT, since=NOW - 1e6)
    assert isinstance(parked_since, Wait) and parked_since.reason is Reason.AGENT_SILENT
    assert isinstance(parked(replace(HIDDEN, advertised=True), sharing=sharing(NEIGHBOUR)), Advance)


def test_so_does_one_that_the_kubelet_takes_off_the_node_as_the_agents_plugin_is_gone() -> None:
    shown = replace(HIDDEN, advertised=True)
    move = transition(shown, step=Step.ATTACH, step_started_at=NOW - 90)
    gone = {"offered": ((shown.resource_name, 0),), "sharing": sharing(NEIGHBOUR)}
    seen = node(shown, NEIGHBOUR, agent=silent_for(70), transition=move, **gone)
    waits = next_action(seen, snapshot(seen), StepDeadlines())
    assert isinstance(waits, Wait) and waits.reason is Reason.AGENT_SILENT
    heard = next_action(replace(seen, agent=AgentSign()), snapshot(seen), StepDeadlines())
    assert isinstance(heard, Wait) and "to offer NVIDIA A10 0000:00:00.0 to VMs on its Node" in heard.message


def test_a_vm_that_got_it_before_the_agent_died_ends_the_wait() -> None:
    seen = node(
        HIDDEN,
        NEIGHBOUR,
        agent=silent_for(PATIENCE + 1),
        transition=transition(HIDDEN, step=Step.ATTACH, step_started_at=NOW - PATIENCE - 30),
    )
    found = next_action(seen, snapshot(seen, vms=(vm(on=(HIDDEN,)),)), StepDeadlines())
    assert isinstance(found, Advance) and found.to is Step.RELEASE


def test_a_gpu_whose_uuid_only_its_agent_can_tell_waits_for_it() -> None:
    nameless = gpu(0, desired_mode=Mode.SHARED, uuid=GpuUuid(""))
    for since, expected in ((70, Wait), (PATIENCE + 1, Park)):
        move = transition(nameless, to=Mode.SHARED, step=Step.ATTACH, step_started_at=NOW - since)
        seen = node(nameless, NEIGHBOUR, agent=silent_for(since), transition=move)
        found = next_action(replace(seen, sharing=sharing(NEIGHBOUR)), snapshot(seen), StepDeadlines())
        assert isinstance(found, expected) and found.reason is Reason.AGENT_SILENT


def test_what_hami_is_late_for_is_not_undone_either_while_nobody_can_undo_it() -> None:
    """The way back begins with a rebind, for which there is no agent."""
    late, away = StepDeadlines().attach + PATIENCE + 1, sharing(NEIGHBOUR, plugin_ready=False)
    for to, mode in ((Mode.SHARED, Mode.SHARED), (Mode.PASSTHROUGH, Mode.PASSTHROUGH)):
        there = gpu(0, mode=mode, desired_mode=mode, plan_id="plan1")
        move = transition(there, to=to, step=Step.ATTACH, step_started_at=NOW - late)
        seen = node(there, NEIGHBOUR, agent=silent_for(late), transition=move, sharing=away)
        assert isinstance(next_action(seen, snapshot(seen), StepDeadlines()), Park)
        heard = next_action(replace(seen, agent=AgentSign()), snapshot(seen), StepDeadlines())
        assert isinstance(heard, Rollback)


# -- while nobody says where the GPUs are -------------------------------------------------------------------------


def test_hami_is_brought_back() -> None:
    off = sharing(plugin_wanted=False, plugin_pods=0, plugin_ready=False, asked_for="")
    action = parked(STAYED, agent=SILENT, sharing=off)
    assert isinstance(action, Perform) and action.effects == (Plugin(True),)


def test_paused_services_run_again_first() -> None:
    paused_by_us = Neighbours(services=(Service("nvidia.com/gpu.deploy.dcgm-exporter", paused=True),))
    action = parked(STAYED, agent=SILENT, neighbours=paused_by_us)
    assert isinstance(action, Perform)
    assert action.effects == (ResumeServices(frozenset({"nvidia.com/gpu.deploy.dcgm-exporter"})),)


def test_a_gpu_without_uuid_is_not_named_to_hami() -> None:
    no_name = replace(STAYED, uuid=GpuUuid(""))
    both_closed = replace(GIVEN_BACK, fenced=frozenset(), closing=frozenset({NEIGHBOUR.uuid}))
    action = parked(no_name, agent=SILENT, sharing=both_closed)
    assert isinstance(action, Perform) and action.effects[0] == FenceGpus(frozenset())


@pytest.mark.parametrize("agent", [SILENT, AgentSign()])
def test_a_node_without_hami_needs_nothing_back(agent: AgentSign) -> None:
    action = parked(replace(STAYED, observed_mode=None, phase=DevicePhase.MOVING), sharing=None, agent=agent)
    assert isinstance(action, Wait)
    home = gpu(0, desired_mode=Mode.SHARED, plan_id="plan1")
    assert not isinstance(parked(home, to=Mode.SHARED, sharing=None), Wait | Rollback)


def test_all_but_the_gpus_of_the_move_are_opened() -> None:
    both_closed = replace(GIVEN_BACK, fenced=frozenset(), closing=frozenset({STAYED.uuid, NEIGHBOUR.uuid}))
    action = parked(STAYED, agent=SILENT, sharing=both_closed)
    assert isinstance(action, Perform)
    assert action.effects[0] == FenceGpus(frozenset({STAYED.uuid}))


@pytest.mark.parametrize(
    "over",
    [
        {"cordoned": True, "cordoned_by_us": True},
        {"sharing": replace(GIVEN_BACK, asked_for="plan1", asked_at=NOW - 60)},
    ],
)
def test_the_node_is_opened_once_hami_has_looked(over: dict[str, Any]) -> None:
    action = parked(STAYED, agent=SILENT, **over)
    assert isinstance(action, Perform) and action.effects == (Cordon(False),)


def test_then_the_move_waits_however_long_it_takes() -> None:
    action = parked(STAYED, agent=SILENT, since=NOW - 1e6)
    assert isinstance(action, Wait) and action.reason is Reason.AGENT_SILENT
    assert action.message.startswith("NVIDIA A10 0000:00:00.0 is closed to new vGPU pods: ")
    assert "last heard from" in action.message


def test_an_agent_that_is_heard_again_has_to_report_first() -> None:
    action = parked(STAYED, reported=False)
    assert isinstance(action, Wait) and action.reason is Reason.AGENT_SILENT
    assert action.message.endswith("the agent of n1 is heard again and has not said yet where they are")
    heard_long_ago = AgentSign(since=NOW - 86_400)
    assert isinstance(parked(STAYED, reported=False, since=NOW - 86_400, agent=heard_long_ago), Wait)
    late = move_at(Step.ATTACH, heard_long_ago, late=86_400.0, reported=False)
    assert isinstance(late, Rollback), "one that is not parked has its time"


# -- once the agent has said --------------------------------------------------------------------------------------


def test_a_gpu_that_has_arrived_is_attached_as_ever() -> None:
    arrived = replace(ARRIVED, advertised=False)
    action = parked(arrived, sharing=sharing(NEIGHBOUR))
    assert isinstance(action, Wait) and action.reason is not Reason.AGENT_SILENT
    limit = StepDeadlines().attach
    heard_at_last = AgentSign(since=NOW - limit)
    in_time = parked(arrived, sharing=sharing(NEIGHBOUR), since=NOW - 86_400, agent=heard_at_last)
    assert isinstance(in_time, Wait), "how long it was parked does not count"
    late = parked(arrived, sharing=sharing(NEIGHBOUR), since=NOW - limit - 1)
    assert isinstance(late, Rollback) and late.reason is Reason.STEP_TIMED_OUT


def test_a_move_whose_gpus_stayed_is_undone() -> None:
    action = parked(STAYED, ALSO_STAYED)
    assert isinstance(action, Rollback) and action.reason is Reason.AGENT_SILENT
    assert action.message.endswith(
        "0000:00:01.0 on n1 is Shared now that its agent is heard again: not rebound when it fell silent, or back since a reboot"
    )


def test_a_move_goes_on_with_those_that_arrived() -> None:
    action = parked(STAYED, ARRIVED)
    assert isinstance(action, Shrink) and action.reason is Reason.AGENT_SILENT
    assert action.devices == (ARRIVED.pci_address,)


@pytest.mark.parametrize("mode", [*Mode, None])
@pytest.mark.parametrize("phase", [DevicePhase.MOVING, DevicePhase.UNBOUND, DevicePhase.FOREIGN])
def test_a_gpu_on_neither_driver_is_waited_for(phase: DevicePhase, mode: Mode | None) -> None:
    action = parked(replace(STAYED, phase=phase, observed_mode=mode), ARRIVED)
    assert isinstance(action, Wait) and action.reason is Reason.STEP_WAITING
    assert (
        action.message
        == "the agent of n1 has not brought NVIDIA A10 0000:00:00.0 onto a driver of its modes yet"
    )


def test_a_quarantined_gpu_is_not_waited_for_and_undoes_nothing() -> None:
    broken = replace(STAYED, phase=DevicePhase.QUARANTINED, observed_mode=None)
    action = parked(broken, replace(ARRIVED, advertised=True))
    assert not isinstance(action, Rollback | Shrink)
    assert action.reason not in (Reason.AGENT_SILENT, Reason.STEP_WAITING)


def test_a_way_back_is_not_undone_again() -> None:
    stayed_there = replace(ARRIVED, desired_mode=Mode.SHARED)
    action = parked(stayed_there, to=Mode.SHARED, rollback=True, sharing=sharing(NEIGHBOUR, asked_for=""))
    assert not isinstance(action, Rollback | Shrink)


def test_hamis_plugin_looks_again_for_a_gpu_that_it_started_without() -> None:
    home = gpu(0, desired_mode=Mode.SHARED, plan_id="plan1")
    blind = sharing(NEIGHBOUR, asked_for="")
    action = parked(home, to=Mode.SHARED, sharing=blind)
    assert isinstance(action, Advance)
    assert (action.to, action.reason) == (Step.DETACH, Reason.REGISTRATION_PENDING)
    starting = parked(home, to=Mode.SHARED, sharing=replace(blind, plugin_ready=False))
    assert not isinstance(starting, Advance), "one that starts now may find it"


# -- what an attack found ---------------------------------------------------------------------------------------------


def test_a_gpu_that_is_reported_on_the_other_driver_before_rebind_has_its_move_parked() -> None:
    """It was rebound, and the move went back to an earlier step."""
    there = gpu(0, mode=Mode.PASSTHROUGH, desired_mode=Mode.PASSTHROUGH)
    for gpus in ((there,), (there, ALSO_STAYED)):
        under_way = transition(*gpus, step=Step.DETACH, step_started_at=NOW - PATIENCE - 1)
        seen = node(*gpus, NEIGHBOUR, agent=silent_for(PATIENCE + 1), transition=under_way)
        assert isinstance(next_action(seen, snapshot(pools=(pool(),)), StepDeadlines()), Park)


def test_while_a_silent_agent_is_waited_for_the_other_gpus_are_open() -> None:
    moved = gpu(0, desired_mode=Mode.PASSTHROUGH)
    all_closed = sharing(moved, NEIGHBOUR, fenced=frozenset({moved.uuid, NEIGHBOUR.uuid}))
    opened = move_at(Step.DETACH, silent_for(70), sharing=all_closed)
    assert isinstance(opened, Perform) and opened.effects == (FenceGpus(frozenset({moved.uuid})),)
    assert isinstance(move_at(Step.DETACH, NOT_HEARD_YET, sharing=all_closed), Wait)
    assert isinstance(move_at(Step.REBIND, silent_for(70), sharing=all_closed), Wait), (
        "it may be on any driver"
    )


def test_what_is_said_of_each_parked_gpu_is_what_keeps_others_off_it() -> None:
    unsure = replace(GIVEN_BACK, fenced=frozenset(), closing=frozenset(), version=(2, 8))
    said = parked(STAYED, agent=SILENT, sharing=unsure)
    assert isinstance(said, Wait)
    assert said.message.startswith("nobody knows on which driver NVIDIA A10 0000:00:00.0 is: ")
    user = pod(on=STAYED)
    move = transition(STAYED, step=Step.ATTACH)
    rest = replace(paused(WHOLE_NODE, failed_at=NOW), reason=Reason.MOVE_PARKED.value)
    seen = node(STAYED, NEIGHBOUR, transition=move, backoffs=(rest,), agent=SILENT, sharing=GIVEN_BACK)
    used = next_action(seen, snapshot(seen, pools=(pool(),), pods=(user,)), StepDeadlines())
    assert isinstance(used, Wait) and used.message.startswith(
        f"pod {user.namespace}/{user.name} has NVIDIA A10"
    )
