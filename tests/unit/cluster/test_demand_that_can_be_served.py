"""Only demand that GPUs can serve counts: nothing is kept or fetched for the rest, and it is told why."""

from typing import Any

import pytest

from poolmgr.cluster.observe.assembly import Assembly
from tests.unit.cluster.builders import Json, launcher, node, pod, scheduler, vm, vmi
from tests.unit.cluster.planned import A10, SCHEDULERS, answer_to, host, moved, observed, plan_of

REFUSED: Json = {
    "type": "Synchronized",
    "status": "False",
    "reason": "FailedCreate",
    "message": f"failed to render launch manifest: GPU {A10} is not permitted in permittedHostDevices configuration",
}
QUOTA: Json = REFUSED | {
    "message": 'pods "virt-launcher-vm1" is forbidden: exceeded quota: team, requested: requests.memory=4Gi'
}
WAITS = pod("train")
"""A pod that a free GPU would serve."""


def said_by_scheduler(message: str) -> Json:
    waiting = launcher(unschedulable_since="2026-11-22T10:01:00Z")
    waiting["status"]["conditions"][0]["message"] = message
    return waiting


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        ((vmi(conditions=[REFUSED]),), "CannotStart"),
        ((vmi(conditions=[QUOTA]),), "CannotStart"),
        ((vm(printable="DataVolumeError"),), "CannotStart"),
        ((vm(printable="ErrorPvcNotFound"),), "CannotStart"),
        ((vmi(), said_by_scheduler("0/2 nodes are available: 2 Insufficient memory.")), "LacksSomethingElse"),
        (
            (vmi(), said_by_scheduler('0/2 nodes are available: persistentvolumeclaim "disk" not found.')),
            "LacksSomethingElse",
        ),
        ((vmi(), launcher(spec={"schedulingGates": [{"name": "kueue"}]})), "LacksSomethingElse"),
    ],
)
def test_a_machine_that_cannot_start_gets_no_gpu_and_keeps_none(
    machine: tuple[Json, ...], reason: str
) -> None:
    assert moved(plan_of(host("n1", "s"), machine)) == []
    plan = plan_of(host("n1", "p"), machine, WAITS)
    assert moved(plan) == ["n1/00>s"]
    assert answer_to(plan, "vm1")[0] == reason


def test_kubevirts_own_words_are_passed_on() -> None:
    assert (
        "not permitted in permittedHostDevices"
        in answer_to(plan_of(host("n1"), vmi(conditions=[REFUSED])), "vm1")[1]
    )


def test_a_machine_that_lacks_a_gpu_and_more_counts() -> None:
    message = f"0/2 nodes are available: 1 Insufficient memory, 1 Insufficient {A10}."
    assert moved(plan_of(host("n1", "s"), vmi(), said_by_scheduler(message))) == ["n1/00>p"]


def test_a_node_that_a_move_has_cordoned_tells_nothing() -> None:
    message = "0/2 nodes are available: 1 node(s) were unschedulable, 1 Insufficient cpu."
    assert moved(plan_of(host("n1", "s"), vmi(), said_by_scheduler(message))) == ["n1/00>p"]


def test_one_refusal_long_ago_does_not_count_once_there_is_a_launcher() -> None:
    assert moved(plan_of(host("n1", "s"), vmi(conditions=[REFUSED]), launcher())) == ["n1/00>p"]


def test_a_machine_that_crashes_over_and_over_keeps_nothing() -> None:
    machine = vm(printable="CrashLoopBackOff")
    machine["status"]["startFailure"] = {"consecutiveFailCount": 2}
    assert moved(plan_of(host("n1", "p"), machine, WAITS)) == []
    machine["status"]["startFailure"] = {"consecutiveFailCount": 3}
    plan = plan_of(host("n1", "p"), machine, WAITS)
    assert moved(plan) == ["n1/00>s"]
    assert "3 times in a row" in answer_to(plan, "vm1")[1]


def test_a_machine_that_the_controller_could_not_make_says_so() -> None:
    machine = vm()
    machine["status"]["conditions"] = [
        {"type": "Failure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    ]
    assert answer_to(plan_of(host("n1"), machine), "vm1") == (
        "CannotStart",
        "KubeVirt cannot start it: exceeded quota",
    )


def test_a_waiting_instance_that_is_being_deleted_is_no_demand() -> None:
    going = vmi()
    going["metadata"]["deletionTimestamp"] = "2026-11-22T10:00:00Z"
    assert moved(plan_of(host("n1", "s"), going, launcher(deleted=True))) == []


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_machine_that_restarts_keeps_its_gpu(phase: str) -> None:
    full = {"hami.io/vgpu-node": "n1", "hami.io/vgpu-devices-allocated": "GPU-n1-1,NVIDIA,23028,0:;"}
    busy = pod("busy", node="n1", annotations=full)
    assert moved(plan_of(host("n1", "ps"), busy, WAITS, vm(), vmi(phase=phase, node="n1"))) == []
    assert moved(plan_of(host("n1", "ps"), busy, WAITS, vmi(phase=phase, node="n1"))) == ["n1/00>s"]


@pytest.mark.parametrize(("phase", "kept"), [("Failed", True), ("Succeeded", False)])
def test_one_that_reruns_on_failure_keeps_it_after_a_failure(phase: str, kept: bool) -> None:
    machine = vm(run={"runStrategy": "RerunOnFailure"})
    plan = plan_of(host("n1", "p"), WAITS, machine, vmi(phase=phase, node="n1"))
    assert (moved(plan) == []) is kept


def test_a_machine_by_instancetype_keeps_what_its_last_instance_had() -> None:
    machine = vm(gpus=[])
    machine["spec"]["instancetype"] = {"name": "gpu.a10", "kind": "VirtualMachineClusterInstancetype"}
    cluster = Assembly()
    observed(host("n1", "p"), machine, vmi(phase="Running", node="n1"), WAITS, assembly=cluster)
    cluster.apply_instance("desktops/vm1", None)
    snapshot = cluster.snapshot(0.0, synced=True)
    assert [(v.name, v.gpus, v.node) for v in snapshot.vms] == [("vm1", 1, None)]
    cluster.apply_machine("desktops/vm1", None)
    assert cluster.snapshot(0.0, synced=True).vms == ()


def test_labels_make_no_launcher() -> None:
    """Anybody can write them: only a pod that KubeVirt's instance owns says where that instance runs."""
    forged = launcher(node="n1", owner=None)
    [machine] = observed(host("n1"), vmi(), forged).vms
    assert machine.waiting
    [machine] = observed(host("n1"), vmi(), launcher(node="n1")).vms
    assert machine.node == "n1"


def test_a_higher_priority_is_served_first() -> None:
    old, urgent = vmi("old"), vmi("urgent")
    old["metadata"]["creationTimestamp"] = "2026-11-22T09:00:00Z"
    pods = (launcher("old"), launcher("urgent", spec={"priority": 1000}))
    plan = plan_of(host("n1", "s"), old, urgent, pods)
    assert answer_to(plan, "urgent")[0] == "MoveUnderWay"
    assert answer_to(plan, "old")[0] == "NoCandidate"


@pytest.mark.parametrize(
    ("resource", "kind"),
    [
        ("nvidia.com/mig-1g.10gb", "a MIG slice"),
        ("volcano.sh/vgpu-number", "a slice of Volcano's vGPU plugin"),
        ("huawei.com/Ascend910B3", "an Ascend NPU"),
        ("cambricon.com/vmlu", "a Cambricon MLU"),
        ("hygon.com/dcunum", "a Hygon DCU"),
        ("metax-tech.com/sgpu", "a MetaX GPU"),
        ("mthreads.com/vgpu", "a Moore Threads GPU"),
        ("iluvatar.ai/MR-V100-vgpu", "an Iluvatar GPU"),
        ("amd.com/gpu", "an AMD GPU"),
    ],
)
def test_other_accelerators_are_demand_that_is_not_served(resource: str, kind: str) -> None:
    asks = [{"name": "main", "resources": {"limits": {resource: "1"}, "requests": {resource: "1"}}}]
    train = pod("train", containers=asks, scheduler="default-scheduler")
    plan = plan_of(host("n1", "p"), train)
    assert moved(plan) == []
    assert answer_to(plan, "train") == (
        "UnservedResource",
        f"it asks for {resource}, {kind}: poolmgr provides none of these",
    )


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"scheduler": "volcano"}, "it waits for the scheduler volcano, which is not HAMi's"),
        (
            {"spec": {"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}},
            "it is held back by the scheduling gate kueue.x-k8s.io/admission",
        ),
    ],
)
def test_a_pod_that_waits_for_somebody_else_is_told_so(over: dict[str, Any], said: str) -> None:
    plan = plan_of(host("n1", "p"), pod("train", **over))
    assert moved(plan) == []
    assert answer_to(plan, "train") == ("LacksSomethingElse", said)


def test_a_pod_over_hamis_quota_moves_nothing() -> None:
    over = pod("train", unschedulable_since="2026-11-22T10:01:00Z")
    over["status"]["conditions"][0]["message"] = "0/1 nodes are available: 1 ResourceQuotaNotFit."
    plan = plan_of(host("n1", "p"), over)
    assert moved(plan) == []
    assert answer_to(plan, "train")[0] == "QuotaExceeded"


def test_hamis_scheduler_is_known_by_its_own_settings() -> None:
    deployment = scheduler()
    extender = deployment["spec"]["template"]["spec"]["containers"][1]
    extender["command"] = ["scheduler", "--scheduler-name=hami2-9", "-v=4"]
    cluster = Assembly()
    observed(deployment, node(), assembly=cluster)
    assert cluster.hami.schedulers == {"hami2-9"}
    extender["command"] = ["scheduler", "--scheduler-name", "other"]
    observed(deployment, assembly=cluster)
    assert cluster.hami.schedulers == {"other"}
    extender["command"] = ["scheduler"]
    observed(deployment, assembly=cluster)
    assert cluster.hami.schedulers == frozenset()
    assert "hami2-9" not in SCHEDULERS
