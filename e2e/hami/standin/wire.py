"""The kubelet's device-plugin API, v1beta1, as messages: written from its published field numbers.

The messages live in a pool of their own, so that a process may hold somebody else's `v1beta1` too.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

REGISTER = "/v1beta1.Registration/Register"
SERVICE = "v1beta1.DevicePlugin"
VERSION = "v1beta1"
HEALTHY, UNHEALTHY = "Healthy", "Unhealthy"

_PACKAGE = "v1beta1"
_SCALARS = {
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
}
_MESSAGES: dict[str, str] = {
    "Empty": "",
    "DevicePluginOptions": "pre_start_required:bool get_preferred_allocation_available:bool",
    "RegisterRequest": "version:string endpoint:string resource_name:string options:DevicePluginOptions",
    "NUMANode": "ID:int64",
    "TopologyInfo": "nodes:NUMANode*",
    "Device": "ID:string health:string topology:TopologyInfo",
    "ListAndWatchResponse": "devices:Device*",
    "ContainerPreferredAllocationRequest": (
        "available_deviceIDs:string* must_include_deviceIDs:string* allocation_size:int32"
    ),
    "PreferredAllocationRequest": "container_requests:ContainerPreferredAllocationRequest*",
    "ContainerPreferredAllocationResponse": "deviceIDs:string*",
    "PreferredAllocationResponse": "container_responses:ContainerPreferredAllocationResponse*",
    "ContainerAllocateRequest": "devices_ids:string*",
    "AllocateRequest": "container_requests:ContainerAllocateRequest*",
    "Pair": "key:string value:string",
    "Mount": "container_path:string host_path:string read_only:bool",
    "DeviceSpec": "container_path:string host_path:string permissions:string",
    "ContainerAllocateResponse": "envs:Pair* mounts:Mount* devices:DeviceSpec* annotations:Pair*",
    "AllocateResponse": "container_responses:ContainerAllocateResponse*",
    "PreStartContainerRequest": "devices_ids:string*",
    "PreStartContainerResponse": "",
}
"""Name → fields in the order of their numbers, `*` for repeated. A map is on the wire a repeated key and value."""


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="standin.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field in enumerate(fields.split(), start=1):
            label, _, kind = field.partition(":")
            added = message.field.add(name=label, number=number)
            added.label = added.LABEL_REPEATED if kind.endswith("*") else added.LABEL_OPTIONAL
            kind = kind.rstrip("*")
            if kind in _SCALARS:
                added.type = _SCALARS[kind]
            else:
                added.type, added.type_name = added.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file())


def message(name: str) -> Any:
    """The class of a message."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def pairs(values: dict[str, str]) -> list[Any]:
    """A map's entries."""
    pair = message("Pair")
    return [pair(key=key, value=value) for key, value in values.items()]
