"""GPUs move only where the workload that waits for them would then be placed."""

from typing import Any

import pytest

from tests.unit.cluster.builders import Json, launcher, pod, vmi
from tests.unit.cluster.planned import answer_to, host, moved, plan_of

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
IN_B: Json = {"key": "zone", "operator": "In", "values": ["b"]}
SELECTOR: Json = {"nodeSelector": {"zone": "b"}}
AFFINITY: Json = {
    "affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [IN_B]}]}}}
}
A, B = {"zone": "a"}, {"zone": "b"}


def waiting_vm(**spec: Any) -> tuple[Json, Json]:
    """An instance and its launcher with the same scheduling rules."""
    instance = vmi()
    instance["spec"].update({k: v for k, v in spec.items() if k != "containers"})
    return instance, launcher(spec=spec)


@pytest.mark.parametrize("first", ["s", "p"])
@pytest.mark.parametrize("rule", [SELECTOR, AFFINITY])
def test_a_vm_gets_a_gpu_of_a_node_where_it_may_run(first: str, rule: Json) -> None:
    plan = plan_of(host("n1", first, labels=A), host("n2", "s", labels=B), waiting_vm(**rule))
    assert moved(plan) == ["n2/00>p"]


def test_before_there_is_a_launcher_the_instance_says_where() -> None:
    instance, _ = waiting_vm(**SELECTOR)
    assert moved(plan_of(host("n1", labels=A), host("n2", labels=B), instance)) == ["n2/00>p"]


def test_a_vm_that_no_node_admits_moves_nothing_and_is_told_why() -> None:
    plan = plan_of(host("n1", labels=A), waiting_vm(**SELECTOR))
    assert moved(plan) == []
    assert answer_to(plan, "vm1") == (
        "NoNodeAdmits",
        "it cannot run on any of the 1 node(s) with such GPUs: its node selector wants zone=b (1 node(s)); moving GPUs "
        "would not help",
    )


def test_only_nodes_that_kubevirt_uses_take_vms() -> None:
    off = host("n1", labels={"kubevirt.io/schedulable": "false"})
    on = host("n2", labels={"kubevirt.io/schedulable": "true"})
    assert moved(plan_of(off, on, vmi())) == ["n2/00>p"]


def test_a_tainted_node_is_for_those_who_tolerate_it() -> None:
    tainted = host("n1", spec={"taints": [{"key": "dedicated", "value": "ml", "effect": "NoSchedule"}]})
    assert moved(plan_of(tainted, waiting_vm())) == []
    tolerant = waiting_vm(tolerations=[{"key": "dedicated", "operator": "Exists"}])
    assert moved(plan_of(tainted, tolerant)) == ["n1/00>p"]


def test_a_cordon_of_our_own_is_no_taint_to_wait_for() -> None:
    spec = {
        "unschedulable": True,
        "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}],
    }
    node, report = host("n1", "p", spec=spec)
    node["metadata"]["annotations"]["poolmgr.io/cordoned"] = "plan"
    assert answer_to(plan_of((node, report), waiting_vm()), "vm1")[0] == "FreeCapacity"


def test_a_vm_without_cpu_or_memory_for_it_moves_nothing() -> None:
    """n1 has 15.5 CPUs, of which a pod took 15; n2 has enough."""
    heavy = pod("busy", node="n1", limits={}, containers=[_container("15")])
    large = waiting_vm(containers=[_container("4", gpu=True)])
    plan = plan_of(host("n1"), heavy, large)
    assert moved(plan) == []
    assert answer_to(plan, "vm1")[1] == (
        "none of 1 GPU(s) can be moved now: 1 of them NodeFull, for example node n1 is too full: it needs 4 CPUs, but "
        "only 0.5 are left"
    )
    assert moved(plan_of(host("n1"), host("n2"), heavy, large)) == ["n2/00>p"]


def test_two_vms_do_not_share_the_last_cpus_of_a_node() -> None:
    names = ("one", "two")
    instances = tuple(vmi(name) for name in names)
    pods = tuple(launcher(name, spec={"containers": [_container("10", gpu=True)]}) for name in names)
    plan = plan_of(host("n1", "ss"), instances, pods)
    assert len(plan.moves) == 1


def test_devices_that_kubevirt_gives_out_count_too() -> None:
    kvm = _container("1", gpu=True)
    kvm["resources"]["requests"]["devices.kubevirt.io/kvm"] = "1"
    lacking = host("n1")
    having = host("n2", allocatable={"devices.kubevirt.io/kvm": "1k"})
    assert moved(plan_of(lacking, having, waiting_vm(containers=[kvm]))) == ["n2/00>p"]


def test_a_pod_gets_a_gpu_of_a_node_where_it_may_run() -> None:
    plan = plan_of(host("n1", "s", labels=A), host("n2", "p", labels=B), pod("train", spec=SELECTOR))
    assert moved(plan) == ["n2/00>s"]
    assert answer_to(plan, "train")[0] == "MoveUnderWay"


def test_a_pod_that_no_node_admits_moves_nothing_and_is_told_why() -> None:
    plan = plan_of(host("n1", "p", labels=A), pod("train", spec=SELECTOR))
    assert moved(plan) == []
    assert answer_to(plan, "train")[0] == "NoNodeAdmits"
    assert "zone=b" in answer_to(plan, "train")[1]


def test_a_pod_is_not_said_to_fit_where_its_node_is_full() -> None:
    heavy = pod("busy", node="n1", limits={}, containers=[_container("15")])
    asks = _container("1")
    asks["resources"]["limits"] = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "3000"}
    plan = plan_of(host("n1", "s"), heavy, pod("train", containers=[asks]))
    assert answer_to(plan, "train")[0] == "NodeFull"


def test_labels_that_a_move_took_off_count_for_pods() -> None:
    """A node whose GPUs are all with VMs has no label of HAMi's plugin; it is back with the first shared GPU."""
    node, report = host("n1", "p")
    del node["metadata"]["labels"]["gpu"]
    node["metadata"]["annotations"]["poolmgr.io/plugin-labels"] = '{"gpu":"on"}'
    plan = plan_of((node, report), pod("train", spec={"nodeSelector": {"gpu": "on"}}))
    assert moved(plan) == ["n1/00>s"]


def test_more_rules_than_anybody_writes_are_not_decided_on() -> None:
    tolerations = [{"key": f"k{n}", "operator": "Exists"} for n in range(400)]
    plan = plan_of(host("n1"), waiting_vm(tolerations=tolerations))
    assert moved(plan) == []
    assert answer_to(plan, "vm1")[0] == "PlacementUnknown"


def _container(cpu: str, *, gpu: bool = False) -> Json:
    requests = {"cpu": cpu, **({"nvidia.com/GA102GL_A10": "1"} if gpu else {})}
    return {"name": "main", "resources": {"requests": requests}}
