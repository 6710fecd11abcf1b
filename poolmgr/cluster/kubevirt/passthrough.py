"""What the fleet's GPUNodes tell about devices for VMs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from poolmgr.domain.identifiers import NodeName
from poolmgr.wire import GpuNode

Devices = tuple[tuple[NodeName, str], ...]
"""(node, PCI address) of each."""


class NodeDevices(NamedTuple):
    """What one node adds: of its many changes few alter it."""

    resource_names: frozenset[str]
    allocated: tuple[tuple[str, str], ...]
    """(UID of a launcher pod, PCI address)."""


def node_devices(node: GpuNode) -> NodeDevices:
    devices = node.status.devices
    return NodeDevices(
        frozenset(device.resource_name for device in devices if device.resource_name),
        tuple((device.allocated_to, device.pci_address) for device in devices if device.allocated_to),
    )


@dataclass(frozen=True, slots=True)
class Passthrough:
    """The whole fleet's."""

    resource_names: frozenset[str]
    """Every `resourceName` that some GPUNode reports."""
    allocations: Mapping[str, Devices]
    """By UID of the launcher pod that the kubelet gave them to."""
    marked: bool = False
    """Some node carries KubeVirt's mark of nodes that take machines."""


def passthrough_of(found: Mapping[str, NodeDevices], marked: bool) -> Passthrough:
    """`found` by name of the node."""
    allocations: dict[str, Devices] = {}
    for name in sorted(found):
        for launcher, address in found[name].allocated:
            allocations[launcher] = (*allocations.get(launcher, ()), (NodeName(name), address))
    names = frozenset[str]().union(*(devices.resource_names for devices in found.values()))
    return Passthrough(names, allocations, marked)
