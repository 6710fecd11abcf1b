"""Whose turn it is, who is over his limit, and what the owners of unused VMs are told."""

from dataclasses import replace

from poolmgr.domain.demand import DeviceClaim
from poolmgr.domain.fleet import IdleVmAction, IdleVmPolicy, Quota
from poolmgr.domain.identifiers import NodeName, PoolName
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Plan, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.plan import PoolPlanner
from tests.unit.planner.builders import NOW, RESOURCE, gpu, node, pod, pool, snapshot, vm


def decide(view: ClusterSnapshot) -> Plan:
    return PoolPlanner().decide(view, None).plan


def said_of(plan: Plan, name: str) -> list[tuple[Reason, str]]:
    return [(r.reason, r.message) for r in plan.refusals if r.subject.name == name]


def test_the_next_gpu_goes_to_the_namespace_that_holds_least_for_its_weight() -> None:
    weights = pool(quotas=(Quota("big", weight=2.0), Quota("small", weight=1.0)))
    held = (vm("b", on=("a", 0), namespace="big"), vm("s", on=("a", 1), namespace="small"))
    older = vm("older", namespace="small", waiting_since=NOW - 100)
    newer = vm("newer", namespace="big", waiting_since=NOW - 50)
    view = snapshot(node("a", "pp"), node("b", "s"), vms=(*held, older, newer), pools=(weights,))
    (move,) = decide(view).moves
    assert "big/newer" in move.message


def test_pods_count_towards_a_namespaces_share() -> None:
    limit = pool(quotas=(Quota("ml", max_gpus=1.4),))
    half = pod("x", ("a", 0), cores=50, namespace="ml")
    view = snapshot(node("a", "ss"), pods=(half,), vms=(vm("v", namespace="ml"),), pools=(limit,))
    plan = decide(view)
    assert plan.empty
    assert said_of(plan, "v")[0][0] is Reason.QUOTA_EXCEEDED


def test_without_weights_the_one_who_waited_longest_is_first() -> None:
    first = vm("first", namespace="x", waiting_since=NOW - 100)
    second = vm("second", namespace="y", waiting_since=NOW - 50)
    (move,) = decide(snapshot(node("a", "s"), vms=(second, first))).moves
    assert "x/first" in move.message


def idle_cluster(action: IdleVmAction, idle_seconds: float) -> ClusterSnapshot:
    """Every GPU is held by a VM that nobody uses, and one waits."""
    policy = IdleVmPolicy(action, idle_after_seconds=3_600, notice_seconds=900)
    held = tuple(replace(vm(f"h{n}", on=("a", n)), idle_since=NOW - idle_seconds) for n in range(2))
    return snapshot(node("a", "pp"), vms=(*held, vm("v")), pools=(pool(idle_vm=policy),))


def test_when_idle_vms_hold_every_gpu_the_one_who_waits_is_told_and_nothing_moves() -> None:
    plan = decide(idle_cluster(IdleVmAction.NOTIFY, 5_000.0))
    assert plan.empty
    ((reason, message),) = said_of(plan, "v")
    assert reason is Reason.NO_CANDIDATE
    assert "idle VMs hold 2 of them, desktops/h0 for the longest time" in message
    assert said_of(plan, "h0")[0][0] is Reason.VM_IDLE


def test_notice_comes_before_the_stop_and_the_planner_stops_nobody() -> None:
    noticed = decide(idle_cluster(IdleVmAction.STOP, 4_000.0))
    over = decide(idle_cluster(IdleVmAction.STOP, 5_000.0))
    assert noticed.empty and over.empty
    assert said_of(noticed, "h0")[0][0] is Reason.VM_IDLE_NOTICE
    assert "poolmgr never stops a VM" in said_of(over, "h0")[0][1]


def test_of_a_machine_with_several_kinds_only_those_that_somebody_waits_for_are_named_and_the_mildest_pool_is_asked() -> (
    None
):
    other = "nvidia.com/GH100"
    mild = pool(
        name=PoolName("mild"), models=("NVIDIA H100",), idle_vm=IdleVmPolicy(idle_after_seconds=9_000)
    )
    strict = replace(idle_cluster(IdleVmAction.NOTIFY, 5_000.0).pools[0], models=("NVIDIA A10",))
    h100 = [
        gpu("a", n, Mode.PASSTHROUGH, model="NVIDIA H100", resource_name=other, pool=mild.name)
        for n in (1, 2)
    ]
    devices = tuple((NodeName("a"), f"0000:{n:02x}:00.0") for n in range(3))
    claims = (DeviceClaim(other, 2), DeviceClaim(RESOURCE, 1))
    holder = vm("h", on=("a", 0), claims=claims, devices=devices, idle_since=NOW - 5_000)
    view = snapshot(
        node("a", "", gpus=(gpu("a", 0, Mode.PASSTHROUGH), *h100)),
        vms=(holder, vm("v")),
        pools=(strict, mild),
    )
    assert said_of(decide(view), "h") == []
    noticed = replace(view, pools=(strict, replace(mild, idle_vm=strict.idle_vm)))
    assert said_of(decide(noticed), "h")[0][0] is Reason.VM_IDLE
    assert "idle VMs hold 1 of them, desktops/h for the longest time" in said_of(decide(noticed), "v")[0][1]


def test_a_vm_in_use_or_under_a_policy_of_ignoring_is_left_alone() -> None:
    for view in (idle_cluster(IdleVmAction.IGNORE, 9_999.0), idle_cluster(IdleVmAction.NOTIFY, 60.0)):
        reported = [
            r for r in decide(view).refusals if r.subject.kind is SubjectKind.VM and r.subject.name != "v"
        ]
        assert reported == []
