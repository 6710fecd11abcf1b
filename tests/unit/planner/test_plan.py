"""What the planner does, and what it says about what it does not do.

One file, long as it is: each test is a fleet and the plan for it, and they are read beside each other.
"""

from dataclasses import replace

import pytest

from poolmgr.controller import guard
from poolmgr.domain.backoff import WHOLE_NODE, Backoff
from poolmgr.domain.fleet import EvictionRule, Granularity, Node, Quota, RebalanceMode, SideLimits
from poolmgr.domain.liveness import AgentSign
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.neighbours import Neighbours
from poolmgr.domain.plan import Plan, SubjectKind, Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.plan import PoolPlanner
from tests.builders import move
from tests.unit.planner.builders import NOW, gpu, moving, node, pod, pool, snapshot, vm


def decide(view: ClusterSnapshot) -> Plan:
    return PoolPlanner().decide(view, None).plan


def moves(plan: Plan) -> list[tuple[str, str, Mode]]:
    return [(m.node, m.pci_address[5:7], m.to_mode) for m in plan.moves]


def said(plan: Plan, kind: SubjectKind, name: str) -> tuple[Reason, str]:
    return next(
        (r.reason, r.message) for r in plan.refusals if r.subject.kind is kind and r.subject.name == name
    )


def about_gpu(plan: Plan, at: str, index: int) -> tuple[Reason, str]:
    address = f"0000:{index:02x}:00.0"
    return next(
        (r.reason, r.message)
        for r in plan.refusals
        if (r.subject.kind, r.subject.namespace, r.subject.name) == (SubjectKind.GPU, at, address)
    )


# A waiting VM


def test_waiting_vm_gets_an_idle_shared_gpu_moved_over() -> None:
    plan = decide(snapshot(node("a", "ss"), vms=(vm("v"),), pods=(pod("x", ("a", 0)),)))
    assert moves(plan) == [("a", "01", Mode.PASSTHROUGH)]
    assert plan.moves[0].reason is Reason.VM_WAITING
    assert "for VM desktops/v, which waits" in plan.moves[0].message
    assert about_gpu(plan, "a", 0) == (
        Reason.GPU_BUSY,
        "GPU 0000:00:00.0 on a is in use by pod notebooks/x",
    )


def test_busy_gpus_are_never_moved_and_the_vm_hears_by_whom() -> None:
    pods = (pod("x", ("a", 0)), pod("y", ("a", 1)))
    plan = decide(snapshot(node("a", "ss"), vms=(vm("v"),), pods=pods))
    assert plan.empty
    reason, sentence = said(plan, SubjectKind.VM, "v")
    assert reason is Reason.NO_CANDIDATE
    assert "none of 2 GPU(s) can be moved now" in sentence
    assert "in use by pod notebooks/x" in sentence


def test_gpu_that_only_the_kubelet_or_a_process_holds_is_busy_too() -> None:
    from poolmgr.domain.fleet import Holder

    stray = gpu("a", 0, holders=(Holder(42, "python3", "", "/dev/nvidia0"),))
    given = gpu("b", 0, Mode.PASSTHROUGH, allocated_to="unknown-pod")
    daemon = gpu("c", 0, holders=(Holder(9, "nvidia-device-plugin", "plugin", "/dev/nvidia0"),))
    view = snapshot(
        node("a", "", gpus=(stray,)),
        node("b", "", gpus=(given,)),
        node("c", "", gpus=(daemon,)),
        vms=(vm("v"),),
    )
    plan = decide(view)
    assert moves(plan) == [("c", "00", Mode.PASSTHROUGH)]
    assert "process python3 (pid 42)" in about_gpu(plan, "a", 0)[1]
    assert "UID unknown-pod" in about_gpu(plan, "b", 0)[1]


def test_a_gpu_that_is_not_adopted_yet_is_promised_to_nobody() -> None:
    new = gpu("a", 0, desired_mode=None)
    plan = decide(snapshot(node("a", "", gpus=(new,)), vms=(vm("v"),)))
    assert plan.empty
    sentence = "GPU 0000:00:00.0 on a is new: it may move once poolmgr has recorded the mode that it is in"
    assert about_gpu(plan, "a", 0) == (Reason.NOT_ADOPTED, sentence)
    assert said(plan, SubjectKind.VM, "v")[1].endswith(sentence)


def test_free_and_moving_gpus_count_before_another_is_moved() -> None:
    free = decide(snapshot(node("a", "ps"), vms=(vm("v"),)))
    assert free.empty
    assert said(free, SubjectKind.VM, "v")[0] is Reason.FREE_CAPACITY
    under_way = gpu("a", 0, desired_mode=Mode.PASSTHROUGH)
    view = snapshot(
        node("a", "", gpus=(under_way, gpu("a", 1)), transition=moving("a", 0)),
        node("b", "s"),
        vms=(vm("v"),),
    )
    coming = decide(view)
    assert coming.empty
    assert said(coming, SubjectKind.VM, "v")[0] is Reason.MOVE_UNDER_WAY
    assert about_gpu(coming, "a", 0)[0] is Reason.GPU_MOVING
    assert about_gpu(coming, "a", 1)[0] is Reason.NODE_IN_TRANSITION


def test_two_vms_do_not_share_one_free_gpu() -> None:
    plan = decide(snapshot(node("a", "ps"), vms=(vm("v"), vm("w"))))
    assert moves(plan) == [("a", "01", Mode.PASSTHROUGH)]


def test_vm_with_several_gpus_gets_them_on_one_node() -> None:
    view = snapshot(node("a", "ss"), node("b", "psss"), node("c", "ssssssss"), vms=(vm("v", gpus=4),))
    plan = decide(view)
    assert [m[0] for m in moves(plan)] == ["b", "b", "b"]


def test_vm_prefers_the_node_that_leaves_larger_holes_whole() -> None:
    plan = decide(snapshot(node("a", "ssssssss"), node("b", "s"), vms=(vm("v"),)))
    assert moves(plan) == [("b", "00", Mode.PASSTHROUGH)]


def test_vm_larger_than_any_node_or_of_unknown_kind_is_told() -> None:
    stranger = replace(vm("u"), claims=(replace(vm("u").claims[0], resource_name="nvidia.com/H100"),))
    plan = decide(snapshot(node("a", "ss"), vms=(vm("v", gpus=3), stranger)))
    assert plan.empty
    assert said(plan, SubjectKind.VM, "v")[0] is Reason.MORE_THAN_ANY_NODE
    assert said(plan, SubjectKind.VM, "u")[0] is Reason.UNKNOWN_RESOURCE


def test_oldest_vm_is_served_first_when_there_is_one_gpu() -> None:
    late = replace(vm("late"), waiting_since=500.0)
    plan = decide(snapshot(node("a", "s"), vms=(late, vm("early"))))
    assert "desktops/early" in plan.moves[0].message
    assert said(plan, SubjectKind.VM, "late")[0] is Reason.NO_CANDIDATE


@pytest.mark.parametrize(
    ("reason", "overrides"),
    [
        (Reason.NODE_NOT_READY, {"ready": False}),
        (Reason.NODE_NOT_REPORTED, {"reported": False}),
        (Reason.UNSUITABLE, {"cordoned": True}),
        (Reason.NODE_IN_TRANSITION, {"transition": moving("a", 7)}),
    ],
)
def test_node_that_may_not_be_touched_is_left_alone(reason: Reason, overrides: dict[str, object]) -> None:
    plan = decide(snapshot(node("a", "s", **overrides), vms=(vm("v"),)))
    assert plan.empty
    assert about_gpu(plan, "a", 0)[0] is reason


@pytest.mark.parametrize(
    ("reason", "overrides"),
    [
        (Reason.NO_IOMMU, {"iommu_group": None}),
        (Reason.GPU_UNHEALTHY, {"phase": DevicePhase.QUARANTINED}),
        (Reason.GPU_UNHEALTHY, {"phase": DevicePhase.UNBOUND, "observed_mode": None}),
        (Reason.GPU_MOVING, {"desired_mode": Mode.PASSTHROUGH}),
        (Reason.BOOT_DISPLAY, {"rebind": Verdict(False, Reason.BOOT_DISPLAY, "the console is on it")}),
        (Reason.CANNOT_TELL, {"rebind": Verdict(False, Reason.CANNOT_TELL, "its UUID is not known")}),
        (Reason.NOT_IN_POOL, {"pool": None}),
    ],
)
def test_gpu_that_cannot_move_is_refused_with_its_reason(
    reason: Reason, overrides: dict[str, object]
) -> None:
    view = snapshot(node("a", "", gpus=(gpu("a", 0, **overrides),)), vms=(vm("v"),))
    plan = decide(view)
    assert plan.empty
    assert about_gpu(plan, "a", 0)[0] is reason


def test_two_gpus_of_one_iommu_group_stay() -> None:
    both = (gpu("a", 0, iommu_group=3), gpu("a", 1, iommu_group=3))
    plan = decide(snapshot(node("a", "", gpus=both), vms=(vm("v"),)))
    assert plan.empty
    assert about_gpu(plan, "a", 1)[0] is Reason.IOMMU_GROUP_SHARED


def test_two_gpus_of_one_iommu_group_keep_no_third() -> None:
    both = (gpu("a", 0, iommu_group=3), gpu("a", 1, iommu_group=3))
    plan = decide(snapshot(node("a", "", gpus=(*both, gpu("a", 2, iommu_group=7))), vms=(vm("v"),)))
    assert moves(plan) == [("a", "02", Mode.PASSTHROUGH)]
    assert about_gpu(plan, "a", 0)[0] is Reason.IOMMU_GROUP_SHARED


# Bounds and budgets


def test_shared_minimum_and_passthrough_maximum_hold() -> None:
    least = pool(shared=SideLimits(min=1))
    plan = decide(snapshot(node("a", "ss"), vms=(vm("v"), vm("w")), pools=(least,)))
    assert len(plan.moves) == 1
    assert said(plan, SubjectKind.VM, "w")[0] is Reason.AT_MINIMUM
    most = pool(passthrough=SideLimits(max=1))
    plan = decide(snapshot(node("a", "ss"), vms=(vm("v"), vm("w")), pools=(most,)))
    assert len(plan.moves) == 1
    assert said(plan, SubjectKind.VM, "w")[0] is Reason.AT_MAXIMUM


ONE_FOR_VMS = pool(passthrough=SideLimits(max=1), max_in_flight=4)
TAKEN_OUT = Verdict(False, Reason.GPU_QUARANTINED, "taken out of use by anna")


@pytest.mark.parametrize(
    "state",
    [
        {"phase": DevicePhase.QUARANTINED},
        {"observed_mode": None, "phase": DevicePhase.QUARANTINED},
        {"observed_mode": None, "phase": DevicePhase.FOREIGN},
        {"closed": TAKEN_OUT, "advertised": False},
    ],
    ids=["quarantined", "gone", "on another driver", "taken out of use by an operator"],
)
def test_a_gpu_that_can_serve_nobody_counts_on_neither_side(state: dict[str, object]) -> None:
    """Planner and guard alike: another one may come in its place, and another has to be kept."""
    broken = gpu("a", 0, Mode.PASSTHROUGH, **state)
    view = snapshot(node("a", "", gpus=(broken,)), node("b", "s"), vms=(vm("v"),), pools=(ONE_FOR_VMS,))
    plan = decide(view)
    assert moves(plan) == [("b", "00", Mode.PASSTHROUGH)]
    assert guard.validate(plan.moves, view)[0] == plan.moves
    (target,) = plan.targets
    assert (target.passthrough, target.shared) == (1, 0)
    broken = gpu("a", 0, **state)
    two = pool(shared=SideLimits(min=2), max_in_flight=4)
    view = snapshot(node("a", "", gpus=(broken,)), node("b", "ss"), vms=(vm("v"),), pools=(two,))
    assert decide(view).empty and said(decide(view), SubjectKind.VM, "v")[0] is Reason.AT_MINIMUM
    assert guard.validate((move(view.nodes[1].gpus[0]),), view)[1][0].reason is Reason.AT_MINIMUM


def test_a_gpu_that_somebody_has_counts_though_it_is_quarantined() -> None:
    broken = gpu("a", 0, Mode.PASSTHROUGH, phase=DevicePhase.QUARANTINED)
    vms = (vm("has", on=("a", 0)), vm("v"))
    view = snapshot(node("a", "", gpus=(broken,)), node("b", "s"), vms=vms, pools=(ONE_FOR_VMS,))
    assert decide(view).empty
    assert guard.validate((move(view.nodes[1].gpus[0]),), view)[1][0].reason is Reason.AT_MAXIMUM


PARKED_AT = NOW - 600


def parked(to: Mode, **overrides: object) -> Node:
    """The only GPU of `a` is in a move whose agent fell silent."""
    move = replace(moving("a", 0, to=to), step=Step.ATTACH, step_started_at=PARKED_AT)
    rest = Backoff(WHOLE_NODE, Reason.MOVE_PARKED, "-", 1, PARKED_AT, NOW + 60)
    lost = gpu("a", 0, to.other, desired_mode=to)
    silent = {"agent": AgentSign(heard=False, silent=True), "ready": False}
    return node("a", "", gpus=(lost,), transition=move, backoffs=(rest,), **(silent | overrides))


@pytest.mark.parametrize("to", list(Mode))
def test_a_gpu_of_which_nobody_knows_where_it_is_counts_for_each_maximum_and_for_no_minimum(to: Mode) -> None:
    """It may be on either side, and serve there; that it is not there would be a guess."""
    idle = node("b", "s")
    view = snapshot(parked(to), idle, vms=(vm("v"),), pools=(ONE_FOR_VMS,))
    plan = decide(view)
    assert plan.empty
    reason, sentence = said(plan, SubjectKind.VM, "v")
    assert reason is Reason.AT_MAXIMUM
    assert (
        "has 0, and counts 1 that may be there, as the agent of their node is silent in mid-move" in sentence
    )
    (refused,) = guard.validate((move(idle.gpus[0]),), view)[1]
    assert refused.reason is Reason.AT_MAXIMUM and "counts 1 that may be there" in refused.message
    known = replace(view, nodes=(parked(to, agent=AgentSign(), ready=True), idle))
    there = to is Mode.PASSTHROUGH
    assert decide(known).empty is there, "its agent has said: it counts where it goes"
    kept = pool(shared=SideLimits(min=1), max_in_flight=4)
    view = snapshot(parked(to), idle, vms=(vm("v"),), pools=(kept,))
    assert said(decide(view), SubjectKind.VM, "v")[0] is Reason.AT_MINIMUM
    assert guard.validate((move(idle.gpus[0]),), view)[1][0].reason is Reason.AT_MINIMUM


def test_budget_counts_what_already_moves() -> None:
    view = snapshot(
        node("a", "", gpus=(gpu("a", 0, desired_mode=Mode.PASSTHROUGH),), transition=moving("a", 0)),
        node("b", "ss"),
        vms=(vm("v"), vm("w"), vm("x")),
        pools=(pool(max_in_flight=2),),
    )
    plan = decide(view)
    assert len(plan.moves) == 1
    assert said(plan, SubjectKind.VM, "x")[0] is Reason.BUDGET_SPENT


DEAD = [
    {"observed_mode": None, "phase": DevicePhase.QUARANTINED},
    {"observed_mode": None, "phase": DevicePhase.FOREIGN},
    {"observed_mode": None, "phase": DevicePhase.UNBOUND},
    {"observed_mode": None, "phase": DevicePhase.READY},
    {"phase": DevicePhase.QUARANTINED},
]
"""As agents report GPUs that are gone from the bus, on a driver that is not theirs, or hung."""


@pytest.mark.parametrize("state", DEAD)
def test_dead_gpu_is_no_move_under_way(state: dict[str, object]) -> None:
    dead = gpu("a", 0, desired_mode=Mode.PASSTHROUGH, **state)
    view = snapshot(
        node("a", "", gpus=(dead,)), node("b", "s"), vms=(vm("v"),), pools=(pool(max_in_flight=1),)
    )
    plan = decide(view)
    assert moves(plan) == [("b", "00", Mode.PASSTHROUGH)]
    assert about_gpu(plan, "a", 0)[0] is Reason.GPU_UNHEALTHY
    assert guard.validate(plan.moves, view)[0] == plan.moves


@pytest.mark.parametrize(
    "overrides", [{"ready": False}, {"neighbours": Neighbours(Verdict(False, Reason.GPUS_OF_OTHERS, "-"))}]
)
def test_gpu_on_the_wrong_side_is_no_move_under_way_where_nobody_may_bring_it_back(
    overrides: dict[str, object],
) -> None:
    drifted = node("a", "", gpus=(gpu("a", 0, desired_mode=Mode.PASSTHROUGH),))
    view = snapshot(drifted, node("b", "s"), vms=(vm("v"),), pools=(pool(max_in_flight=1),))
    plan = decide(view)
    assert plan.empty
    assert guard.validate((move(view.nodes[1].gpus[0]),), view)[1][0].reason is Reason.BUDGET_SPENT
    left_alone = replace(view, nodes=(replace(drifted, **overrides), view.nodes[1]))
    plan = decide(left_alone)
    assert moves(plan) == [("b", "00", Mode.PASSTHROUGH)]
    assert guard.validate(plan.moves, left_alone)[0] == plan.moves


def test_several_gpus_for_one_vm_arrive_one_by_one_under_a_small_budget() -> None:
    one = pool(max_in_flight=1, cooldown_seconds=0)
    first = decide(snapshot(node("a", "ss"), vms=(vm("v", gpus=2),), pools=(one,)))
    assert len(first.moves) == 1
    waiting = (pod("x", cores=100), pod("y", cores=100))
    # One has arrived; pods wait, but it is not given back, it is the VM's.
    second = decide(snapshot(node("a", "ps"), vms=(vm("v", gpus=2),), pools=(one,), pods=waiting))
    assert [m.to_mode for m in second.moves] == [Mode.PASSTHROUGH]


def test_side_under_its_minimum_is_filled_at_once() -> None:
    plan = decide(snapshot(node("a", "ss"), pools=(pool(passthrough=SideLimits(min=1)),)))
    assert [m.reason for m in plan.moves] == [Reason.BELOW_MINIMUM]


def test_headroom_is_kept_ready_and_not_given_back() -> None:
    ready = pool(passthrough=SideLimits(headroom=1), cooldown_seconds=0)
    plan = decide(snapshot(node("a", "ss"), pools=(ready,)))
    assert [m.reason for m in plan.moves] == [Reason.HEADROOM]
    plan = decide(snapshot(node("a", "p"), pools=(ready,), pods=(pod("x"),)))
    assert plan.empty
    assert about_gpu(plan, "a", 0)[0] is Reason.IN_PLACE


def test_pool_that_is_off_or_only_recommends_moves_nothing() -> None:
    off = decide(snapshot(node("a", "s"), vms=(vm("v"),), pools=(pool(rebalance=RebalanceMode.OFF),)))
    assert off.empty
    assert about_gpu(off, "a", 0)[0] is Reason.POOL_OFF
    shown = decide(snapshot(node("a", "s"), vms=(vm("v"),), pools=(pool(rebalance=RebalanceMode.RECOMMEND),)))
    assert not shown.to_start
    reason, sentence = about_gpu(shown, "a", 0)
    assert reason is Reason.RECOMMEND_ONLY
    assert "(idle) for VM desktops/v" in sentence


def test_namespace_at_its_limit_waits_and_hears_of_it() -> None:
    limited = pool(quotas=(Quota("desktops", max_gpus=1),))
    plan = decide(snapshot(node("a", "ps"), vms=(vm("r", on=("a", 0)), vm("v")), pools=(limited,)))
    assert plan.empty
    assert said(plan, SubjectKind.VM, "v")[0] is Reason.QUOTA_EXCEEDED


# The way back


def test_idle_passthrough_gpu_goes_back_when_a_pod_waits_without_room() -> None:
    plan = decide(snapshot(node("a", "p"), pods=(pod("x"),)))
    assert moves(plan) == [("a", "00", Mode.SHARED)]
    assert plan.moves[0].reason is Reason.SHARED_DEMAND


def test_it_rests_first() -> None:
    fresh = gpu("a", 0, Mode.PASSTHROUGH, mode_since=NOW - 100)
    plan = decide(snapshot(node("a", "", gpus=(fresh,)), pods=(pod("x"),)))
    assert plan.empty
    assert about_gpu(plan, "a", 0) == (
        Reason.COOLDOWN,
        "GPU 0000:00:00.0 on a is idle in Passthrough; its cooldown ends in 200 s",
    )


def test_pod_beside_free_gpus_hears_what_keeps_them_and_until_when() -> None:
    fresh = gpu("a", 0, Mode.PASSTHROUGH, mode_since=NOW - 100)
    plan = decide(snapshot(node("a", "", gpus=(fresh,)), pods=(pod("x"),)))
    code, sentence = said(plan, SubjectKind.POD, "x")
    assert code is Reason.COOLDOWN
    assert sentence == (
        "1 GPU(s) are free in passthrough; 1 moved there lately, and the first may move back at 1970-01-01 02:50 UTC"
    )
    ready = pool(passthrough=SideLimits(headroom=1))
    plan = decide(snapshot(node("a", "", gpus=(fresh,)), pools=(ready,), pods=(pod("x"),)))
    code, sentence = said(plan, SubjectKind.POD, "x")
    assert code is Reason.HEADROOM, "it would stay however long it had rested"
    assert "kept ready for the next VM: pool p keeps 1 GPU(s) ready" in sentence


def test_gpu_with_a_vm_is_never_given_back() -> None:
    plan = decide(snapshot(node("a", "p"), vms=(vm("v", on=("a", 0)),), pods=(pod("x"),)))
    assert plan.empty
    assert "in use by VM desktops/v" in about_gpu(plan, "a", 0)[1]
    unknown = replace(vm("v", on=("a", 0)), devices=())  # bound, and its agent has not said where
    plan = decide(snapshot(node("a", "pp"), vms=(unknown,), pods=(pod("x"),)))
    assert plan.empty


def test_nothing_goes_back_while_hami_has_room() -> None:
    plan = decide(snapshot(node("a", "ps"), pods=(pod("x"), pod("y"))))
    assert plan.empty
    assert said(plan, SubjectKind.POD, "x")[0] is Reason.FREE_CAPACITY
    plan = decide(snapshot(node("a", "ps"), pods=(pod("x"), pod("y"), pod("z"))))
    assert moves(plan) == [("a", "00", Mode.SHARED)]


def test_as_many_go_back_as_the_waiting_pods_fill() -> None:
    pods = tuple(pod(f"x{n}", cores=50) for n in range(5))
    plan = decide(snapshot(node("a", "pppppp"), pods=pods))
    assert len(plan.moves) == 3


def test_pod_that_fits_no_card_is_told() -> None:
    plan = decide(snapshot(node("a", "p"), pods=(replace(pod("x"), memory_mib=99_000),)))
    assert plan.empty
    assert said(plan, SubjectKind.POD, "x")[0] is Reason.MORE_MEMORY_THAN_ANY_CARD


def test_waiting_vm_comes_before_waiting_pods() -> None:
    plan = decide(snapshot(node("a", "p"), vms=(vm("v"),), pods=(pod("x"),)))
    assert plan.empty
    assert said(plan, SubjectKind.VM, "v")[0] is Reason.FREE_CAPACITY
    assert said(plan, SubjectKind.POD, "x") == (
        Reason.NO_CANDIDATE,
        "no shared GPU has room for it, and every idle passthrough GPU is for a waiting VM or cannot move",
    )


def test_a_pod_for_which_no_gpu_is_idle_is_told_so() -> None:
    plan = decide(snapshot(node("a", "p"), vms=(vm("v", on=("a", 0)),), pods=(pod("x"),)))
    assert said(plan, SubjectKind.POD, "x")[1].endswith("no passthrough GPU is idle")


# Eviction


def evictable(name: str, at: tuple[str, int], since: float = 300.0) -> object:
    return replace(pod(name, at), best_effort=True, evictable=True, started_at=since)


def test_best_effort_pods_are_evicted_only_under_the_rule_and_the_youngest_first() -> None:
    pods = (evictable("old", ("a", 0)), evictable("young", ("b", 0), since=NOW - 5))
    nodes = (node("a", "s"), node("b", "s"))
    never = decide(snapshot(*nodes, vms=(vm("v"),), pods=pods))
    assert never.empty
    rule = pool(eviction=EvictionRule.BEST_EFFORT)
    plan = decide(snapshot(*nodes, vms=(vm("v"),), pods=pods, pools=(rule,)))
    assert [(m.node, m.evict) for m in plan.moves] == [("b", ("pod-young",))]


def test_gpu_with_one_pod_that_may_not_be_disturbed_stays() -> None:
    pods = (evictable("soft", ("a", 0)), pod("hard", ("a", 0), cores=10))
    rule = pool(eviction=EvictionRule.BEST_EFFORT)
    assert decide(snapshot(node("a", "s"), vms=(vm("v"),), pods=pods, pools=(rule,))).empty


# Bundles


def test_nvswitch_domain_moves_as_one_or_not_at_all() -> None:
    board = tuple(gpu("a", n, nvswitch_domain="a-hgx") for n in range(4))
    plan = decide(snapshot(node("a", "", gpus=board), vms=(vm("v"),)))
    assert len(plan.moves) == 4
    plan = decide(snapshot(node("a", "", gpus=board), vms=(vm("v"),), pods=(pod("x", ("a", 2)),)))
    assert plan.empty
    assert "moves only together with other GPUs of its node" in about_gpu(plan, "a", 0)[1]


def test_granularity_node_moves_whole_nodes_only() -> None:
    whole = pool(granularity=Granularity.NODE)
    plan = decide(snapshot(node("a", "sss"), vms=(vm("v"),), pools=(whole,)))
    assert len(plan.moves) == 3
    small = pool(granularity=Granularity.NODE, max_in_flight=2)
    plan = decide(snapshot(node("a", "sss"), vms=(vm("v"),), pools=(small,)))
    assert plan.empty
    assert "raise rebalance.maxInFlight" in said(plan, SubjectKind.VM, "v")[1]


# Form


def test_unsynced_snapshot_is_not_planned_on() -> None:
    plan = decide(replace(snapshot(node("a", "s"), vms=(vm("v"),)), synced=False))
    assert plan.empty
    assert plan.refusals[0].reason is Reason.NOT_SYNCED


def test_equal_snapshots_give_equal_plans_with_equal_ids() -> None:
    view = snapshot(node("a", "sp"), vms=(vm("v"), vm("w")))
    assert decide(view) == decide(view)
    assert decide(view).plan_id != decide(replace(view, vms=())).plan_id


def test_every_gpu_and_every_waiting_workload_is_accounted_for() -> None:
    view = snapshot(
        node("a", "spps"),
        node("b", "ss", ready=False),
        vms=(vm("v", gpus=2), vm("w", gpus=9)),
        pods=(pod("x", ("a", 0)), pod("y", cores=100), pod("z", cores=100)),
    )
    plan = decide(view)
    gpus = {(m.node, m.pci_address) for m in plan.moves}
    refused = {
        (r.subject.namespace, r.subject.name) for r in plan.refusals if r.subject.kind is SubjectKind.GPU
    }
    assert gpus | refused == {(g.node, g.pci_address) for n in view.nodes for g in n.gpus}
    assert not gpus & refused
    assert all(r.message for r in plan.refusals)
