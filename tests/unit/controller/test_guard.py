"""No move starts that would harm a workload or break a pool's bounds, whatever the planner said."""

from dataclasses import replace

import pytest

from poolmgr.controller import guard
from poolmgr.domain.backoff import WHOLE_NODE, Disturbance
from poolmgr.domain.fleet import EvictionRule, Holder, RebalanceMode, SideLimits
from poolmgr.domain.identifiers import WorkloadUid
from poolmgr.domain.liveness import AgentSign
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.neighbours import Neighbours
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from tests.builders import NOW, gpu, move, node, paused, pod, pool, sharing, snapshot, transition, vm

G0, G1 = gpu(0), gpu(1)
PT = gpu(0, mode=Mode.PASSTHROUGH)


def refusal(mv, snap):
    accepted, refused = guard.validate((mv,), snap)
    assert not accepted
    return refused[0]


def test_an_idle_gpu_may_move() -> None:
    accepted, refused = guard.validate((move(G0),), snapshot(node(G0, G1)))
    assert accepted == (move(G0),) and not refused


NO_EVIDENCE = Verdict(False, Reason.CANNOT_TELL, "its UUID is not known")
OF_OTHERS = Verdict(False, Reason.GPUS_OF_OTHERS, "the GPU operator's vfio-manager keeps the GPUs of n1")


@pytest.mark.parametrize(
    ("snap", "reason"),
    [
        (snapshot(node(G1)), Reason.DEVICE_GONE),
        (snapshot(node(G0, agent=AgentSign(heard=False, silent=True))), Reason.AGENT_SILENT),
        (snapshot(node(G0, ready=False)), Reason.NODE_NOT_READY),
        (snapshot(node(G0, neighbours=Neighbours(OF_OTHERS))), Reason.GPUS_OF_OTHERS),
        (snapshot(node(G0, reported=False)), Reason.NODE_NOT_REPORTED),
        (snapshot(node(G0, reported=False, complaint="says 'Leased'")), Reason.INVALID_REQUEST),
        (snapshot(node(G0, G1, transition=transition(G1))), Reason.NODE_IN_TRANSITION),
        (snapshot(node(replace(G0, phase=DevicePhase.QUARANTINED))), Reason.GPU_UNHEALTHY),
        (snapshot(node(PT)), Reason.IN_PLACE),
        (snapshot(node(replace(G0, desired_mode=None))), Reason.NOT_ADOPTED),
        (snapshot(node(replace(G0, iommu_group=None))), Reason.NO_IOMMU),
        (snapshot(node(G0, replace(G1, iommu_group=G0.iommu_group))), Reason.IOMMU_GROUP_SHARED),
        (snapshot(node(G0, cordoned=True)), Reason.UNSUITABLE),
        (snapshot(node(replace(G0, rebind=NO_EVIDENCE))), Reason.CANNOT_TELL),
        (snapshot(node(G0, backoffs=(paused(G0.pci_address),))), Reason.RECENTLY_FAILED),
        (snapshot(node(G0, backoffs=(paused(WHOLE_NODE),))), Reason.RECENTLY_FAILED),
        (snapshot(node(G0, disturbances=(Disturbance(NOW - 60, 99, 50.0),))), Reason.DISTURBANCE_SPENT),
        (snapshot(node(replace(G0, desired_mode=Mode.PASSTHROUGH))), Reason.GPU_MOVING),
        (snapshot(node(G0), pods=(pod(on=G0),)), Reason.GPU_BUSY),
        (snapshot(node(G0), pods=(pod(node=G0.node),)), Reason.CANNOT_TELL),
        (snapshot(node(G0, sharing=sharing(G1))), Reason.CANNOT_TELL),
        (snapshot(node(replace(G0, pool=None))), Reason.NOT_IN_POOL),
        (snapshot(node(G0), pools=(pool(shared=SideLimits(min=1)),)), Reason.AT_MINIMUM),
        (snapshot(node(G0), pools=(pool(passthrough=SideLimits(max=0)),)), Reason.AT_MAXIMUM),
        (snapshot(node(G0), pools=(pool(max_in_flight=0),)), Reason.BUDGET_SPENT),
        (snapshot(node(G0), pools=(pool(rebalance=RebalanceMode.OFF),)), Reason.POOL_OFF),
        (snapshot(node(G0), pools=(pool(rebalance=RebalanceMode.RECOMMEND),)), Reason.RECOMMEND_ONLY),
    ],
)
def test_refusals_name_their_reason(snap, reason) -> None:
    found = refusal(move(G0, to=Mode.PASSTHROUGH), snap)
    assert found.reason is reason
    assert found.message


@pytest.mark.parametrize(
    "busy",
    [
        replace(PT, allocated_to="launcher"),
        replace(PT, holders=(Holder(4711, "qemu-kvm", path="/dev/vfio/1"),)),
    ],
)
def test_a_passthrough_gpu_in_use_never_moves(busy) -> None:
    assert refusal(move(busy), snapshot(node(busy))).reason is Reason.GPU_BUSY


def test_a_passthrough_gpu_that_a_vm_may_have_got_stays() -> None:
    bound = vm(node=PT.node)
    found = refusal(move(PT), snapshot(node(PT), vms=(bound,)))
    assert found.reason is Reason.CANNOT_TELL and "VM desktops/vm1 has 1 GPU(s) of n1" in found.message


def test_a_vm_on_the_gpu_is_named() -> None:
    found = refusal(move(PT), snapshot(node(PT), vms=(vm("desk7", on=(PT,)),)))
    assert found.reason is Reason.GPU_BUSY and "VM desktops/desk7" in found.message


def test_bounds_and_budget_are_used_up_by_accepted_moves() -> None:
    other = gpu(0, node="n2")
    snap = snapshot(node(G0, G1), node(other, name="n2"), pools=(pool(max_in_flight=2),))
    accepted, refused = guard.validate((move(G0), move(G1), move(other)), snap)
    assert accepted == (move(G0), move(G1))
    assert [r.reason for r in refused] == [Reason.BUDGET_SPENT]


def test_no_plan_takes_a_side_under_its_minimum_by_several_moves() -> None:
    snap = snapshot(node(G0, G1), pools=(pool(shared=SideLimits(min=1), max_in_flight=5),))
    accepted, refused = guard.validate((move(G0), move(G1)), snap)
    assert accepted == (move(G0),)
    assert [r.reason for r in refused] == [Reason.AT_MINIMUM]


def test_what_an_operator_asks_for_is_let_through_in_that_pool_only() -> None:
    off = pool("b10", rebalance=RebalanceMode.OFF)
    other = gpu(0, node="n2", pool=off.name)
    snap = snapshot(
        node(G0),
        node(other, name="n2"),
        pools=(pool(rebalance=RebalanceMode.RECOMMEND, max_in_flight=5), off),
    )
    accepted, refused = guard.validate((move(G0), move(other)), guard.operator_view(snap, "a10"))
    assert accepted == (move(G0),)
    assert [r.reason for r in refused] == [Reason.POOL_OFF]


def test_moves_under_way_count_against_the_budget() -> None:
    other = gpu(0, node="n2")
    snap = snapshot(node(G0), node(other, name="n2", transition=transition(other)))
    assert refusal(move(G0), snap).reason is Reason.BUDGET_SPENT


def test_evictions_only_where_the_pool_allows_them() -> None:
    victim = pod("be", on=G0, best_effort=True)
    mv = move(G0, evict=(victim.uid,))
    strict = snapshot(node(G0), pods=(victim,))
    assert refusal(mv, strict).reason is Reason.EVICTION_DENIED
    lax = replace(strict, pools=(pool(eviction=EvictionRule.BEST_EFFORT),))
    assert guard.validate((mv,), lax)[0] == (mv,)


def test_a_pod_that_its_owner_did_not_mark_is_never_evicted() -> None:
    victim = pod("serving", on=G0)
    snap = snapshot(node(G0), pods=(victim,), pools=(pool(eviction=EvictionRule.BEST_EFFORT),))
    found = refusal(move(G0, evict=(victim.uid,)), snap)
    assert (
        found.reason is Reason.EVICTION_DENIED and "serving on it is not marked best-effort" in found.message
    )


def test_no_plan_can_name_a_vm_as_leaving() -> None:
    desk = vm("desk7", on=(PT,))
    snap = snapshot(node(PT), vms=(desk,), pools=(pool(eviction=EvictionRule.BEST_EFFORT),))
    found = refusal(move(PT, evict=(desk.uid,)), snap)
    assert found.reason is Reason.GPU_BUSY


def test_what_arrives_counts_against_the_maximum_of_its_side() -> None:
    snap = snapshot(node(G0, G1), pools=(pool(passthrough=SideLimits(max=1), max_in_flight=5),))
    accepted, refused = guard.validate((move(G0), move(G1)), snap)
    assert accepted == (move(G0),), "up to the maximum is within it"
    assert [r.reason for r in refused] == [Reason.AT_MAXIMUM]


def test_a_side_may_be_left_down_to_its_minimum_and_filled_up_to_its_maximum() -> None:
    limits = pool(shared=SideLimits(min=1), passthrough=SideLimits(max=2), max_in_flight=5)
    others = (gpu(2), gpu(3))
    snap = snapshot(node(G0, G1, *others), pools=(limits,))
    accepted, refused = guard.validate(tuple(move(g) for g in (G0, G1, *others)), snap)
    assert accepted == (move(G0), move(G1))
    assert {r.reason for r in refused} == {Reason.AT_MAXIMUM}


def test_gpus_are_counted_where_they_are_wanted_and_else_where_they_are() -> None:
    leaving = gpu(1, desired_mode=Mode.PASSTHROUGH)
    snap = snapshot(node(G0, leaving), pools=(pool(shared=SideLimits(min=1), max_in_flight=5),))
    assert refusal(move(G0), snap).reason is Reason.AT_MINIMUM
    unmanaged = gpu(1, desired_mode=None)
    snap = snapshot(node(G0, unmanaged), pools=(pool(shared=SideLimits(min=1), max_in_flight=5),))
    assert guard.validate((move(G0),), snap)[0] == (move(G0),)


def test_only_the_gpus_of_a_transition_use_up_the_budget() -> None:
    moving, resting = gpu(0, node="n2"), gpu(1, node="n2")
    other = node(moving, resting, name="n2", transition=transition(moving))
    snap = snapshot(node(G0), other, pools=(pool(max_in_flight=2),))
    assert guard.validate((move(G0),), snap)[0] == (move(G0),)


def test_a_gpu_that_a_move_has_lost_uses_up_no_budget() -> None:
    lost = gpu(0, node="n2", observed_mode=None, phase=DevicePhase.QUARANTINED)
    snap = snapshot(node(G0), node(lost, name="n2", transition=transition(lost)))
    assert guard.validate((move(G0),), snap)[0] == (move(G0),)


def test_a_gpu_that_is_about_to_be_moved_back_uses_up_the_budget() -> None:
    drifted = gpu(0, node="n2", desired_mode=Mode.PASSTHROUGH)
    assert refusal(move(G0), snapshot(node(G0), node(drifted, name="n2"))).reason is Reason.BUDGET_SPENT


def test_a_gpu_on_a_driver_of_neither_mode_stays() -> None:
    nowhere = replace(G0, observed_mode=None)
    assert refusal(move(nowhere), snapshot(node(nowhere))).reason is Reason.GPU_UNHEALTHY


def test_an_unfit_gpu_is_refused_with_what_its_agent_says_or_else_its_phase() -> None:
    mute = replace(G0, phase=DevicePhase.QUARANTINED)
    assert refusal(move(mute), snapshot(node(mute))).message.endswith("Quarantined")
    unwell = replace(mute, message="its unbind hangs")
    assert refusal(move(unwell), snapshot(node(unwell))).message.endswith("its unbind hangs")


def test_no_plan_can_name_a_process_as_leaving() -> None:
    held = replace(G0, holders=(Holder(4711, "Xorg", path="/dev/nvidia0"),))
    named = move(held, wait_for=(WorkloadUid(""),))
    assert refusal(named, snapshot(node(held))).reason is Reason.GPU_BUSY


def test_gpus_of_no_pool_hide_none_of_a_pool() -> None:
    stray = gpu(0, pool=None)
    snap = snapshot(node(stray, G1), pools=(pool(shared=SideLimits(min=1), max_in_flight=5),))
    assert refusal(move(G1), snap).reason is Reason.AT_MINIMUM
    snap = snapshot(node(stray, G1, gpu(2)), pools=(pool(shared=SideLimits(min=1), max_in_flight=5),))
    assert guard.validate((move(G1),), snap)[0] == (move(G1),)


@pytest.mark.parametrize("to", list(Mode))
@pytest.mark.parametrize(("maximum", "admitted"), [(1, 0), (2, 1)])
def test_a_gpu_that_may_be_on_either_side_counts_for_the_maximum_of_both(
    to: Mode, maximum: int, admitted: int
) -> None:
    """The agent fell silent in mid-move, and the move is parked."""
    lost = gpu(0, to.other, desired_mode=to)
    move_of_it = transition(lost, to=to, step=Step.ATTACH, step_started_at=NOW - 600)
    rest = replace(paused(WHOLE_NODE, failed_at=NOW - 600), reason=Reason.MOVE_PARKED.value)
    silent = node(lost, transition=move_of_it, backoffs=(rest,), agent=AgentSign(heard=False, silent=True))
    idle = gpu(1, node="n2")
    limited = pool(passthrough=SideLimits(max=maximum), max_in_flight=4)
    accepted, refused = guard.validate(
        (move(idle),), snapshot(silent, node(idle, name="n2"), pools=(limited,))
    )
    assert len(accepted) == admitted
    assert [r.reason for r in refused] == [Reason.AT_MAXIMUM] * (1 - admitted)
    assert all("counts 1 that may be there" in r.message for r in refused)


def test_a_move_that_is_under_way_counts_on_the_side_it_goes_to() -> None:
    going = gpu(0, desired_mode=Mode.PASSTHROUGH)
    busy = node(going, transition=transition(going))
    idle = gpu(1, node="n2")
    limited = pool(passthrough=SideLimits(max=1), max_in_flight=4)
    refused = refusal(move(idle), snapshot(busy, node(idle, name="n2"), pools=(limited,)))
    assert refused.reason is Reason.AT_MAXIMUM and "may be there" not in refused.message
