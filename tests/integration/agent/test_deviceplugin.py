"""The device plugin against a kubelet's sockets."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from poolmgr.agent.accelerators import load_catalogue
from poolmgr.agent.deviceplugin.allocation import Offer
from poolmgr.agent.deviceplugin.registry import PluginRegistry, socket_name
from poolmgr.agent.podresources import PodName, PodResources
from poolmgr.agent.wire import deviceplugin_pb2 as plugin
from poolmgr.domain.identifiers import PciAddress
from poolmgr.kit.clock import SystemClock
from tests.integration.agent.kubelet_stub import KubeletStub

RESOURCE = "nvidia.com/GA102GL_A10"
A = Offer(PciAddress("0000:3b:00.0"), RESOURCE, 12, 0)
B = Offer(PciAddress("0000:3c:00.0"), RESOURCE, 13, 1)


@pytest.fixture
async def kubelet() -> AsyncIterator[KubeletStub]:
    # Not tmp_path: with a test's name in it the path is too long for a unix socket.
    with tempfile.TemporaryDirectory() as folder:
        stub = KubeletStub(Path(folder))
        await stub.start()
        yield stub
        await stub.stop()


@pytest.fixture
async def registry(kubelet: KubeletStub) -> AsyncIterator[PluginRegistry]:
    made = PluginRegistry(kubelet.plugins, SystemClock())
    yield made
    await made.stop()


def ask(*addresses: str) -> object:
    return plugin.AllocateRequest(container_requests=[plugin.ContainerAllocateRequest(devices_ids=addresses)])


def test_every_products_socket_fits_below_the_kubelets_folder() -> None:
    vendor = load_catalogue(["nvidia"]).vendors[0]
    names = {socket_name(vendor.resource_name(device_id)) for device_id in vendor.devices}
    assert len(names) == len({vendor.resource_name(device_id) for device_id in vendor.devices})
    assert all(len(f"/var/lib/kubelet/device-plugins/{name}") <= 107 for name in names)


async def test_offered_gpus_reach_the_kubelet_with_their_numa_node(
    kubelet: KubeletStub, registry: PluginRegistry
) -> None:
    await registry.set_offers([A, B])
    await kubelet.until_devices(RESOURCE, {A.address, B.address})
    assert kubelet.devices[RESOURCE][B.address].topology.nodes[0].ID == 1
    assert registry.error == ""


async def test_a_withdrawn_gpu_leaves_the_list_at_once_and_is_not_allocated_any_more(
    kubelet: KubeletStub, registry: PluginRegistry
) -> None:
    await registry.set_offers([A, B])
    await kubelet.until_devices(RESOURCE, {A.address, B.address})
    await registry.set_offers([B])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await kubelet.call(RESOURCE, "Allocate", ask(A.address), plugin.AllocateResponse)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "0000:3b:00.0 is no longer offered" in (refused.value.details() or "")
    assert not registry.recently_granted(A.address)
    await kubelet.until_devices(RESOURCE, {B.address})


async def test_the_last_gpu_leaving_keeps_the_resource_at_zero(
    kubelet: KubeletStub, registry: PluginRegistry
) -> None:
    await registry.set_offers([A])
    await kubelet.until_devices(RESOURCE, {A.address})
    await registry.set_offers([])
    await kubelet.until_devices(RESOURCE, set())
    assert RESOURCE in kubelet.devices
    await registry.set_offers([A])
    await kubelet.until_devices(RESOURCE, {A.address})
    assert kubelet.registrations == [RESOURCE]


async def test_a_container_gets_kubevirts_environment_and_device_files(
    kubelet: KubeletStub, registry: PluginRegistry
) -> None:
    await registry.set_offers([A, B])
    await kubelet.until_devices(RESOURCE, {A.address, B.address})
    answer = await kubelet.call(RESOURCE, "Allocate", ask(B.address, A.address), plugin.AllocateResponse)
    (container,) = answer.container_responses
    assert dict(container.envs) == {"PCI_RESOURCE_NVIDIA_COM_GA102GL_A10": "0000:3c:00.0,0000:3b:00.0"}
    assert [(d.host_path, d.container_path, d.permissions) for d in container.devices] == [
        (path, path, "mrw") for path in ("/dev/vfio/vfio", "/dev/vfio/12", "/dev/vfio/13")
    ]
    assert registry.recently_granted(A.address)


async def test_one_missing_gpu_refuses_the_whole_request(
    kubelet: KubeletStub, registry: PluginRegistry
) -> None:
    await registry.set_offers([A])
    await kubelet.until_devices(RESOURCE, {A.address})
    with pytest.raises(grpc.aio.AioRpcError):
        await kubelet.call(RESOURCE, "Allocate", ask(A.address, B.address), plugin.AllocateResponse)
    assert not registry.recently_granted(A.address)


async def test_preferred_allocation_stays_on_one_numa_node(
    kubelet: KubeletStub, registry: PluginRegistry
) -> None:
    c = Offer(PciAddress("0000:3d:00.0"), RESOURCE, 14, 1)
    await registry.set_offers([A, B, c])
    await kubelet.until_devices(RESOURCE, {A.address, B.address, c.address})
    request = plugin.PreferredAllocationRequest()
    request.container_requests.add(available_deviceIDs=[A.address, B.address, c.address], allocation_size=2)
    answer = await kubelet.call(
        RESOURCE, "GetPreferredAllocation", request, plugin.PreferredAllocationResponse
    )
    assert list(answer.container_responses[0].deviceIDs) == [B.address, c.address]


async def test_after_a_restart_of_the_kubelet_everything_is_registered_again(
    kubelet: KubeletStub, registry: PluginRegistry
) -> None:
    await registry.set_offers([A])
    await kubelet.until_devices(RESOURCE, {A.address})
    await kubelet.stop()
    await registry.ensure_registered()
    await kubelet.start()
    await registry.ensure_registered()
    await kubelet.until_devices(RESOURCE, {A.address})
    assert kubelet.registrations == [RESOURCE, RESOURCE]


async def test_without_a_kubelet_nothing_fails_and_the_reason_is_told(tmp_path: Path) -> None:
    registry = PluginRegistry(tmp_path, SystemClock())
    await registry.set_offers([A])
    assert "there is no kubelet" in registry.error
    await registry.stop()


async def test_the_kubelets_word_on_what_it_lists_and_gave_away(
    kubelet: KubeletStub, registry: PluginRegistry
) -> None:
    await registry.set_offers([A, B])
    await kubelet.until_devices(RESOURCE, {A.address, B.address})
    kubelet.given[(RESOURCE, A.address)] = ("vms", "virt-launcher-1")
    kubelet.given[("nvidia.com/gpu", "GPU-x-3")] = ("ml", "train")
    view = await PodResources(kubelet.pods / "kubelet.sock").read([RESOURCE])
    assert view.known
    assert view.listed == {(RESOURCE, A.address), (RESOURCE, B.address)}
    assert view.given == {(RESOURCE, A.address): PodName("vms", "virt-launcher-1")}


async def test_a_silent_kubelet_is_unknown_not_empty(tmp_path: Path) -> None:
    view = await PodResources(tmp_path / "kubelet.sock").read([RESOURCE])
    assert not view.known
    assert "there is no kubelet" in view.error
