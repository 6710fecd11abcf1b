"""GPUNode to and from the domain."""

import json
from typing import Any

import msgspec
import pytest

from poolmgr import wire
from poolmgr.domain.backoff import WHOLE_NODE, Backoff, Disturbance
from poolmgr.domain.fleet import Transition
from poolmgr.domain.identifiers import LeaseEpoch, NodeName, PciAddress, PlanId, PoolName
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.node_spec import Desired, NodeIntent
from poolmgr.wire.gpu_nodes import (
    DeviceStatus,
    HolderStatus,
    NodeStatus,
    gpus_of,
    read_status,
    reported,
    status_body,
)
from poolmgr.wire.node_specs import (
    backoffs_of,
    complaint_of,
    disturbances_of,
    read_spec,
    spec_of,
    transition_of,
)
from poolmgr.wire.nodes import node_of
from tests.unit.cluster.builders import CREATED, CREATED_AT, as_wire, device, gpu_node

MOVE = Transition(
    node=NodeName("n1"),
    plan_id=PlanId("ab12"),
    epoch=LeaseEpoch(3),
    to_mode=Mode.PASSTHROUGH,
    devices=(PciAddress("0000:00:04.0"),),
    step=Step.DRAIN,
    started_at=CREATED_AT,
    step_started_at=CREATED_AT + 5,
    reason="VmWaiting",
    message="for desktops/vm1",
)


def as_gpu_node(**over: object) -> wire.GpuNode:
    return as_wire(gpu_node(**over), wire.GpuNode)  # type: ignore[arg-type]


def test_intent_read_back_is_the_intent_written() -> None:
    intent = NodeIntent(((PciAddress("0000:00:04.0"), Mode.PASSTHROUGH, PlanId("ab12")),), MOVE)
    node = as_gpu_node(spec=spec_of(intent, LeaseEpoch(3)))
    assert transition_of(node) == MOVE
    (gpu,) = gpus_of(node, {"NVIDIA A10": PoolName("a10")})
    assert (gpu.desired_mode, gpu.observed_mode, gpu.pool) == (Mode.PASSTHROUGH, Mode.SHARED, "a10")


def test_pauses_and_what_moves_cost_are_kept_in_the_spec() -> None:
    pauses = (
        Backoff(WHOLE_NODE, "StepTimedOut", "Detach took over 240 s", 2, CREATED_AT, CREATED_AT + 7_200),
        Backoff(PciAddress("0000:00:04.0"), "BindFailed", "no", 1, CREATED_AT, CREATED_AT + 600),
    )
    cost = (Disturbance(CREATED_AT, 2, 90.0), Disturbance(CREATED_AT + 100, 1))
    intent = NodeIntent((), None, backoffs=pauses, disturbances=cost)
    node = as_gpu_node(spec=spec_of(intent, LeaseEpoch(3)))
    assert (backoffs_of(node), disturbances_of(node)) == (pauses, cost)


def test_transition_is_written_in_the_writers_epoch() -> None:
    assert spec_of(NodeIntent((), MOVE), LeaseEpoch(9))["transition"]["epoch"] == 9


def test_merge_patch_names_every_field_so_that_none_keeps_an_old_value() -> None:
    empty = {"devices": [], "transition": None, "backoffs": [], "disturbances": []}
    assert spec_of(NodeIntent((), None), LeaseEpoch(3)) == empty
    plain = Transition(
        MOVE.node, MOVE.plan_id, MOVE.epoch, MOVE.to_mode, MOVE.devices, Step.INTEND, CREATED_AT, CREATED_AT
    )
    written = spec_of(NodeIntent((), plain), LeaseEpoch(3))["transition"]
    assert (written["reason"], written["message"], written["rollback"]) == ("", "", False)
    assert written["startedAt"] == CREATED


def test_node_has_reported_once_the_agent_echoed_the_generation() -> None:
    assert reported(as_gpu_node(generation=3, observed=3))
    assert not reported(as_gpu_node(generation=4, observed=3))
    assert not reported(as_gpu_node(generation=0, observed=0))


def test_status_that_was_stored_and_read_is_the_status_that_was_written() -> None:
    found = DeviceStatus(
        "0000:00:04.0",
        holders=(HolderStatus(7, "python"),),
        group_devices=("0000:00:04.0", "0000:00:04.1"),
        iommu_group=4,
    )
    ready = wire.Condition("Ready", "True", "AgentAtWork", "", CREATED)
    written = status_body(NodeStatus(3, devices=(found, DeviceStatus("0000:00:05.0")), conditions=(ready,)))
    assert status_body(read_status({"status": json.loads(json.dumps(written))})) == written
    assert written["devices"][0]["groupDevices"] == ["0000:00:04.0", "0000:00:04.1"]
    assert "iommuGroup" not in written["devices"][1]
    assert written["conditions"][0]["message"] == ""  # the CRD wants it there


def test_agent_reads_the_spec_that_the_manager_wrote() -> None:
    intent = NodeIntent(((PciAddress("0000:00:04.0"), Mode.PASSTHROUGH, PlanId("ab12")),), MOVE)
    body = {"metadata": {"generation": 7}, "spec": spec_of(intent, LeaseEpoch(3))}
    found = read_spec(NodeName("n1"), body)
    assert (found.generation, found.complaint, found.transition) == (7, "", MOVE)
    assert found.desired == {PciAddress("0000:00:04.0"): Desired(Mode.PASSTHROUGH, PlanId("ab12"))}
    assert found.transition_of(PciAddress("0000:00:05.0")) is None


NOT_UNDERSTOOD = [
    None,
    {"devices": [{"pciAddress": "0000:00:04.0", "mode": "Leased"}]},
    {"devices": [{"pciAddress": "0000:00:04.0", "mode": ""}]},
    {"devices": [{"mode": "Shared"}]},
    {"devices": "all of them"},
    {"transition": {"planId": "p", "epoch": 1, "toMode": "Passthrough", "devices": [], "step": "Polish"}},
    {"transition": {"planId": "p", "epoch": "one", "toMode": "Shared", "devices": [], "step": "Fence"}},
    {"transition": {"planId": "p"}},
]


@pytest.mark.parametrize("spec", NOT_UNDERSTOOD)
def test_agent_obeys_nothing_of_a_spec_that_it_does_not_understand(spec: object) -> None:
    found = read_spec(NodeName("n1"), {"metadata": {"generation": 4}, "spec": spec})
    assert (found.generation, found.desired, found.transition) == (4, {}, None)
    assert "GPUNode n1" in found.complaint


@pytest.mark.parametrize("spec", [*NOT_UNDERSTOOD, {"devices": []}, {"transition": None}])
def test_agent_and_manager_complain_of_the_same_specs(spec: Any) -> None:
    body = {"metadata": {"name": "n1"}, "spec": spec}
    agents = read_spec(NodeName("n1"), body).complaint
    try:
        managers = complaint_of(msgspec.convert(body, wire.GpuNode))
    except msgspec.ValidationError as error:  # the manager sets the object aside
        managers = str(error)
    assert bool(agents) == bool(managers)


def test_no_spec_is_an_empty_one_and_no_object_is_complained_of() -> None:
    assert read_spec(NodeName("n1"), {}).complaint == ""
    assert read_spec(NodeName("n1"), {"metadata": {"generation": "many"}}).complaint


def test_gpu_on_no_driver_has_no_mode() -> None:
    node = as_gpu_node(devices=[device(mode="", phase="Unbound")])
    (gpu,) = gpus_of(node, {})
    assert (gpu.observed_mode, gpu.phase) == (None, DevicePhase.UNBOUND)


def test_phase_of_a_newer_agent_is_left_alone_and_said() -> None:
    (gpu,) = gpus_of(as_gpu_node(devices=[device(phase="Hibernating")]), {})
    assert gpu.phase is DevicePhase.QUARANTINED
    assert "Hibernating" in gpu.message


def test_step_of_a_newer_manager_still_is_a_move_under_way() -> None:
    spec = spec_of(NodeIntent((), MOVE), LeaseEpoch(3))
    spec["transition"]["step"] = "Polish"
    move = transition_of(as_gpu_node(spec=spec))
    assert move is not None
    assert move.step is Step.INTEND


def test_holders_and_allocation_are_told() -> None:
    holders = [{"pid": 42, "command": "python", "podUid": "u", "path": "/dev/nvidia0"}]
    (gpu,) = gpus_of(as_gpu_node(devices=[device(holders=holders, allocatedTo="u2", advertised=True)]), {})
    assert [(h.pid, h.command, h.pod_uid) for h in gpu.holders] == [(42, "python", "u")]
    assert (gpu.allocated_to, gpu.advertised) == ("u2", True)


@pytest.mark.parametrize(
    ("path", "value"),
    [(("devices", 0, "mode"), "Leased"), (("transition", "step"), "Polish"), (("transition", "toMode"), "X")],
)
def test_spec_of_a_newer_manager_is_neither_planned_for_nor_rewritten(
    path: tuple[Any, ...], value: str
) -> None:
    intent = NodeIntent(((PciAddress("0000:00:04.0"), Mode.PASSTHROUGH, PlanId("ab12")),), MOVE)
    spec: Any = spec_of(intent, LeaseEpoch(3))
    known = node_of(as_gpu_node(spec=spec, generation=3, observed=3), None, ())
    assert (known.complaint, known.reported) == ("", True)
    here = spec
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    found = node_of(as_gpu_node(spec=spec, generation=3, observed=3), None, ())
    assert repr(value) in found.complaint
    assert not found.reported
