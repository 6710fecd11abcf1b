"""What happens to virtual machines at admission.

One file, long as it is: whoever changes a warning sees all that a machine can be told.
"""

from typing import Any

import pytest

from poolmgr.domain.reasons import Reason
from poolmgr.wire.annotations import AGENT_LAST_SEEN
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.instants import from_rfc3339
from tests.unit.webhooks.objects import (
    A10_RESOURCE,
    T4,
    T4_RESOURCE,
    device,
    fleet,
    gpu_node,
    gpu_pool,
    node,
    request,
    small_fleet,
    vm,
    vmi,
)
from webhooks.fleet_view import FleetView
from webhooks.review import WARNING_LIMIT, Answer
from webhooks.virtual_machine import UnknownResources, decide_virtual_machine, device_requests

FOLLOW = "follow with `kubectl -n desktops get vmi desk-1` and `kubectl -n desktops describe vmi desk-1`"


def decide(
    new: dict[str, Any],
    view: FleetView | None,
    old: dict[str, Any] | None = None,
    unknown: UnknownResources = UnknownResources.REFUSE,
) -> Answer:
    return decide_virtual_machine(request(new, old), view, HamiConfig(), unknown)


REFUSALS = [
    (
        (A10_RESOURCE,) * 3,
        Reason.MORE_THAN_ANY_NODE,
        "The virtual machine requests 3 nvidia.com/GA102GL_A10 (NVIDIA A10), but no node of this cluster has "
        "more than 2. Request at most 2, or spread the work over several machines.",
    ),
    (
        ("nvidia.com/GH100_H100",),
        Reason.UNKNOWN_RESOURCE,
        "No node of this cluster has nvidia.com/GH100_H100. Virtual machines can request "
        "nvidia.com/GA102GL_A10 (NVIDIA A10).",
    ),
    (
        ("nvidia.com/GA102GL_A10G",),
        Reason.UNKNOWN_RESOURCE,
        "No node of this cluster has nvidia.com/GA102GL_A10G; did you mean nvidia.com/GA102GL_A10 (NVIDIA A10)?",
    ),
    (
        ("nvidia.com/gpu",),
        Reason.INVALID_REQUEST,
        "The virtual machine requests the device nvidia.com/gpu, which is a slice for containers. Request a whole "
        "GPU by its deviceName: nvidia.com/GA102GL_A10 (NVIDIA A10).",
    ),
]


@pytest.mark.parametrize("build", [vm, vmi])
@pytest.mark.parametrize(("gpus", "reason", "sentence"), REFUSALS)
def test_refuses_what_no_node_can_give(
    build: Any, gpus: tuple[str, ...], reason: Reason, sentence: str
) -> None:
    verdict = decide(build(*gpus), small_fleet()).verdict
    assert (verdict.ok, verdict.reason, verdict.message) == (False, reason, sentence)


def test_gpus_and_host_devices_are_added_up() -> None:
    machine = vmi(A10_RESOURCE, host_devices=(A10_RESOURCE, "example.com/nic"))
    assert device_requests(machine) == {A10_RESOURCE: 2, "example.com/nic": 1}
    assert not decide(vmi(A10_RESOURCE, host_devices=(A10_RESOURCE,) * 2), small_fleet()).verdict.ok


def test_devices_by_resource_claim_are_not_ours() -> None:
    machine = vmi()
    machine["spec"]["domain"]["devices"]["gpus"] = [{"name": "g", "claimName": "c", "requestName": "r"}]
    assert decide(machine, small_fleet()).verdict.reason is Reason.NOT_OURS


def test_a_halted_machine_that_is_impossible_is_refused_all_the_same() -> None:
    assert not decide(vm(*(A10_RESOURCE,) * 3, run_strategy="Halted"), small_fleet()).verdict.ok


def test_refuses_more_than_the_pools_let_machines_have() -> None:
    verdict = decide(vmi(A10_RESOURCE), small_fleet(passthrough={"max": 0})).verdict
    assert verdict.reason is Reason.AT_MAXIMUM
    assert verdict.message == (
        "The virtual machine requests 1 nvidia.com/GA102GL_A10 (NVIDIA A10), but virtual machines may have at "
        "most 0 of them (GPUPool a10: passthrough.max 0). Ask your administrator to raise the limit."
    )


def test_two_models_that_no_node_has_together_are_refused() -> None:
    t4 = {"model": T4, "resourceName": T4_RESOURCE}
    view = fleet(gpu_node("n1", device(0)), gpu_node("n2", device(0, "n2", **t4)))
    verdict = decide(vmi(A10_RESOURCE, T4_RESOURCE), view).verdict
    assert "together, but no node of this cluster has all of them" in verdict.message
    both = fleet(gpu_node("n1", device(0), device(1, **t4)))
    assert decide(vmi(A10_RESOURCE, T4_RESOURCE), both).verdict.ok


def test_devices_of_other_plugins_and_vendors_are_not_judged() -> None:
    assert decide(vmi(host_devices=("example.com/nic",)), small_fleet()).verdict.ok
    view = fleet(gpu_node("n1", device(0)), nodes=(node("x", capacity={"nvidia.com/NVIDIA_A10-4Q": "8"}),))
    assert decide(vmi("nvidia.com/NVIDIA_A10-4Q"), view).verdict.ok


NIC, QAT = "intel.com/sriov_nic", "intel.com/qat"
LIES = {"anothers device": NIC, "anothers vendor": "intel.com/x", "KVM": "devices.kubevirt.io/kvm"}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
@pytest.mark.parametrize(
    "machine",
    [vmi(host_devices=(NIC,) * 4), vmi(A10_RESOURCE, host_devices=(NIC,)), vmi(host_devices=(QAT,))],
    ids=["four cards", "a GPU and a card", "a device that is yet to come"],
)
def test_node_that_calls_its_gpu_as_others_call_their_devices_has_nobodys_machine_refused(
    lie: str, machine: dict[str, Any]
) -> None:
    offers = tuple(node(name, capacity={NIC: "8"}) for name in ("n1", "n2"))
    honest = (gpu_node("n1", device(0)), gpu_node("n2", device(0, "n2")))
    liar = gpu_node("evil", device(0, "evil", resourceName=lie))
    assert decide(machine, fleet(*honest, liar, nodes=offers)).verdict.ok


def test_vendor_of_two_nodes_or_of_all_is_ours_to_judge() -> None:
    amd = {"resourceName": "amd.com/mi300"}
    nodes = [gpu_node(name, device(0, name, **amd)) for name in ("m1", "m2")]
    for view in (fleet(gpu_node("n1", device(0)), *nodes), fleet(nodes[0])):
        assert decide(vmi("amd.com/mi30"), view).verdict.reason is Reason.UNKNOWN_RESOURCE


def test_an_unknown_resource_can_be_a_warning_where_nodes_come_on_demand() -> None:
    answer = decide(vmi("nvidia.com/GH100_H100"), small_fleet(), unknown=UnknownResources.WARN)
    assert answer.verdict.ok
    assert answer.warnings[0].startswith("No node of this cluster has nvidia.com/GH100_H100")


def free_fleet() -> FleetView:
    return fleet(gpu_node("n1", device(0, mode="Passthrough"), device(1)), pools=(gpu_pool(),))


def busy(index: int, node_name: str = "n1") -> dict[str, Any]:
    return device(index, node_name, "Passthrough", allocatedTo="launcher-uid")


def test_no_warning_while_a_gpu_is_free() -> None:
    answer = decide(vm(A10_RESOURCE), free_fleet())
    assert (answer.verdict.reason, answer.warnings) == (Reason.ADMITTED, ())


def test_a_passthrough_gpu_that_is_held_or_meant_to_leave_is_not_free() -> None:
    for view in (
        fleet(gpu_node("n1", busy(0))),
        fleet(gpu_node("n1", device(0, mode="Passthrough", holders=[{"pid": 7}]))),
        fleet(gpu_node("n1", device(0, mode="Passthrough", phase="Quarantined"))),
        fleet(gpu_node("n1", device(0, mode="Passthrough"), desired={0: "Shared"})),
    ):
        assert decide(vmi(A10_RESOURCE), view).verdict.reason is Reason.WILL_WAIT


WAITS = [
    (
        (gpu_node("n1", device(0), device(1)),),
        {},
        1,
        "no NVIDIA A10 is free for VMs right now; poolmgr will convert a shared GPU as soon as one is "
        "idle; its Events say how long that takes here",
    ),
    (
        (gpu_node("n1", device(0), device(1), moving={0: "Passthrough"}),),
        {},
        1,
        "no NVIDIA A10 is free for VMs right now; one is being converted; "
        "more follow if others wait too; its Events say how long that takes here",
    ),
    (
        (gpu_node("n1", busy(0), busy(1)),),
        {},
        1,
        "no NVIDIA A10 is free for VMs right now; VMs already use all of them: it starts when enough "
        "VMs stop",
    ),
    (
        (gpu_node("n1", busy(0), device(1)),),
        {"passthrough": {"max": 1}},
        1,
        "no NVIDIA A10 is free for VMs right now; VMs already have as many as the limit allows (GPUPool a10: passthrough.max 1): "
        "it starts when another VM stops",
    ),
    (
        (gpu_node("n1", device(0)),),
        {"rebalance": {"mode": "Recommend"}},
        1,
        "no NVIDIA A10 is free for VMs right now; poolmgr may not convert one on its own (GPUPool a10: "
        "rebalance.mode Recommend): it starts when another VM stops or your administrator moves a GPU",
    ),
    (
        (gpu_node("n1", device(0), device(1)),),
        {"models": ["Tesla T4"]},
        1,
        "no NVIDIA A10 is free for VMs right now; they belong to no GPUPool, so poolmgr does not move them: ask your "
        "administrator for a GPUPool",
    ),
    (
        (gpu_node("n1", device(0, mode="Passthrough"), device(1)),),
        {},
        2,
        "no node has 2 NVIDIA A10 free for VMs right now; poolmgr will convert 2 on one node as soon as that "
        "many are idle there",
    ),
]


@pytest.mark.parametrize(("gpu_nodes", "pool_spec", "number", "sentence"), WAITS)
def test_a_machine_that_must_wait_is_told_what_happens_next(
    gpu_nodes: tuple[Any, ...], pool_spec: dict[str, Any], number: int, sentence: str
) -> None:
    view = fleet(*gpu_nodes, pools=(gpu_pool(**pool_spec),))
    for machine in (vm(*(A10_RESOURCE,) * number), vmi(*(A10_RESOURCE,) * number)):
        answer = decide(machine, view)
        assert answer.verdict.reason is Reason.WILL_WAIT
        assert answer.warnings == (sentence, FOLLOW)
        assert all(len(warning) <= WARNING_LIMIT for warning in answer.warnings)


@pytest.mark.parametrize("strategy", ["Halted", "Manual", "WaitAsReceiver"])
def test_a_machine_that_does_not_start_now_is_not_warned(strategy: str) -> None:
    assert decide(vm(A10_RESOURCE, run_strategy=strategy), small_fleet()).warnings == ()


def test_the_old_running_field_is_understood() -> None:
    machine = vm(A10_RESOURCE)
    del machine["spec"]["runStrategy"]
    assert decide(machine, small_fleet()).warnings == ()
    machine["spec"]["running"] = True
    assert decide(machine, small_fleet()).warnings != ()


def test_an_update_that_leaves_the_devices_alone_always_passes() -> None:
    impossible = vm(*(A10_RESOURCE,) * 9)
    changed = {**impossible, "metadata": {**impossible["metadata"], "finalizers": ["x"]}}
    answer = decide(changed, small_fleet(), old=impossible)
    assert (answer.verdict.ok, answer.warnings) == (True, ())


def test_an_update_that_asks_for_more_is_judged() -> None:
    assert not decide(vm(*(A10_RESOURCE,) * 9), small_fleet(), old=vm(A10_RESOURCE)).verdict.ok


def test_a_machine_being_deleted_can_always_be_updated() -> None:
    machine = vm(*(A10_RESOURCE,) * 9, metadata={"deletionTimestamp": "2026-11-22T10:00:00Z"})
    assert decide(machine, small_fleet(), old=vm(A10_RESOURCE)).verdict.ok


def test_a_machine_by_instancetype_shows_nothing_and_passes() -> None:
    machine = vm()
    machine["spec"]["instancetype"] = {"name": "gpu.large"}
    assert decide(machine, small_fleet()).verdict.reason is Reason.NOT_OURS


def test_without_a_view_machines_pass() -> None:
    assert decide(vmi("nvidia.com/whatever"), None).verdict.reason is Reason.FLEET_UNKNOWN
    assert decide(vmi("nvidia.com/gpu"), None).verdict.message == (
        "The virtual machine requests the device nvidia.com/gpu, which is a slice for containers. Request a whole "
        "GPU by its deviceName."
    )


def test_before_any_agent_has_reported_machines_pass() -> None:
    """virt-controller restarts machines while the agents come up."""
    for machine in (vmi(A10_RESOURCE), vm(A10_RESOURCE, run_strategy="Halted")):
        answer = decide(machine, fleet())
        assert (answer.verdict.ok, answer.verdict.reason) == (True, Reason.FLEET_UNKNOWN)


def test_gpus_that_nobody_can_use_are_with_nobody() -> None:
    view = fleet(gpu_node("n1", device(0, mode="Passthrough", phase="Quarantined")), pools=(gpu_pool(),))
    [state, _] = decide(vm(A10_RESOURCE), view).warnings
    assert "none of the 1 GPU(s) of its kind can be used" in state
    mixed = fleet(
        gpu_node("n1", device(0, mode="Passthrough", phase="Quarantined"), busy(1)), pools=(gpu_pool(),)
    )
    [state, _] = decide(vm(A10_RESOURCE), mixed).warnings
    assert "VMs already use all of them, and 1 cannot be used" in state


def test_two_kinds_are_promised_together_or_not_at_all() -> None:
    t4 = {"model": T4, "resourceName": T4_RESOURCE}
    view = fleet(gpu_node("n1", device(0), device(1, **t4)), pools=(gpu_pool(),))
    [state, _] = decide(vm(A10_RESOURCE, T4_RESOURCE), view).warnings
    assert state == (
        "no node has 1 nvidia.com/GA102GL_A10 (NVIDIA A10) and 1 nvidia.com/TU104GL_TESLA_T4 (Tesla T4) free for VMs "
        "at the same time right now; poolmgr moves them on one node as soon as they are idle there"
    )


@pytest.mark.parametrize(
    "rule",
    [
        {"nodeSelector": {"zone": "b"}},
        {
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}
                        ]
                    }
                }
            }
        },
    ],
)
def test_a_free_gpu_counts_where_the_machine_may_run(rule: dict[str, Any]) -> None:
    free, shared = gpu_node("n1", device(0, mode="Passthrough")), gpu_node("n2", device(0, "n2"))
    nodes = (node("n1", {"zone": "a"}), node("n2", {"zone": "b"}))
    machine = vmi(A10_RESOURCE)
    machine["spec"].update(rule)
    answer = decide(machine, fleet(free, shared, nodes=nodes, pools=(gpu_pool(),)))
    assert answer.verdict.reason is Reason.WILL_WAIT
    assert "no NVIDIA A10 is free" in answer.warnings[0]
    nowhere = decide(machine, fleet(free, nodes=nodes[:1], pools=(gpu_pool(),)))
    assert nowhere.verdict.ok
    assert nowhere.warnings == (
        "the machine cannot run on any of the 1 node(s) with 1 nvidia.com/GA102GL_A10 (NVIDIA A10): "
        f"{'its node selector wants zone=b' if 'nodeSelector' in rule else 'its node affinity rules it out'} (1 node(s)); "
        "it waits until that changes, and no GPU is moved for it",
    )


def test_a_tainted_node_is_no_place_for_a_machine_that_does_not_tolerate_it() -> None:
    tainted = node("n1", taints=[{"key": "dedicated", "value": "ml", "effect": "NoSchedule"}])
    view = fleet(gpu_node("n1", device(0, mode="Passthrough")), nodes=(tainted,), pools=(gpu_pool(),))
    assert "does not tolerate the taint dedicated" in decide(vmi(A10_RESOURCE), view).warnings[0]
    tolerant = vmi(A10_RESOURCE)
    tolerant["spec"]["tolerations"] = [{"key": "dedicated", "operator": "Exists"}]
    assert decide(tolerant, view).warnings == ()


def test_rules_that_are_none_are_for_the_api_server_to_refuse() -> None:
    odd = vmi(A10_RESOURCE)
    odd["spec"]["nodeSelector"] = ["zone"]
    assert decide(odd, free_fleet()).verdict.ok


# -- what keeps GPUs where they are ---------------------------------------------------------------------------

NOT_NOW = {"possible": False, "reason": "BootDisplay", "message": "the console is on it"}
UNKNOWN = {"possible": False, "reason": "CannotTell", "message": "the kubelet does not answer"}
FAILED = {
    "pciAddress": "",
    "reason": "StepTimedOut",
    "message": "it took too long",
    "failedAt": "2026-11-22T10:00:00Z",
    "until": "2026-11-22T11:00:00Z",
}
TEN, ELEVEN = from_rfc3339("2026-11-22T10:30:00Z"), from_rfc3339("2026-11-22T11:00:00Z")


def silent(found: dict[str, Any]) -> dict[str, Any]:
    found["metadata"].setdefault("annotations", {})[AGENT_LAST_SEEN] = "2026-11-22T10:00:00Z"
    return found


def resting(found: dict[str, Any]) -> dict[str, Any]:
    found["spec"]["backoffs"] = [FAILED]
    return found


def said(*gpu_nodes: Any, number: int = 1, now: float = TEN) -> str:
    view = fleet(*gpu_nodes, pools=(gpu_pool(),), now=now)
    warning, _ = decide(vmi(*(A10_RESOURCE,) * number), view).warnings
    assert len(warning) <= WARNING_LIMIT
    return warning


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (gpu_node("n1", device(0, rebind=NOT_NOW)), "the console of their node is on them"),
        (gpu_node("n1", device(0, rebind=UNKNOWN)), "it cannot be told whether they are in use"),
        (gpu_node("n1", device(0, rebind=None)), "it cannot be told whether they are in use"),
        (resting(gpu_node("n1", device(0))), "they rest after failed moves"),
    ],
)
def test_no_move_is_promised_of_gpus_that_nobody_would_move(held: Any, why: str) -> None:
    assert f"stay where they are for now: {why}; it starts when" in said(held)
    assert "poolmgr will convert" not in said(held)
    other = gpu_node("n2", device(0, "n2"))
    assert "poolmgr will convert a shared GPU as soon as one is idle" in said(held, other)


def test_where_as_many_as_it_asks_for_could_not_be_moved_on_one_node_none_are_promised() -> None:
    one_each = [gpu_node(n, device(0, n), device(1, n, rebind=NOT_NOW)) for n in ("n1", "n2")]
    assert "poolmgr will convert" in said(*one_each)
    assert "stay where they are" in said(*one_each, number=2)


def test_a_pause_that_is_over_keeps_nothing() -> None:
    assert "poolmgr will convert" in said(resting(gpu_node("n1", device(0))), now=ELEVEN)


def test_a_silent_agents_gpus_are_neither_free_nor_on_their_way_nor_to_be_moved() -> None:
    for devices, moving in (
        ((device(0, mode="Passthrough"),), {}),
        ((device(0), device(1)), {0: "Passthrough"}),
        ((device(0),), {}),
    ):
        heard, unheard = gpu_node("n1", *devices, moving=moving), gpu_node("n1", *devices, moving=moving)
        assert "can be used" in said(silent(unheard))
        answer = decide(vmi(A10_RESOURCE), fleet(heard, pools=(gpu_pool(),)))
        assert not any("can be used" in warning for warning in answer.warnings)
    view = fleet(silent(gpu_node("n1", device(0), device(1), moving={0: "Passthrough"})))
    assert view.closed_to_pods == {"GPU-n1-0"}, "no pod may get it all the same"
