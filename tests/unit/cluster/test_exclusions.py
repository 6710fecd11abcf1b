"""What waiting pods must not get: exclusions come off when GPUs return, and cards that are kept for others come on."""

from typing import Any

import msgspec
import pytest

from poolmgr.cluster.exclusions import Exclusions, KubernetesExclusions, renewed
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.wire import GpuNode
from poolmgr.wire.annotations import EXCLUDED_BY_US
from poolmgr.wire.gpu_nodes import DesiredDevice, DeviceStatus, NodeStatus, TransitionSpec, WireSpec
from poolmgr.wire.hami.names import NOUSE_UUID
from poolmgr.wire.node_specs import closed_to_pods
from tests.unit.cluster.api_bench import ApiBench, Held
from webhooks.fleet_reader import FleetReader

PODS = "/api/v1/pods"
X, Y = GpuUuid("GPU-x"), GpuUuid("GPU-y")


NONE = frozenset[GpuUuid]()


@pytest.mark.parametrize(
    ("nouse", "ours", "stay", "need", "after"),
    [
        ("GPU-x", "GPU-x", {X}, NONE, None),
        ("GPU-x", "GPU-x", NONE, NONE, ("", "")),
        ("mine, GPU-x,GPU-y", "GPU-x,GPU-y", {Y}, NONE, ("mine,GPU-y", "GPU-y")),
        ("mine", "", NONE, NONE, None),
        ("", "GPU-x", NONE, NONE, ("", "")),
        ("", "", NONE, {X}, ("GPU-x", "GPU-x")),
        ("GPU-x", "GPU-x", NONE, {X}, None),
        ("GPU-x", "", NONE, {X}, None),
        ("mine,GPU-x", "GPU-x", NONE, {Y}, ("mine,GPU-y", "GPU-y")),
    ],
)
def test_only_what_is_ours_comes_off_and_what_is_kept_comes_on(
    nouse: str, ours: str, stay: frozenset[GpuUuid], need: frozenset[GpuUuid], after: tuple[str, str] | None
) -> None:
    assert renewed(nouse, ours, Exclusions(frozenset(stay), frozenset(need))) == after


@pytest.mark.parametrize(
    ("observed", "desired", "moving", "leaves"),
    [
        ("Shared", "Shared", False, False),
        ("Shared", "Passthrough", False, True),
        ("Passthrough", "Passthrough", True, True),
        ("Passthrough", "Passthrough", False, False),
        ("Passthrough", "Shared", True, False),
        ("", "Passthrough", False, True),
    ],
)
def test_a_gpu_leaves_from_intent_to_release(observed: str, desired: str, moving: bool, leaves: bool) -> None:
    address = "0000:00:01.0"
    transition = TransitionSpec("p", 1, desired, (address,), "Drain", "", "") if moving else None
    node = GpuNode(
        spec=WireSpec((DesiredDevice(address, desired),), transition),
        status=NodeStatus(devices=(DeviceStatus(address, uuid="GPU-x", mode=observed),)),
    )
    assert closed_to_pods(node) == (frozenset({X}) if leaves else frozenset())


def pod(name: str, **annotations: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ml", "annotations": annotations}}


def cluster_with(*pods: dict[str, Any]) -> ApiBench:
    cluster = ApiBench()
    for one in pods:
        cluster.api.put(PODS, one)
    return cluster


async def test_waiting_pods_get_back_what_returned() -> None:
    cluster = cluster_with(
        pod("waits", **{NOUSE_UUID: "mine,GPU-x", EXCLUDED_BY_US: "GPU-x"}),
        pod("plain", **{NOUSE_UUID: "mine"}),
    )
    going = Exclusions(frozenset({Y}), NONE)
    exclusions = KubernetesExclusions(cluster.client, Held(), lambda: lambda _: going)
    assert await exclusions.renew() == 1
    assert cluster.api.get("/api/v1/namespaces/ml/pods/waits")["metadata"]["annotations"] == {
        NOUSE_UUID: "mine"
    }
    assert cluster.api.get("/api/v1/namespaces/ml/pods/plain")["metadata"]["annotations"] == {
        NOUSE_UUID: "mine"
    }
    assert await exclusions.renew() == 0


async def test_a_pod_that_waited_before_a_card_was_kept_is_kept_off_it_and_its_holder_is_not() -> None:
    cluster = cluster_with(pod("stranger"), pod("holder"))
    kept = {"ml/stranger": Exclusions(NONE, frozenset({X})), "ml/holder": Exclusions(NONE, NONE)}
    assert await KubernetesExclusions(cluster.client, Held(), lambda: kept.__getitem__).renew() == 1
    annotations = cluster.api.get("/api/v1/namespaces/ml/pods/stranger")["metadata"]["annotations"]
    assert annotations == {NOUSE_UUID: "GPU-x", EXCLUDED_BY_US: "GPU-x"}


@pytest.mark.parametrize("epoch", [None, 3])
async def test_nothing_is_touched_without_the_lease_or_without_a_trusted_view(epoch: int | None) -> None:
    cluster = cluster_with(pod("waits", **{NOUSE_UUID: "GPU-x", EXCLUDED_BY_US: "GPU-x"}))
    unknown = epoch is not None
    nothing = Exclusions(NONE, NONE)
    exclusions = KubernetesExclusions(
        cluster.client, Held(epoch), lambda: None if unknown else lambda _: nothing
    )
    assert await exclusions.renew() == 0
    assert cluster.api.requests == []


@pytest.mark.parametrize("observed", ["Shared", "Passthrough", ""])
@pytest.mark.parametrize("desired", ["Shared", "Passthrough", None])
@pytest.mark.parametrize("moving", [True, False])
def test_webhook_and_manager_agree_on_what_leaves(observed: str, desired: str | None, moving: bool) -> None:
    address = "0000:00:01.0"
    spec: dict[str, Any] = {"devices": [{"pciAddress": address, "mode": desired}] if desired else []}
    if moving and desired:
        spec["transition"] = {
            "planId": "p",
            "epoch": 1,
            "toMode": desired,
            "devices": [address],
            "step": "Drain",
            "startedAt": "",
            "stepStartedAt": "",
        }
    device = {"pciAddress": address, "uuid": "GPU-x", "mode": observed}
    node = {"metadata": {"name": "n1"}, "spec": spec, "status": {"devices": [device]}}
    found = msgspec.convert(node, GpuNode)
    assert FleetReader().read([found], [], []).closed_to_pods == closed_to_pods(found)
