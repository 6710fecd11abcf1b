"""Shared → passthrough: what each step waits for, and in which order HAMi is asked to let go.

One file, long as it is: its sections are the steps of one recipe, in their order.
"""

from dataclasses import replace

import pytest

from poolmgr.controller.executor.actions import (
    Advance,
    AskScheduler,
    Cordon,
    Evict,
    FenceGpus,
    Finish,
    Perform,
    Plugin,
    Rollback,
    Shrink,
    Unregister,
    Wait,
)
from poolmgr.controller.executor.advance import StepDeadlines, first_step_back, next_action
from poolmgr.controller.intents import shrunk
from poolmgr.domain.fleet import EvictionRule, Granularity, Holder
from poolmgr.domain.identifiers import LeaseEpoch, PlanId
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.sharing import SharingState
from tests.builders import NOW, gpu, node, pod, pool, registered, sharing, snapshot, transition

G0 = gpu(0, desired_mode=Mode.PASSTHROUGH)
G1 = gpu(1)


def at(step: Step, *, on=None, pods=(), pools=None, gpus=(G0, G1), **node_overrides):
    node_overrides.setdefault("transition", transition(G0, step=step))
    if on is not None:
        node_overrides["sharing"] = on
    n = node(*gpus, **node_overrides)
    return next_action(n, snapshot(n, pods=pods, pools=pools or (pool(),)), StepDeadlines())


BOTH = frozenset({G0.uuid, G1.uuid})


def test_fence_closes_all_gpus_of_the_node_where_nobody_has_to_be_waited_for() -> None:
    action = at(Step.FENCE)
    assert isinstance(action, Perform)
    assert action.effects == (FenceGpus(BOTH),)


@pytest.mark.parametrize(
    "fields",
    [
        {"pods": (pod("train", on=G0),)},
        {"cordoned": True},
        {"gpus": (replace(G0, observed_mode=Mode.PASSTHROUGH), G1)},
    ],
    ids=["in use", "cordoned by somebody", "with the VMs already"],
)
def test_otherwise_fence_closes_the_gpu_alone(fields) -> None:
    assert at(Step.FENCE, **fields).effects == (FenceGpus(frozenset({G0.uuid})),)


def test_fence_is_done_when_hami_shows_it() -> None:
    action = at(Step.FENCE, on=sharing(G0, G1, fenced=frozenset({G0.uuid})))
    assert isinstance(action, Advance) and action.to is Step.DRAIN


def test_fence_before_2_10_relies_on_the_webhook_alone() -> None:
    action = at(Step.FENCE, on=sharing(G0, G1, version=(2, 8)))
    assert isinstance(action, Advance) and action.to is Step.DRAIN


UNSURE = Verdict(False, Reason.CANNOT_TELL, "NVML does not answer")


@pytest.mark.parametrize(
    "fields",
    [
        {"gpus": (replace(G0, rebind=UNSURE), G1)},
        {"pods": (pod("notebook", node=G0.node),)},
        {"on": sharing(G1, gpu(7))},
    ],
    ids=["its agent", "a pod", "HAMi"],
)
def test_while_it_cannot_be_told_who_uses_it_nobody_is_disturbed(fields) -> None:
    waits = at(Step.DRAIN, **fields)
    assert isinstance(waits, Wait) and waits.reason is Reason.CANNOT_TELL and G0.pci_address in waits.message
    back = at(Step.DETACH, **fields)
    assert isinstance(back, Advance) and back.to is Step.DRAIN and back.reason is Reason.CANNOT_TELL


def test_once_the_node_is_cordoned_the_move_waits_where_it_is() -> None:
    waits = at(Step.DETACH, gpus=(replace(G0, rebind=UNSURE), G1), cordoned=True, cordoned_by_us=True)
    assert isinstance(waits, Wait) and waits.reason is Reason.CANNOT_TELL


def test_once_hamis_plugin_was_asked_to_leave_the_move_waits_where_it_is() -> None:
    unsure = (replace(G0, rebind=UNSURE), G1)
    waits = at(Step.DETACH, gpus=unsure, on=sharing(G0, G1, plugin_wanted=False))
    assert isinstance(waits, Wait) and waits.reason is Reason.CANNOT_TELL
    without_hami = at(Step.DETACH, gpus=unsure, sharing=None)
    assert isinstance(without_hami, Advance) and without_hami.to is Step.DRAIN


def test_while_it_cannot_be_told_who_uses_it_the_other_gpus_are_open() -> None:
    unsure = (replace(G0, rebind=UNSURE), G1)
    reopens = at(Step.DRAIN, gpus=unsure, on=sharing(G0, G1, fenced=BOTH))
    assert isinstance(reopens, Perform) and reopens.effects == (FenceGpus(frozenset({G0.uuid})),)


def test_a_move_goes_on_where_an_operator_cordons_its_gpu_meanwhile() -> None:
    kept = replace(G0, rebind=Verdict(False, Reason.GPU_CORDONED, "an operator cordoned it"))
    action = at(Step.DRAIN, gpus=(kept, G1))
    assert isinstance(action, Advance) and action.to is Step.DETACH


def ahead(reason: Reason, *pods, **fields):
    """Both GPUs of the node drain; `reason` says for whom."""
    both = (
        gpu(0, desired_mode=Mode.PASSTHROUGH, **fields),
        gpu(1, desired_mode=Mode.PASSTHROUGH, **fields),
    )
    move = transition(*both, step=Step.DRAIN)
    return at(Step.DRAIN, gpus=both, pods=pods, transition=replace(move, reason=reason.value))


def test_of_gpus_drained_ahead_of_demand_the_empty_ones_go_first() -> None:
    action = ahead(Reason.HEADROOM, pod("train", on=G1))
    assert isinstance(action, Shrink)
    assert action.devices == (G0.pci_address,)
    assert "reopened" in action.message


def test_gpus_for_one_waiting_vm_and_gpus_of_one_domain_move_together() -> None:
    assert isinstance(ahead(Reason.VM_WAITING, pod("train", on=G1)), Wait)
    assert isinstance(ahead(Reason.HEADROOM, pod("train", on=G1), nvswitch_domain="board"), Wait)


def test_narrowing_wants_the_others_back_where_they_came_from() -> None:
    both = (gpu(0, desired_mode=Mode.PASSTHROUGH), gpu(1, desired_mode=Mode.PASSTHROUGH))
    n = node(*both, transition=transition(*both, step=Step.DRAIN))
    intent = shrunk(n, (G0.pci_address,), LeaseEpoch(5), NOW)
    assert intent.transition is not None
    assert (intent.transition.devices, intent.transition.step) == ((G0.pci_address,), Step.DRAIN)
    assert {address: mode for address, mode, _ in intent.desired} == {
        both[0].pci_address: Mode.PASSTHROUGH,
        both[1].pci_address: Mode.SHARED,
    }


def test_drain_waits_for_a_pod_by_name_and_evicts_nobody_by_default() -> None:
    action = at(Step.DRAIN, pods=(pod("train", on=G0, best_effort=True, evictable=True),))
    assert isinstance(action, Wait)
    assert action.reason is Reason.DRAIN_WAITING
    assert "ml/train" in action.message and "nothing is unbound" in action.message


def test_drain_evicts_best_effort_pods_where_the_pool_allows_it() -> None:
    lax = (pool(eviction=EvictionRule.BEST_EFFORT),)
    pods = (pod("be", on=G0, best_effort=True, evictable=True), pod("ls", on=G0))
    action = at(Step.DRAIN, pods=pods, pools=lax)
    assert isinstance(action, Perform)
    assert action.effects == (Evict(pods[0].uid, "ml", "be"),)


def test_a_pod_whose_disruption_budget_says_no_is_not_asked_to_leave() -> None:
    lax = (pool(eviction=EvictionRule.BEST_EFFORT),)
    soft = pod("soft", on=G0, best_effort=True, evictable=True)
    guarded = pod("guarded", on=G0, best_effort=True, evictable=False)
    action = at(Step.DRAIN, pods=(soft, guarded), pools=lax)
    assert isinstance(action, Perform)
    assert action.effects == (Evict(soft.uid, "ml", "soft"),)
    assert "soft" in action.message and "guarded" not in action.message
    assert isinstance(at(Step.DRAIN, pods=(guarded,), pools=lax), Wait)


def test_a_process_of_the_host_on_the_gpu_is_waited_for_before_the_node_is_disturbed() -> None:
    held = replace(G0, holders=(Holder(4242, "Xorg", path="/dev/nvidia0"),))
    action = at(Step.DRAIN, gpus=(held, G1))
    assert isinstance(action, Wait) and "process Xorg (pid 4242)" in action.message
    again = at(Step.DETACH, gpus=(held, G1), cordoned=True)
    assert isinstance(again, Advance) and again.to is Step.DRAIN
    daemon = replace(G0, holders=(Holder(300, "nvidia-device-p", path="/dev/nvidia0"),))
    assert isinstance(at(Step.DRAIN, gpus=(daemon, G1)), Advance)


def test_drain_ignores_pods_on_other_gpus() -> None:
    action = at(Step.DRAIN, pods=(pod("other", on=G1),))
    assert isinstance(action, Advance) and action.to is Step.DETACH


def test_a_terminating_pod_still_holds_its_gpu() -> None:
    action = at(Step.DRAIN, pods=(pod("leaving", on=G0, terminating=True),))
    assert isinstance(action, Wait)


GONE = sharing(plugin_wanted=False, plugin_pods=0, allocatable=0)


@pytest.mark.parametrize(
    ("state", "node_overrides", "expected"),
    [
        (sharing(G0, G1), {}, Perform((FenceGpus(BOTH),), Reason.STEP_STARTED, "")),
        (
            sharing(G0, G1, fenced=frozenset({G0.uuid})),
            {},
            Perform((FenceGpus(BOTH),), Reason.STEP_STARTED, ""),
        ),
        (sharing(G0, G1, closing=BOTH), {}, Wait(Reason.BIND_IN_FLIGHT, "")),
        (sharing(G0, G1, fenced=BOTH), {}, Perform((Plugin(False),), Reason.STEP_STARTED, "")),
        (sharing(G0, G1, version=(2, 8)), {}, Perform((Cordon(True),), Reason.STEP_STARTED, "")),
        (
            sharing(G0, G1, closing=BOTH, plugin_wanted=False, handshake=""),
            {},
            Wait(Reason.PLUGIN_STILL_RUNNING, ""),
        ),
        (sharing(G0, G1, allocating=1), {"cordoned": True}, Wait(Reason.BIND_IN_FLIGHT, "")),
        (sharing(G0, G1, locked_by="ml/p"), {"cordoned": True}, Wait(Reason.BIND_IN_FLIGHT, "")),
        (sharing(G0, G1, last_placement_at=NOW - 14), {"cordoned": True}, Wait(Reason.BIND_IN_FLIGHT, "")),
        (
            sharing(G0, G1, last_placement_at=NOW - 16),
            {"cordoned": True},
            Perform((Plugin(False),), Reason.STEP_STARTED, ""),
        ),
        (
            sharing(G0, G1, plugin_wanted=False),
            {"cordoned": True},
            Wait(Reason.PLUGIN_STILL_RUNNING, ""),
        ),
        (
            sharing(G0, G1, plugin_wanted=False, plugin_pods=0),
            {"cordoned": True},
            Wait(Reason.PLUGIN_STILL_RUNNING, ""),
        ),
        (
            sharing(G0, G1, plugin_wanted=False, plugin_pods=0, allocatable=0),
            {"cordoned": True},
            Perform((Unregister(),), Reason.STEP_STARTED, ""),
        ),
        (
            sharing(G0, G1, plugin_wanted=False, plugin_pods=0, allocatable=0, version=(2, 8)),
            {"cordoned": True},
            Wait(Reason.REGISTRATION_PENDING, ""),
        ),
        (
            sharing(
                G0,
                G1,
                plugin_wanted=False,
                plugin_pods=0,
                allocatable=0,
                version=(2, 9),
                handshake="Deleted_2026-11-22 10:00:00",
            ),
            {"cordoned": True},
            Perform((Unregister(),), Reason.STEP_STARTED, ""),
        ),
        (
            sharing(plugin_wanted=False, plugin_pods=0, allocatable=0),
            {"cordoned": True},
            Advance(Step.REBIND, Reason.STEP_DONE, ""),
        ),
        (
            replace(GONE, closing=BOTH),
            {},
            Advance(Step.REBIND, Reason.STEP_DONE, ""),
        ),
        (
            replace(GONE, version=(2, 8), handshake="Deleted_2026-11-22 10:00:00"),
            {"cordoned": True, "cordoned_by_us": True},
            Perform((Cordon(False),), Reason.STEP_STARTED, ""),
        ),
        (
            replace(GONE, version=(2, 8), handshake="Deleted_2026-11-22 10:00:00"),
            {},
            Advance(Step.REBIND, Reason.STEP_DONE, ""),
        ),
        (replace(GONE, version=(2, 8)), {}, Perform((Cordon(True),), Reason.STEP_STARTED, "")),
    ],
    ids=[
        "close all first",
        "close the others, too",
        "the scheduler has not read that",
        "plugin asked to leave once closed and quiet",
        "2.8: cordon first",
        "closed, though the stamp is off",
        "a pod is being allocated",
        "the node lock is held",
        "a placement is too fresh",
        "plugin asked to leave once quiet",
        "plugin pod still there",
        "kubelet still advertises",
        "2.10: unregister once gone",
        "2.8: not before the scheduler cleaned up",
        "2.9: unregister after the clean-up",
        "let go of a cordoned node",
        "let go",
        "2.8: open as soon as it is forgotten",
        "2.8: let go",
        "2.8: not forgotten for sure",
    ],
)
def test_detach_follows_hamis_order(state: SharingState, node_overrides, expected) -> None:
    action = at(Step.DETACH, on=state, **node_overrides)
    assert replace(action, message="") == expected
    assert action.message


def test_a_scheduler_that_does_not_say_that_it_has_read_has_the_node_cordoned_in_the_end() -> None:
    fresh, old = (transition(G0, step=Step.DETACH, step_started_at=NOW - seconds) for seconds in (44, 45))
    unread = sharing(G0, G1, closing=BOTH, handshake="")
    assert isinstance(at(Step.DETACH, on=unread, transition=fresh), Wait)
    assert at(Step.DETACH, on=unread, transition=old).effects == (Cordon(True),)
    assert at(Step.DETACH, on=unread, transition=old, cordoned=True).effects == (Plugin(False),)


def test_while_pods_are_waited_for_the_other_gpus_are_open() -> None:
    """Somebody came before the fence stood, or during Detach: the drain may take long."""
    pods = (pod("late", on=G0),)
    action = at(Step.DRAIN, pods=pods, on=sharing(G0, G1, fenced=BOTH))
    assert action.effects == (FenceGpus(frozenset({G0.uuid})),)
    older = sharing(G0, G1, version=(2, 8))
    assert at(Step.DRAIN, pods=pods, on=older, cordoned=True, cordoned_by_us=True).effects == (Cordon(False),)
    open_already = sharing(G0, G1, fenced=frozenset({G0.uuid}))
    assert isinstance(at(Step.DRAIN, pods=pods, on=open_already), Wait)


def test_nothing_is_opened_while_the_plugin_is_away() -> None:
    stopped = sharing(G0, G1, fenced=BOTH, plugin_wanted=False)
    action = at(Step.DRAIN, pods=(pod("late", on=G0),), on=stopped, cordoned=True, cordoned_by_us=True)
    assert isinstance(action, Wait)


def test_hami_is_told_to_open_once_it_has_registered_the_others() -> None:
    ready = sharing(G1, fenced=BOTH, asked_for="")
    action = at(Step.ATTACH, on=ready, gpus=(moved(), G1))
    assert action.effects == (FenceGpus(frozenset()), AskScheduler(PlanId("plan1"), NOW))


def test_a_gpu_that_a_vm_has_already_stays_with_it_though_hami_does_not_come_back() -> None:
    late = transition(G0, step=Step.ATTACH, step_started_at=NOW - 10_000)
    gpus = (moved(allocated_to="launcher"), G1)
    action = at(Step.ATTACH, on=replace(OFF, plugin_wanted=True), gpus=gpus, transition=late)
    assert isinstance(action, Advance) and action.to is Step.RELEASE
    assert action.reason is Reason.STEP_TIMED_OUT and "has its GPU already and keeps it" in action.message


def test_of_a_late_move_the_gpu_that_a_vm_has_goes_on_alone() -> None:
    late = transition(G0, G1, step=Step.REBIND, step_started_at=NOW - 10_000)
    stays = replace(G1, desired_mode=Mode.PASSTHROUGH)
    action = at(Step.REBIND, on=OFF, gpus=(moved(allocated_to="launcher"), stays), transition=late)
    assert isinstance(action, Shrink) and action.reason is Reason.STEP_TIMED_OUT
    assert action.devices == (G0.pci_address,)
    nobody = at(Step.REBIND, on=OFF, gpus=(moved(), stays), transition=late)
    assert isinstance(nobody, Rollback), "as before where nobody has come"
    all_there = (moved(allocated_to="launcher"), replace(stays, observed_mode=Mode.PASSTHROUGH))
    whole = at(Step.REBIND, on=OFF, gpus=all_there, transition=late)
    assert not isinstance(whole, Shrink), "nothing is to be left out"


def test_a_pod_that_slipped_in_sends_detach_back_to_drain() -> None:
    action = at(Step.DETACH, pods=(pod("late", on=G0),))
    assert isinstance(action, Advance) and action.to is Step.DRAIN
    assert "ml/late" in action.message


def moved(**overrides):
    values = {
        "observed_mode": Mode.PASSTHROUGH,
        "desired_mode": Mode.PASSTHROUGH,
        "plan_id": "plan1",
        "advertised": True,
    }
    return gpu(0, mode=Mode.PASSTHROUGH, **{**values, **overrides})


OFF = sharing(plugin_wanted=False, plugin_pods=0, allocatable=0, plugin_ready=False)


def test_rebind_waits_for_the_agents_echo() -> None:
    assert isinstance(at(Step.REBIND, on=OFF), Wait)
    assert isinstance(at(Step.REBIND, on=OFF, gpus=(moved(plan_id="older"), G1)), Wait)
    action = at(Step.REBIND, on=OFF, gpus=(moved(), G1))
    assert isinstance(action, Advance) and action.to is Step.ATTACH


def test_rebind_repeats_the_agents_words_while_it_waits() -> None:
    held = replace(G0, reason="HolderPresent", message="process 77 (Xorg) has /dev/nvidia0 open")
    action = at(Step.REBIND, on=OFF, gpus=(held, G1))
    assert isinstance(action, Wait) and "process 77 (Xorg)" in action.message


def test_a_quarantined_gpu_turns_the_move_back() -> None:
    broken = replace(G0, phase=DevicePhase.QUARANTINED, observed_mode=None, message="unbind hangs")
    action = at(Step.REBIND, on=OFF, gpus=(broken, G1))
    assert isinstance(action, Rollback) and "unbind hangs" in action.message


def test_attach_gives_the_rest_back_to_hami_before_it_is_done() -> None:
    gpus = (moved(), G1)
    assert at(Step.ATTACH, on=OFF, gpus=gpus).effects == (Plugin(True),)
    starting = replace(OFF, plugin_wanted=True, plugin_pods=1)
    assert isinstance(at(Step.ATTACH, on=starting, gpus=gpus), Wait)
    lists_both = sharing(G0, G1)
    assert "left n1" in at(Step.ATTACH, on=lists_both, gpus=gpus).message
    unhealthy = sharing(G1, registered=(registered(G1, healthy=False),))
    assert isinstance(at(Step.ATTACH, on=unhealthy, gpus=gpus), Wait)
    action = at(Step.ATTACH, on=sharing(G1), gpus=gpus)
    assert isinstance(action, Advance) and action.to is Step.RELEASE


def test_attach_waits_for_the_kubelet_to_show_the_gpu() -> None:
    action = at(Step.ATTACH, on=sharing(G1), gpus=(moved(advertised=False), G1))
    assert isinstance(action, Wait) and "kubelet" in action.message


@pytest.mark.parametrize(("offered", "arrived"), [(0, False), (1, False), (2, True)])
def test_attach_waits_until_the_kubelet_offers_all_gpus_of_its_name_on_the_node(
    offered: int, arrived: bool
) -> None:
    there_before = gpu(1, mode=Mode.PASSTHROUGH, advertised=True, resource_name=G0.resource_name)
    found = at(Step.ATTACH, on=OFF, gpus=(moved(), there_before), offered=((G0.resource_name, offered),))
    assert isinstance(found, Advance) is arrived
    assert arrived or ("offer" in found.message and "on its Node" in found.message)


def test_attach_does_not_wait_for_gpus_of_another_name() -> None:
    other = gpu(1, mode=Mode.PASSTHROUGH, advertised=True, resource_name="nvidia.com/other")
    offers = ((G0.resource_name, 1), ("nvidia.com/other", 0))
    assert isinstance(at(Step.ATTACH, on=OFF, gpus=(moved(), other), offered=offers), Advance)


def test_attach_does_not_wait_for_the_kubelet_to_show_a_gpu_that_an_operator_closed() -> None:
    withdrawn = moved(
        advertised=False, closed=Verdict(False, Reason.GPU_QUARANTINED, "taken out of use by anna")
    )
    action = at(Step.ATTACH, on=sharing(G1), gpus=(withdrawn, G1))
    assert isinstance(action, Advance) and action.to is Step.RELEASE


def test_a_node_given_whole_to_vms_keeps_hamis_plugin_off() -> None:
    action = at(Step.ATTACH, on=OFF, gpus=(moved(),))
    assert isinstance(action, Advance) and action.to is Step.RELEASE


def test_release_lifts_only_our_own_cordon() -> None:
    fenced = sharing(G1, fenced=frozenset({G0.uuid}))
    action = at(Step.RELEASE, on=fenced, gpus=(moved(), G1), cordoned=True, cordoned_by_us=True)
    assert action.effects == (FenceGpus(frozenset()), Cordon(False))
    on = sharing(G1, asked_for="")
    action = at(Step.RELEASE, on=on, gpus=(moved(), G1), cordoned=True, cordoned_by_us=False)
    assert isinstance(action, Advance) and action.to is Step.DONE


def test_release_has_pods_tried_again_that_hami_turned_away() -> None:
    assert at(Step.RELEASE, on=sharing(G1), gpus=(moved(), G1)).effects == (Cordon(False),)


def test_when_all_is_done_the_move_is_taken_off() -> None:
    assert isinstance(at(Step.DONE, on=sharing(G1), gpus=(moved(), G1)), Finish)


@pytest.mark.parametrize("step", [Step.FENCE, Step.DETACH, Step.REBIND, Step.ATTACH])
def test_a_step_past_its_deadline_is_undone(step: Step) -> None:
    late = transition(G0, step=step, step_started_at=NOW - 10_000)
    gpus = (moved(), G1) if step is Step.ATTACH else (G0, G1)
    action = at(step, on=replace(sharing(G0, G1), plugin_wanted=False), gpus=gpus, transition=late)
    assert isinstance(action, Rollback) and action.reason is Reason.STEP_TIMED_OUT


def test_drain_keeps_to_the_pools_own_timeout() -> None:
    pods = (pod("train", on=G0),)
    slow = transition(G0, step=Step.DRAIN, step_started_at=NOW - 700)
    assert isinstance(at(Step.DRAIN, pods=pods, transition=slow), Rollback)
    patient = (pool(drain_timeout_seconds=3600),)
    assert isinstance(at(Step.DRAIN, pods=pods, pools=patient, transition=slow), Wait)


def test_an_undone_move_that_is_late_goes_on_instead_of_back_again() -> None:
    back = transition(G0, to=Mode.SHARED, step=Step.ATTACH, rollback=True, step_started_at=NOW - 10_000)
    action = at(Step.ATTACH, on=replace(OFF, plugin_wanted=True), transition=back, gpus=(gpu(0), G1))
    assert isinstance(action, Advance) and action.to is Step.RELEASE
    assert action.reason is Reason.STEP_TIMED_OUT


def test_undoing_never_detaches_a_gpu_that_is_in_use() -> None:
    back = transition(G0, step=Step.DRAIN, rollback=True, step_started_at=NOW - 10_000)
    action = at(Step.DRAIN, pods=(pod("train", on=G0),), transition=back)
    assert isinstance(action, Advance) and action.to is Step.ATTACH
    assert action.reason is Reason.STEP_TIMED_OUT


def test_undoing_starts_where_something_has_to_be_undone() -> None:
    t = transition(G0, step=Step.REBIND)
    assert first_step_back(node(G0, G1, transition=t), t) is Step.ATTACH
    assert first_step_back(node(moved(), G1, transition=t), t) is Step.FENCE


def test_a_gpu_that_a_reboot_took_back_during_attach_starts_over() -> None:
    action = at(Step.ATTACH)
    assert isinstance(action, Advance) and action.to is Step.FENCE
    assert action.reason is Reason.DRIFTED


def test_undoing_does_not_trust_a_report_of_before_the_rebind() -> None:
    t = transition(G0, step=Step.REBIND)
    assert first_step_back(node(G0, G1, transition=t, reported=False), t) is Step.FENCE


def test_attach_has_hamis_scheduler_look_once_everything_is_registered_and_waits_until_it_has() -> None:
    gpus = (moved(), G1)
    # A stamp of before the plugin was back: 2.10 stamps a handshake that is missing in any case.
    action = at(Step.ATTACH, on=sharing(G1, asked_for="plan0"), gpus=gpus)
    assert action.effects == (AskScheduler(PlanId("plan1"), NOW),)
    asked = sharing(G1, handshake="")
    assert "scheduler" in at(Step.ATTACH, on=asked, gpus=gpus).message
    long_ago = sharing(G1, handshake="", asked_at=NOW - 60)
    assert isinstance(at(Step.ATTACH, on=long_ago, gpus=gpus), Advance), (
        "a scheduler that is away stops nothing"
    )


def test_how_long_the_plugin_took_is_not_held_against_the_scheduler() -> None:
    slow = transition(G0, step=Step.ATTACH, step_started_at=NOW - 120)
    action = at(Step.ATTACH, on=sharing(G1, handshake=""), gpus=(moved(), G1), transition=slow)
    assert isinstance(action, Wait) and "scheduler" in action.message


def test_before_2_10_a_tick_of_the_scheduler_is_waited_for_as_it_says_nothing() -> None:
    gpus = (moved(), G1)
    older = sharing(G1, version=(2, 8))
    assert isinstance(at(Step.ATTACH, on=older, gpus=gpus), Wait)
    assert isinstance(at(Step.ATTACH, on=replace(older, asked_at=NOW - 17), gpus=gpus), Advance)


def test_a_gpu_without_a_uuid_is_closed_by_nobody_and_stops_nothing() -> None:
    nameless = replace(G0, uuid="")
    action = at(Step.FENCE, gpus=(nameless, G1), on=sharing(G1))
    assert isinstance(action, Advance) and action.to is Step.DRAIN
    back = replace(moved(), uuid="")
    lists_one_without = sharing(G1, registered=(registered(G1), registered(replace(gpu(7), uuid=""))))
    assert isinstance(at(Step.ATTACH, on=lists_one_without, gpus=(back, G1)), Advance)


def test_without_a_sharing_layer_the_webhook_closes_the_gpu() -> None:
    action = at(Step.FENCE, sharing=None)
    assert isinstance(action, Advance) and action.to is Step.DRAIN


def test_a_gpu_of_no_pool_is_waited_for_and_moves_ahead_alone() -> None:
    stray = (
        gpu(0, desired_mode=Mode.PASSTHROUGH, pool=None),
        gpu(1, desired_mode=Mode.PASSTHROUGH, pool=None),
    )
    move = replace(transition(*stray, step=Step.DRAIN), reason=Reason.HEADROOM.value)
    busy = pod("train", on=G1)
    assert isinstance(at(Step.DRAIN, gpus=stray, pods=(busy,), transition=move), Shrink)
    for_a_vm = replace(move, reason=Reason.VM_WAITING.value)
    assert isinstance(at(Step.DRAIN, gpus=stray, pods=(busy,), transition=for_a_vm), Wait)


def test_where_a_pool_moves_whole_nodes_the_empty_gpu_waits_for_the_others() -> None:
    both = (gpu(0, desired_mode=Mode.PASSTHROUGH), gpu(1, desired_mode=Mode.PASSTHROUGH))
    move = replace(transition(*both, step=Step.DRAIN), reason=Reason.HEADROOM.value)
    whole = (pool(granularity=Granularity.NODE),)
    action = at(Step.DRAIN, gpus=both, pods=(pod("train", on=G1),), pools=whole, transition=move)
    assert isinstance(action, Wait)


def test_a_move_that_is_undone_is_not_made_smaller() -> None:
    both = (gpu(0, desired_mode=Mode.PASSTHROUGH), gpu(1, desired_mode=Mode.PASSTHROUGH))
    move = replace(transition(*both, step=Step.DRAIN, rollback=True), reason=Reason.HEADROOM.value)
    assert isinstance(at(Step.DRAIN, gpus=both, pods=(pod("train", on=G1),), transition=move), Wait)


@pytest.mark.parametrize(
    ("stays", "reason"),
    [
        (pod("leaving", on=G0, best_effort=True, evictable=True, terminating=True), Reason.VM_WAITING),
        (pod("guaranteed", on=G0, evictable=True), Reason.VM_WAITING),
        (pod("soft", on=G0, best_effort=True, evictable=True), Reason.OPERATOR_REQUEST),
    ],
    ids=["it leaves already", "its owner did not mark it", "no VM waits"],
)
def test_nobody_is_evicted_who_need_not_be(stays, reason: Reason) -> None:
    lax = (pool(eviction=EvictionRule.BEST_EFFORT),)
    move = replace(transition(G0, step=Step.DRAIN), reason=reason.value)
    assert isinstance(at(Step.DRAIN, pods=(stays,), pools=lax, transition=move), Wait)


def test_where_nothing_is_left_to_rebind_hami_is_not_disturbed() -> None:
    action = at(Step.DETACH, gpus=(moved(), G1))
    assert isinstance(action, Advance) and action.to is Step.REBIND


def test_a_gpu_that_did_not_come_is_not_waited_for_at_the_kubelet() -> None:
    both = (
        moved(),
        replace(G1, desired_mode=Mode.PASSTHROUGH, phase=DevicePhase.QUARANTINED, observed_mode=None),
    )
    action = at(Step.ATTACH, on=OFF, gpus=both, transition=transition(*both, step=Step.ATTACH))
    assert isinstance(action, Advance) and action.to is Step.RELEASE
