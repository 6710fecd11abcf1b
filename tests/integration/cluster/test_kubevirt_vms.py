"""Machines made by KubeVirt's own virt-controller, as the view sees them: waiting, served, stopped."""

import asyncio

import pytest

from e2e.controlplane.kubevirt import NODE_LABELS, NODE_RESOURCES, KubeVirt, launcher_pod, virtual_machine
from e2e.fixtures import PERMITTED_DEVICES
from poolmgr.domain.demand import DeviceClaim, Vm
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.plan import PoolPlanner
from tests.integration.cluster.real_cluster import connected_cluster, device, ensure_crds, report_gpus, seen

pytestmark = pytest.mark.integration

A10 = next(iter(PERMITTED_DEVICES.values()))
NAMESPACE, NODE = "seen-desktops", "seen-vm-1"
MACHINE = f"/apis/kubevirt.io/v1/namespaces/{NAMESPACE}/virtualmachines/jane"


def jane(snapshot: ClusterSnapshot) -> Vm | None:
    return next((vm for vm in snapshot.vms if (vm.namespace, vm.name) == (NAMESPACE, "jane")), None)


async def test_vm_is_seen_waiting_then_on_its_node_with_its_gpu_then_gone(kubevirt: KubeVirt) -> None:
    plane = kubevirt.plane
    ensure_crds(plane)
    await asyncio.to_thread(plane.ensure_namespace, NAMESPACE)
    try:
        async with connected_cluster(plane) as cluster:
            plane.apply(virtual_machine("jane", NAMESPACE, [A10]))
            snapshot = await seen(
                cluster, "jane waiting with a launcher", lambda s: (vm := jane(s)) and vm.launcher_uid
            )
            vm = jane(snapshot)
            assert vm is not None
            assert vm.waiting
            assert vm.claims == (DeviceClaim(A10, 1),)
            assert vm.waiting_since is not None
            assert vm.waiting_since >= vm.created_at > 0

            await asyncio.to_thread(
                plane.add_fake_node, NODE, labels=NODE_LABELS, resources=NODE_RESOURCES | {A10: "1"}
            )
            snapshot = await seen(cluster, "jane on the node", lambda s: (vm := jane(s)) and vm.node == NODE)
            pod = launcher_pod(plane, NAMESPACE, "jane")
            assert pod is not None
            held = device(
                mode="Passthrough", resourceName=A10, allocatedTo=pod["metadata"]["uid"], advertised=True
            )
            report_gpus(plane, NODE, [held])
            snapshot = await seen(cluster, "the device jane got", lambda s: (vm := jane(s)) and vm.devices)
            vm = jane(snapshot)
            assert vm is not None
            assert vm.devices == ((NODE, "0000:00:04.0"),)
            assert (vm.launcher_uid, vm.waiting_since) == (pod["metadata"]["uid"], None)

            plane.api.patch(MACHINE, {"spec": {"runStrategy": "Halted"}})
            await seen(cluster, "jane gone", lambda s: jane(s) is None or launcher_gone(s))
    finally:
        plane.api.delete(f"/api/v1/namespaces/{NAMESPACE}")
        plane.api.delete(f"/apis/poolmgr.io/v1alpha1/gpunodes/{NODE}")
        plane.api.delete(f"/api/v1/nodes/{NODE}")


def launcher_gone(snapshot: ClusterSnapshot) -> bool:
    """Without virt-handler the instance itself may stay; what counts is that it holds no GPU any more."""
    vm = jane(snapshot)
    return vm is not None and not vm.devices


async def test_gpus_move_where_the_real_scheduler_binds_the_machine(kubevirt: KubeVirt) -> None:
    """A machine pinned to a zone, and one whose device KubeVirt refuses: the plan moves a GPU of the zone for the first and
    nothing for the second; once the GPU is there, the scheduler binds the first to that node."""
    plane, namespace, nodes = kubevirt.plane, "pinned-desktops", {"pinned-a": "a", "pinned-b": "b"}
    ensure_crds(plane)
    await asyncio.to_thread(plane.ensure_namespace, namespace)
    plane.apply(
        {
            "apiVersion": "poolmgr.io/v1alpha1",
            "kind": "GPUPool",
            "metadata": {"name": "pinned"},
            "spec": {
                "nodeSelector": {"matchLabels": {"pinned": "true"}},
                "rebalance": {"maxInFlight": 4},
            },
        }
    )
    try:
        async with connected_cluster(plane) as cluster:
            for name, zone in nodes.items():
                labels = {**NODE_LABELS, "zone": zone, "pinned": "true"}
                await asyncio.to_thread(
                    plane.add_fake_node, name, labels=labels, resources=NODE_RESOURCES | {A10: "0"}
                )
                gpu = device(uuid=f"GPU-{name}", resourceName=A10, iommuGroup=1)
                report_gpus(plane, name, [gpu], adopted=True)
            pinned = virtual_machine("pinned", namespace, [A10])
            pinned["spec"]["template"]["spec"]["nodeSelector"] = {"zone": "b"}
            refused = virtual_machine("refused", namespace, ["nvidia.com/GH100_H100"])
            plane.apply(pinned, refused)

            def reported(snapshot: ClusterSnapshot) -> dict[str, Vm]:
                return {vm.name: vm for vm in snapshot.vms if vm.namespace == namespace}

            snapshot = await seen(
                cluster,
                "both machines, and why they wait",
                lambda s: (
                    len(vms := reported(s)) == 2
                    and A10 in vms["pinned"].scheduler_message
                    and not vms["refused"].servable
                    and sum(node.name in nodes and node.ready for node in s.nodes) == 2
                ),
            )
            plan = PoolPlanner().decide(snapshot, None).plan
            assert [str(move.node) for move in plan.moves if move.node in nodes] == ["pinned-b"]
            said = {r.subject.name: r for r in plan.refusals if r.subject.namespace == namespace}
            assert said["pinned"].reason is Reason.MOVE_UNDER_WAY
            assert said["refused"].reason is Reason.CANNOT_START
            assert "not permitted in permittedHostDevices" in said["refused"].message

            amounts = {"capacity": {A10: "1"}, "allocatable": {A10: "1"}}
            plane.api.patch("/api/v1/nodes/pinned-b/status", {"status": amounts})
            await seen(cluster, "pinned on its node", lambda s: reported(s)["pinned"].node == "pinned-b")
    finally:
        plane.api.delete(f"/api/v1/namespaces/{namespace}")
        plane.api.delete("/apis/poolmgr.io/v1alpha1/gpupools/pinned")
        for name in nodes:
            plane.api.delete(f"/apis/poolmgr.io/v1alpha1/gpunodes/{name}")
            plane.api.delete(f"/api/v1/nodes/{name}")
