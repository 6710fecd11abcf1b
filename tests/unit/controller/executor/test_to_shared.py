"""Passthrough → shared: only idle GPUs return, and only after the kubelet has let go of them."""

from dataclasses import replace

from poolmgr.controller.executor import to_shared
from poolmgr.controller.executor.actions import Advance, Cordon, FenceGpus, Perform, Plugin, Rollback, Wait
from poolmgr.controller.executor.advance import StepDeadlines, next_action
from poolmgr.domain.fleet import Holder
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.reasons import Reason
from tests.builders import gpu, node, sharing, snapshot, transition, vm

LEAVING = gpu(0, mode=Mode.PASSTHROUGH, desired_mode=Mode.SHARED, advertised=False)
STAYS = gpu(1)


def at(step: Step, *gpus, vms=(), **node_overrides):
    gpus = gpus or (LEAVING, STAYS)
    node_overrides.setdefault("transition", transition(gpus[0], to=Mode.SHARED, step=step))
    n = node(*gpus, **node_overrides)
    return next_action(n, snapshot(n, vms=vms), StepDeadlines())


def test_fence_waits_until_the_kubelet_offers_it_no_more() -> None:
    closed = sharing(STAYS, closing=frozenset({STAYS.uuid}))
    assert isinstance(at(Step.FENCE, replace(LEAVING, advertised=True), STAYS, sharing=closed), Wait)
    action = at(Step.FENCE, sharing=closed)
    assert isinstance(action, Advance) and action.to is Step.DRAIN


def test_meanwhile_hamis_scheduler_may_read_that_the_others_are_closed() -> None:
    action = at(Step.FENCE, replace(LEAVING, advertised=True), STAYS)
    assert isinstance(action, Perform) and action.effects == (FenceGpus(frozenset({STAYS.uuid})),)


def test_where_all_have_arrived_already_no_gpu_is_closed() -> None:
    action = at(Step.FENCE, replace(LEAVING, observed_mode=Mode.SHARED), STAYS)
    assert isinstance(action, Advance) and action.to is Step.DRAIN


def test_a_gpu_that_a_vm_got_before_the_fence_stays_with_the_vm() -> None:
    allocated = replace(LEAVING, allocated_to="launcher-uid")
    held = replace(LEAVING, holders=(Holder(9, "qemu-kvm", path="/dev/vfio/1"),))
    for busy in (allocated, held):
        action = at(Step.DRAIN, busy, STAYS)
        assert isinstance(action, Rollback) and action.reason is Reason.GPU_BUSY
    action = at(Step.DRAIN, vms=(vm(on=(LEAVING,)),))
    assert isinstance(action, Rollback)


def test_a_gpu_that_a_vm_may_have_got_before_the_fence_waits() -> None:
    action = at(Step.DRAIN, vms=(vm(node=LEAVING.node),))
    assert isinstance(action, Wait) and action.reason is Reason.CANNOT_TELL


def test_while_one_waits_pods_may_come_onto_the_others() -> None:
    closed = sharing(STAYS, closing=frozenset({STAYS.uuid}))
    action = at(Step.DRAIN, vms=(vm(node=LEAVING.node),), sharing=closed)
    assert isinstance(action, Perform) and action.effects == (FenceGpus(frozenset()),)


def test_an_idle_gpu_goes_on_to_detach() -> None:
    action = at(Step.DRAIN)
    assert isinstance(action, Advance) and action.to is Step.DETACH


def test_hamis_plugin_restarts_because_it_looks_for_gpus_only_at_its_start() -> None:
    assert at(Step.DETACH).effects == (FenceGpus(frozenset({STAYS.uuid})),)
    assert at(Step.DETACH, sharing=sharing(STAYS, version=(2, 8))).effects == (Cordon(True),)
    assert at(Step.DETACH, cordoned=True).effects == (Plugin(False),)
    off = sharing(plugin_wanted=False, plugin_pods=0, allocatable=0)
    action = at(Step.DETACH, cordoned=True, sharing=off)
    assert isinstance(action, Advance) and action.to is Step.REBIND


def test_attach_waits_until_hami_has_registered_the_returned_gpu() -> None:
    back = replace(LEAVING, observed_mode=Mode.SHARED, plan_id="plan1")
    off = sharing(plugin_wanted=False, plugin_pods=0, allocatable=0)
    action = at(Step.ATTACH, back, STAYS, sharing=off)
    assert isinstance(action, Perform) and action.effects == (Plugin(True),)
    action = at(Step.ATTACH, back, STAYS, sharing=sharing(STAYS))
    assert isinstance(action, Wait) and "1 of 2" in action.message
    action = at(Step.ATTACH, back, STAYS, sharing=sharing(back, STAYS))
    assert isinstance(action, Advance) and action.to is Step.RELEASE


def test_attach_waits_for_the_uuid_that_the_driver_tells() -> None:
    nameless = replace(LEAVING, observed_mode=Mode.SHARED, plan_id="plan1", uuid="")
    action = at(Step.ATTACH, nameless, STAYS, sharing=sharing(STAYS))
    assert isinstance(action, Wait) and "UUID" in action.message


def test_without_a_sharing_layer_a_gpu_returns_to_its_driver_and_that_is_all() -> None:
    action = at(Step.DETACH, sharing=None)
    assert isinstance(action, Advance) and action.to is Step.REBIND
    back = replace(LEAVING, observed_mode=Mode.SHARED, plan_id="plan1", uuid="")
    action = at(Step.ATTACH, back, sharing=None)
    assert isinstance(action, Advance) and action.to is Step.RELEASE


def test_where_nothing_is_left_to_rebind_hami_is_not_disturbed() -> None:
    action = at(Step.DETACH, replace(LEAVING, observed_mode=Mode.SHARED), STAYS)
    assert isinstance(action, Advance) and action.to is Step.REBIND


def test_hamis_plugin_restarts_also_for_a_gpu_that_arrived_and_is_not_listed() -> None:
    arrived = replace(LEAVING, observed_mode=Mode.SHARED)
    action = at(Step.DETACH, arrived, STAYS, sharing=sharing(STAYS))
    assert isinstance(action, Perform) and action.effects == (
        FenceGpus(frozenset({arrived.uuid, STAYS.uuid})),
    )


def test_a_gpu_of_which_the_agent_says_nothing_is_named_once() -> None:
    arrived = replace(LEAVING, observed_mode=Mode.SHARED)
    off = sharing(plugin_wanted=False, plugin_pods=0, allocatable=0)
    move = transition(arrived, to=Mode.SHARED, step=Step.DETACH)
    there = node(arrived, cordoned=True, sharing=off, reported=False, transition=move)
    action = to_shared.detach(there, move, snapshot(there))
    assert isinstance(action, Advance)
    assert action.message == "n1 is ready for NVIDIA A10 0000:00:00.0 to return"


def test_a_gpu_that_did_not_come_back_is_not_waited_for_by_its_uuid() -> None:
    lost = replace(LEAVING, observed_mode=None, phase=DevicePhase.QUARANTINED, uuid="")
    action = at(Step.ATTACH, lost, STAYS, sharing=sharing(STAYS))
    assert isinstance(action, Advance) and action.to is Step.RELEASE
