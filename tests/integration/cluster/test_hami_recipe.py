"""HAMi's levers against its own scheduler, in both releases that are supported.

The node is KWOK's; HAMi's DaemonSet is the chart's own, its pods are made and removed by the real DaemonSet
controller. What kubelet and device plugin would write (slices, registration) the test writes.
"""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from e2e.controlplane.hami import NAMESPACE, REGISTER_ANNOTATION, Hami, registered, settle_allocation
from poolmgr.cluster.connect import KubernetesCluster
from poolmgr.controller.executor.conditions import TICK_SECONDS
from poolmgr.domain.errors import Stale
from poolmgr.domain.identifiers import GpuUuid, NodeName, PlanId
from poolmgr.domain.reasons import Reason
from poolmgr.domain.sharing import SharingState
from tests.integration.cluster.real_cluster import (
    connected_cluster,
    device,
    ensure_crds,
    eventually,
    node_of,
    report_gpus,
    seen,
    sharing_of,
)

pytestmark = pytest.mark.integration

log = structlog.get_logger()

ONE, TWO = GpuUuid("GPU-one"), GpuUuid("GPU-two")


class Node:
    """A fake node with two GPUs under HAMi, and pods that want one of them."""

    def __init__(self, hami: Hami, name: str) -> None:
        self.hami, self.plane, self.name = hami, hami.plane, NodeName(name)
        self.path = f"/api/v1/nodes/{name}"
        self.namespace = f"on-{name}"

    def start(self) -> "Node":
        plane = self.plane
        ensure_crds(plane)
        plane.ensure_namespace(self.namespace)
        plane.apply(self.hami.objects["DaemonSet", "hami-device-plugin"])
        plane.add_fake_node(
            self.name,
            labels={"gpu": "on", "poolmgr-test": self.name},
            annotations={REGISTER_ANNOTATION: self.registration(ONE, TWO)},
            resources={"nvidia.com/gpu": "20"},
        )
        report_gpus(plane, self.name, [device(), device("0000:00:05.0", uuid=TWO)])
        self.hami.wait_until_known(ONE, TWO)
        return self

    def stop(self) -> None:
        self.plane.api.delete(f"/api/v1/namespaces/{self.namespace}")
        self.plane.api.delete(f"/apis/poolmgr.io/v1alpha1/gpunodes/{self.name}")
        self.plane.api.delete(f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/hami-device-plugin")
        self.plane.api.delete(self.path)

    @staticmethod
    def registration(*uuids: str) -> str:
        return json.dumps([registered(uuid, index=i) for i, uuid in enumerate(uuids)])

    def show(self, *uuids: str) -> None:
        """What plugin and kubelet show once they have (re)started with these GPUs."""
        if uuids:
            self.annotate({REGISTER_ANNOTATION: self.registration(*uuids)})
        amounts = {"nvidia.com/gpu": str(10 * len(uuids))}
        self.plane.api.patch(f"{self.path}/status", {"status": {"capacity": amounts, "allocatable": amounts}})

    def annotate(self, annotations: dict[str, str | None]) -> None:
        self.plane.api.patch(self.path, {"metadata": {"annotations": annotations}})

    def found(self) -> dict[str, Any]:
        found: dict[str, Any] = self.plane.api.get(self.path)
        return found

    def ask(self, pod: str, *, gpus: bool = True, **annotations: str) -> None:
        limits = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "1000"} if gpus else {}
        spec = {
            "nodeSelector": {"poolmgr-test": self.name},
            "containers": [{"name": "main", "image": "none", "resources": {"limits": limits}}],
        }
        meta = {"name": pod, "namespace": self.namespace, "annotations": annotations}
        self.plane.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})

    def open(self) -> bool:
        return not self.found()["spec"].get("unschedulable", False)

    def bound(self, pod: str) -> bool:
        found = self.plane.api.get(f"/api/v1/namespaces/{self.namespace}/pods/{pod}")
        return bool(found["spec"].get("nodeName"))

    def gpu_of(self, pod: str) -> str:
        """UUID the pod was bound with; empty while it waits."""
        found = self.plane.api.get(f"/api/v1/namespaces/{self.namespace}/pods/{pod}")
        if not found["spec"].get("nodeName"):
            return ""
        allocated: str = found["metadata"]["annotations"]["hami.io/vgpu-devices-allocated"]
        return allocated.split(",", 1)[0]

    def refusals(self, pod: str) -> list[str]:
        items = self.plane.api.get(f"/api/v1/namespaces/{self.namespace}/events")["items"]
        return [i["message"] for i in items if i["involvedObject"]["name"] == pod and "Fail" in i["reason"]]

    def place(self, pod: str, **annotations: str) -> str:
        self.ask(pod, **annotations)
        uuid: str = self.plane.wait_for(f"{pod} to be bound", lambda: self.gpu_of(pod))
        settle_allocation(self.plane, self.namespace, pod)
        return uuid


def sharing_in(node: Node, snapshot: Any) -> SharingState:
    found = node_of(snapshot, node.name)
    assert found is not None
    assert found.sharing is not None
    return found.sharing


async def shown(
    cluster: KubernetesCluster, node: Node, what: str, check: Callable[[SharingState], object]
) -> SharingState:
    """Wait until the node's SharingState is as `check` wants it. Until HAMi's Deployment is read, its release is not
    known."""

    def holds(snapshot: Any) -> object:
        found = node_of(snapshot, node.name)
        return snapshot.synced and found is not None and found.sharing is not None and check(found.sharing)

    return sharing_in(node, await seen(cluster, what, holds))


async def check_both_ways(node: Node, version: tuple[int, int], tell: Callable[[str], None]) -> None:
    """The recipe of docs/explanation/taking-a-gpu-from-hami.md for GPU one, there and back."""
    hami = node.hami
    async with connected_cluster(node.plane) as cluster:
        lever = sharing_of(cluster, 3)
        state = await shown(cluster, node, "HAMi's plugin on the node", lambda s: s.plugin_ready)
        assert state.version == version
        assert (state.plugin_wanted, state.plugin_pods, state.allocatable) == (True, 1, 20)
        assert {gpu.uuid for gpu in state.registered} == {ONE, TWO}

        begun = time.monotonic()
        if version >= (2, 10):
            await lever.ensure_gpus_fenced(node.name, frozenset({ONE, TWO}))
            await shown(cluster, node, "HAMi to read that both are closed", lambda s: s.fenced == {ONE, TWO})
        else:
            await lever.ensure_cordoned(node.name, True)
            await lever.ensure_cordoned(node.name, True)
            assert node.found()["metadata"]["annotations"]["poolmgr.io/cordoned"] == "plan-1"
        tell(f"closed after {time.monotonic() - begun:.0f} s")
        await asyncio.to_thread(node.ask, "held-back")
        await asyncio.to_thread(node.ask, "without-a-gpu", gpus=False)
        await lever.ensure_plugin(node.name, False)
        state = await shown(cluster, node, "the plugin's pod to go", lambda s: s.plugin_pods == 0)
        tell(f"plugin gone after {time.monotonic() - begun:.0f} s")
        assert not state.plugin_wanted
        labels = node.found()["metadata"]["labels"]
        assert "gpu" not in labels
        await asyncio.to_thread(node.show)
        await shown(cluster, node, "no slices", lambda s: s.allocatable == 0)
        if version < (2, 10):
            # Removing the registration before the scheduler's clean-up would leave its cache for ever.
            await shown(cluster, node, "HAMi's clean-up", lambda s: s.handshake.startswith("Deleted"))
        await lever.ensure_unregistered(node.name)
        assert REGISTER_ANNOTATION not in node.found()["metadata"]["annotations"]
        await eventually(
            "HAMi's scheduler to forget both GPUs",
            lambda: ONE not in (text := hami.metrics()) and TWO not in text,
        )
        tell(f"HAMi has forgotten the node after {time.monotonic() - begun:.0f} s")
        assert node.gpu_of("held-back") == ""
        if version < (2, 10):
            assert not node.open() and not node.bound("without-a-gpu")
            await lever.ensure_cordoned(node.name, False)
        assert node.open()
        await eventually("a pod without a GPU", lambda: node.bound("without-a-gpu"))
        await asyncio.to_thread(node.ask, "meanwhile")
        await eventually("HAMi's refusal", lambda: node.refusals("meanwhile"))

        # The GPU is with a VM now; the plugin comes back and finds only the other one.
        await lever.ensure_plugin(node.name, True)
        assert node.found()["metadata"]["labels"]["gpu"] == "on"
        assert "poolmgr.io/plugin-labels" not in node.found()["metadata"]["annotations"]
        await asyncio.to_thread(node.show, TWO)
        await shown(cluster, node, "the plugin back", lambda s: s.plugin_ready and s.allocatable == 10)
        await lever.ensure_gpus_fenced(node.name, frozenset())
        await lever.ensure_scheduler_asked(node.name, PlanId("plan-1"), time.time())
        if version < (2, 10):
            await asyncio.sleep(TICK_SECONDS)
        else:
            await shown(cluster, node, "the look", lambda s: s.asked_for == "plan-1" and s.handshake)
        assert TWO in hami.metrics()
        await lever.ensure_cordoned(node.name, False)
        assert node.found()["metadata"]["labels"]["poolmgr.io/opened"]
        opened = time.monotonic()
        waiting = {"held-back", "meanwhile"}
        while (
            waiting
        ):  # in the scheduler's order: HAMi locks the node until the kubelet has answered for the first
            pod = await eventually("a pod that waited", lambda: next(filter(node.gpu_of, waiting), ""))
            assert node.gpu_of(pod) == TWO
            await asyncio.to_thread(settle_allocation, node.plane, node.namespace, pod)
            waiting.remove(pod)
        tell(f"they have it {time.monotonic() - opened:.0f} s after the node was opened")
        assert ONE not in hami.metrics()
        tell(f"other GPU back in use after {time.monotonic() - begun:.0f} s")


async def test_2_10_fence_closes_one_gpu_and_unfence_opens_it(hami: Hami, record_property: Any) -> None:
    node = await asyncio.to_thread(Node(hami, "recipe-fence").start)
    try:
        async with connected_cluster(node.plane) as cluster:
            lever = sharing_of(cluster, 3)
            state = await shown(cluster, node, "HAMi 2.10", lambda s: s.registered)
            assert state.version == (2, 10)
            begun = time.monotonic()
            await lever.ensure_gpus_fenced(node.name, frozenset({ONE}))
            await shown(cluster, node, "the fence to be live", lambda s: s.fenced == {ONE})
            record_property("fence_live_seconds", round(time.monotonic() - begun, 1))

            await asyncio.to_thread(node.ask, "wants-one", **{"nvidia.com/use-gpuuuid": ONE})
            for name in ("free-1", "free-2", "free-3"):
                assert await asyncio.to_thread(node.place, name) == TWO
            refusals = await eventually("HAMi's refusal", lambda: node.refusals("wants-one"))
            assert any("CardCordoned" in text or "cordon" in text.lower() for text in refusals), refusals
            assert node.gpu_of("wants-one") == ""

            await lever.ensure_gpus_fenced(node.name, frozenset())
            await shown(cluster, node, "the scheduler's new stamp", lambda s: s.handshake and not s.fenced)
            assert "hami.io/device-cordon" not in node.found()["metadata"]["annotations"]
            assert await eventually("GPU one to be given", lambda: node.gpu_of("wants-one")) == ONE
    finally:
        await asyncio.to_thread(node.stop)


async def test_2_10_annotation_alone_is_not_live_which_is_why_the_handshake_goes_too(hami: Hami) -> None:
    node = await asyncio.to_thread(Node(hami, "recipe-plain").start)
    try:
        await asyncio.to_thread(node.annotate, {"hami.io/device-cordon": ONE})
        await asyncio.sleep(20)
        placed = await asyncio.to_thread(node.place, "slips-in", **{"nvidia.com/use-gpuuuid": ONE})
        assert placed == ONE
        async with connected_cluster(node.plane) as cluster:
            state = await shown(cluster, node, "the node", lambda s: s.registered)
            assert state.fenced == frozenset()
    finally:
        await asyncio.to_thread(node.stop)


async def test_2_10_takes_a_gpu_and_gives_the_other_back(hami: Hami) -> None:
    node = await asyncio.to_thread(Node(hami, "recipe-take").start)
    try:
        await check_both_ways(node, (2, 10), lambda line: log.info("recipe", hami="2.10", seen=line))
    finally:
        await asyncio.to_thread(node.stop)


async def test_2_8_takes_a_gpu_and_gives_the_other_back(hami_2_8: Hami) -> None:
    node = await asyncio.to_thread(Node(hami_2_8, "recipe-take").start)
    try:
        await check_both_ways(node, (2, 8), lambda line: log.info("recipe", hami="2.8", seen=line))
        async with connected_cluster(node.plane) as cluster:
            await shown(cluster, node, "the node", lambda s: s.registered)
            await sharing_of(cluster, 4).ensure_gpus_fenced(node.name, frozenset({TWO}))
            assert "hami.io/device-cordon" not in node.found()["metadata"]["annotations"]
    finally:
        await asyncio.to_thread(node.stop)


async def test_foreign_cordon_and_later_leader_are_respected(hami: Hami) -> None:
    node = await asyncio.to_thread(Node(hami, "recipe-foreign").start)
    try:
        async with connected_cluster(node.plane) as cluster:
            await shown(cluster, node, "the node", lambda s: s.registered)
            node.plane.kubectl("cordon", node.name)
            await sharing_of(cluster, 3).ensure_cordoned(node.name, True)
            await sharing_of(cluster, 3).ensure_cordoned(node.name, False)
            assert node.found()["spec"]["unschedulable"] is True
            node.annotate({"poolmgr.io/epoch": "9"})
            with pytest.raises(Stale) as refused:
                await sharing_of(cluster, 8).ensure_unregistered(node.name)
            assert refused.value.reason is Reason.STALE_EPOCH
            assert REGISTER_ANNOTATION in node.found()["metadata"]["annotations"]
    finally:
        await asyncio.to_thread(node.stop)
