"""Machines made by KubeVirt's own virt-controller, as the view sees them: waiting, served, stopped."""

import asyncio

import pytest

from e2e.controlplane.kubevirt import NODE_LABELS, NODE_RESOURCES, KubeVirt, launcher_pod, virtual_machine
from e2e.fixtures import PERMITTED_DEVICES
from poolmgr.domain.demand import DeviceClaim, Vm
from poolmgr.domain.snapshot import ClusterSnapshot
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
