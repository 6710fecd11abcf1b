"""Message and field numbers of the kubelet's APIs, as k8s.io/kubelet v0.36 has them. A wrong number would
decode without an error and mean something else."""

import pytest

from poolmgr.agent.wire import deviceplugin_pb2, podresources_pb2

DEVICE_PLUGIN = {
    "DevicePluginOptions": {"pre_start_required": 1, "get_preferred_allocation_available": 2},
    "RegisterRequest": {"version": 1, "endpoint": 2, "resource_name": 3, "options": 4},
    "ListAndWatchResponse": {"devices": 1},
    "TopologyInfo": {"nodes": 1},
    "NUMANode": {"ID": 1},
    "Device": {"ID": 1, "health": 2, "topology": 3},
    "PreStartContainerRequest": {"devices_ids": 1},
    "PreferredAllocationRequest": {"container_requests": 1},
    "ContainerPreferredAllocationRequest": {
        "available_deviceIDs": 1,
        "must_include_deviceIDs": 2,
        "allocation_size": 3,
    },
    "PreferredAllocationResponse": {"container_responses": 1},
    "ContainerPreferredAllocationResponse": {"deviceIDs": 1},
    "AllocateRequest": {"container_requests": 1},
    "ContainerAllocateRequest": {"devices_ids": 1},
    "AllocateResponse": {"container_responses": 1},
    "ContainerAllocateResponse": {"envs": 1, "mounts": 2, "devices": 3, "annotations": 4, "cdi_devices": 5},
    "Mount": {"container_path": 1, "host_path": 2, "read_only": 3},
    "DeviceSpec": {"container_path": 1, "host_path": 2, "permissions": 3},
    "CDIDevice": {"name": 1},
}
POD_RESOURCES = {
    "AllocatableResourcesResponse": {"devices": 1},
    "ListPodResourcesResponse": {"pod_resources": 1},
    "PodResources": {"name": 1, "namespace": 2, "containers": 3},
    "ContainerResources": {"name": 1, "devices": 2, "dynamic_resources": 5},
    "DynamicResource": {"claim_resources": 4},
    "ClaimResource": {"cdi_devices": 1, "driver_name": 2},
    "CDIDevice": {"name": 1},
    "ContainerDevices": {"resource_name": 1, "device_ids": 2},
}


@pytest.mark.parametrize(
    ("module", "messages"), [(deviceplugin_pb2, DEVICE_PLUGIN), (podresources_pb2, POD_RESOURCES)]
)
def test_field_numbers(module: object, messages: dict[str, dict[str, int]]) -> None:
    for name, fields in messages.items():
        descriptor = getattr(module, name).DESCRIPTOR
        assert {field.name: field.number for field in descriptor.fields} == fields, name
