"""What the real API server makes of our CRDs: every rule refuses what it should, with its sentence."""

import copy
import re
from typing import Any

import pytest

from e2e.controlplane.client import ApiError
from e2e.controlplane.plane import CommandFailed, ControlPlane
from tests.integration.helm.installation import CHART

pytestmark = pytest.mark.integration

GROUP = "/apis/poolmgr.io/v1alpha1"
NOW = "2026-11-22T10:00:00Z"


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> ControlPlane:
    for crd in sorted((CHART / "crds").glob("*.yaml")):
        control_plane.apply(crd)
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=300s")
    return control_plane


def object_of(kind: str, spec: dict[str, Any], name: str = "trial") -> dict[str, Any]:
    return {
        "apiVersion": "poolmgr.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": copy.deepcopy(spec),
    }


def collection(kind: str) -> str:
    namespace = "/namespaces/default" if kind == "GPUReservation" else ""
    return f"{GROUP}{namespace}/{kind.lower()}s"


def dry_run(plane: ControlPlane, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return plane.api.create(collection(kind), object_of(kind, spec), dryRun="All", fieldValidation="Strict")


ADDRESS = "0000:3b:00.0"
TRANSITION = {
    "planId": "p1",
    "epoch": 3,
    "toMode": "Passthrough",
    "devices": [ADDRESS],
    "step": "Intend",
    "startedAt": NOW,
    "stepStartedAt": NOW,
}
MOVING = {
    "devices": [{"pciAddress": ADDRESS, "mode": "Passthrough", "planId": "p1"}],
    "transition": TRANSITION,
}
RESERVATION = {"model": "NVIDIA A10", "gpus": 2, "start": NOW, "end": "2026-11-22T12:00:00Z"}

REFUSED = [
    ("GPUPool", {"passthrough": {"min": 3, "max": 2}}, "passthrough.min must not be above passthrough.max"),
    ("GPUPool", {"shared": {"min": 3, "max": 2}}, "shared.min must not be above shared.max"),
    ("GPUPool", {"passthrough": {"headroom": 3, "max": 2}}, "passthrough.headroom must not be above"),
    ("GPUPool", {"shared": {"headroom": 3, "max": 2}}, "shared.headroom must not be above"),
    ("GPUPool", {"shared": {"headroom": -1}}, "should be greater than or equal to 0"),
    ("GPUPool", {"passthrough": {"min": -1}}, "should be greater than or equal to 0"),
    (
        "GPUPool",
        {"passthrough": {"max": 0}, "shared": {"max": 0}},
        "no GPU of this pool could be in either mode",
    ),
    ("GPUPool", {"idleVM": {"action": "Stop", "noticeSeconds": 5}}, "owners must be able to react"),
    ("GPUPool", {"idleVM": {"action": "Kill"}}, 'supported values: "Ignore", "Notify", "Stop"'),
    ("GPUPool", {"rebalance": {"mode": "Sometimes"}}, 'supported values: "Automatic", "Recommend", "Off"'),
    ("GPUPool", {"rebalance": {"granularity": "Rack"}}, 'supported values: "GPU", "Node"'),
    ("GPUPool", {"rebalance": {"eviction": "Always"}}, 'supported values: "Never", "BestEffort"'),
    ("GPUPool", {"rebalance": {"maxInFlight": 0}}, "should be greater than or equal to 1"),
    ("GPUPool", {"rebalance": {"drainTimeoutSeconds": 1}}, "should be greater than or equal to 10"),
    ("GPUPool", {"nodeSelector": {"matchLabels": {"a b": "c"}}}, "matchLabels keys must be label names"),
    ("GPUPool", {"nodeSelector": {"zone": "a"}}, 'unknown field "spec.nodeSelector.zone"'),
    ("GPUPool", {"models": ["A10", "A10"]}, "Duplicate value"),
    ("GPUPool", {"models": [" "]}, "should match"),
    ("GPUPool", {"quotas": [{"namespace": "ml"}, {"namespace": "ml"}]}, "Duplicate value"),
    ("GPUPool", {"quotas": [{"namespace": "ml", "maxGPUs": -1}]}, "should be greater than or equal to 0"),
    (
        "GPUPool",
        {"quotas": [{"namespace": "ml", "weight": 0}]},
        "to give a namespace nothing, set maxGPUs to 0",
    ),
    ("GPUReservation", RESERVATION | {"end": NOW}, "start must be before end"),
    ("GPUReservation", RESERVATION | {"end": "2028-01-01T00:00:00Z"}, "must not be longer than 366 days"),
    ("GPUReservation", RESERVATION | {"gpus": 0}, "should be greater than or equal to 1"),
    ("GPUReservation", RESERVATION | {"start": "tomorrow"}, "must be of type date-time"),
    ("GPUReservation", RESERVATION | {"mode": "Both"}, 'supported values: "Passthrough", "Shared"'),
    ("GPUReservation", {"model": "NVIDIA A10"}, "Required value"),
    ("GPUNode", {"devices": [{"pciAddress": "3b:00.0", "mode": "Shared"}]}, "should match"),
    ("GPUNode", {"devices": [{"pciAddress": "0000:3B:00.0", "mode": "Shared"}]}, "should match"),
    ("GPUNode", {"devices": [{"pciAddress": ADDRESS, "mode": "Other"}]}, "supported values"),
    ("GPUNode", {"devices": [{"pciAddress": ADDRESS, "mode": "Shared"}] * 2}, "Duplicate value"),
    (
        "GPUNode",
        MOVING | {"transition": TRANSITION | {"devices": ["0000:3c:00.0"]}},
        "transition.devices must all be listed in spec.devices",
    ),
    (
        "GPUNode",
        MOVING | {"transition": TRANSITION | {"toMode": "Shared"}},
        "the devices of a transition must have its toMode",
    ),
    ("GPUNode", MOVING | {"transition": TRANSITION | {"devices": []}}, "should have at least 1 items"),
    ("GPUNode", MOVING | {"transition": TRANSITION | {"step": "Jump"}}, "supported values"),
    ("GPUNode", MOVING | {"transition": TRANSITION | {"startedAt": "now"}}, "must be of type date-time"),
]


@pytest.mark.parametrize(("kind", "spec", "sentence"), REFUSED)
def test_refuses(plane: ControlPlane, kind: str, spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ApiError) as refused:
        dry_run(plane, kind, spec)
    assert sentence in refused.value.message


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("GPUPool", {}),
        ("GPUPool", {"passthrough": {"min": 2, "max": 2, "headroom": 2}, "shared": {"max": 0}}),
        ("GPUNode", {}),
        ("GPUNode", MOVING),
        ("GPUReservation", RESERVATION),
        ("GPUReservation", RESERVATION | {"start": "2026-11-22T10:00:00.25+02:00"}),
    ],
)
def test_accepts(plane: ControlPlane, kind: str, spec: dict[str, Any]) -> None:
    dry_run(plane, kind, spec)


def test_an_empty_pool_gets_every_default(plane: ControlPlane) -> None:
    assert dry_run(plane, "GPUPool", {})["spec"] == {
        "models": [],
        "nodeSelector": {},
        "passthrough": {"min": 0, "headroom": 0},
        "shared": {"min": 0, "headroom": 0},
        "rebalance": {
            "mode": "Automatic",
            "granularity": "GPU",
            "cooldownSeconds": 300,
            "maxInFlight": 1,
            "eviction": "Never",
            "drainTimeoutSeconds": 600,
        },
        "idleVM": {"action": "Ignore", "idleAfterSeconds": 3600, "noticeSeconds": 900},
        "quotas": [],
        "overQuota": "Wait",
    }


def test_a_deposed_leaders_epoch_is_refused_and_the_step_stays(plane: ControlPlane) -> None:
    path = f"{GROUP}/gpunodes/fenced"
    plane.api.create(f"{GROUP}/gpunodes", object_of("GPUNode", MOVING, "fenced"))
    try:
        with pytest.raises(ApiError) as refused:
            plane.api.patch(path, {"spec": {"transition": {"epoch": 2, "step": "Rebind"}}})
        assert "comes from a manager that is no longer the leader" in refused.value.message
        assert plane.api.get(path)["spec"]["transition"]["step"] == "Intend"
        plane.api.patch(path, {"spec": {"transition": {"epoch": 4, "step": "Fence"}}})
        plane.api.patch(path, {"spec": {"transition": None}})
    finally:
        plane.kubectl("delete", "gpunode", "fenced")


def test_status_cannot_be_written_with_the_object_nor_spec_with_the_status(plane: ControlPlane) -> None:
    path = f"{GROUP}/gpunodes/halves"
    plane.api.create(f"{GROUP}/gpunodes", object_of("GPUNode", {}, "halves") | {"status": {"kernel": "6.1"}})
    try:
        assert "status" not in plane.api.get(path)
        plane.api.patch(f"{path}/status", {"spec": MOVING, "status": {"kernel": "6.1"}})
        found = plane.api.get(path)
        assert (found["status"], found["spec"].get("transition")) == ({"kernel": "6.1"}, None)
    finally:
        plane.kubectl("delete", "gpunode", "halves")


def test_kubectl_shows_what_an_operator_asks_first(plane: ControlPlane) -> None:
    plane.api.create(f"{GROUP}/gpunodes", object_of("GPUNode", MOVING, "shown"))
    plane.api.create(f"{GROUP}/gpupools", object_of("GPUPool", {}, "shown"))
    try:
        summary = {"gpus": 8, "passthrough": 3, "shared": 4, "moving": 1, "trouble": 0}
        plane.api.patch(f"{GROUP}/gpunodes/shown/status", {"status": {"summary": summary}})
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "InPlace",
            "message": "-",
            "lastTransitionTime": NOW,
        }
        counts = {"gpus": 8, "passthrough": 3, "passthroughUsed": 2, "shared": 4, "sharedUsed": 1}
        plane.api.patch(
            f"{GROUP}/gpupools/shown/status",
            {"status": counts | {"moving": 1, "waitingVMs": 2, "waitingPods": 5, "conditions": [ready]}},
        )
        head, row = plane.kubectl("get", "gnode", "shown").splitlines()
        columns = ["NAME", "GPUS", "PASSTHROUGH", "SHARED", "MOVING", "TROUBLE", "LAST SEEN", "AGE"]
        assert re.split(" {2,}", head.strip()) == columns
        assert row.split()[:-1] == ["shown", "8", "3", "4", "1", "0"], "while its agent is heard"
        plane.kubectl("annotate", "gnode", "shown", f"poolmgr.io/agent-last-seen={NOW}")
        row = plane.kubectl("get", "gnode", "shown").splitlines()[1]
        assert row.split()[:-1] == ["shown", "8", "3", "4", "1", "0", NOW]
        plane.kubectl("annotate", "gnode", "shown", "poolmgr.io/agent-last-seen-")
        head, row = plane.kubectl("get", "gpool", "shown").splitlines()
        assert head.split() == [
            "NAME",
            "GPUS",
            "PASSTHROUGH",
            "PT-USED",
            "SHARED",
            "SH-USED",
            "MOVING",
            "WAIT-VMS",
            "WAIT-PODS",
            "REBALANCE",
            "READY",
            "AGE",
        ]
        assert row.split()[:-1] == ["shown", "8", "3", "2", "4", "1", "1", "2", "5", "Automatic", "True"]
        everything = plane.kubectl("get", "poolmgr", "-A")
        assert "gpunode.poolmgr.io/shown" in everything
        assert "gpupool.poolmgr.io/shown" in everything
        wide = plane.kubectl("get", "gnode", "shown", "-o", "wide").splitlines()[1].split()
        assert wide[6:9] == ["Intend", "Passthrough", "p1"]
    finally:
        plane.kubectl("delete", "gpunode,gpupool", "shown")


def test_kubectl_explains_every_field(plane: ControlPlane) -> None:
    assert "The agent rebinds at Rebind" in plane.kubectl("explain", "gpunode.spec.transition.step")
    assert "kept ready on this side" in plane.kubectl("explain", "gpupool.spec.shared.headroom")


def test_a_plain_user_sees_the_sentence_in_kubectl(plane: ControlPlane) -> None:
    pool = """{apiVersion: poolmgr.io/v1alpha1, kind: GPUPool, metadata: {name: wrong},
               spec: {passthrough: {min: 9, max: 8}}}"""
    with pytest.raises(CommandFailed, match=r"passthrough\.min must not be above passthrough\.max"):
        plane.kubectl("apply", "-f", "-", stdin=pool)
