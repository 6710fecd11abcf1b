"""Names of things, as distinct types so that a node name is never passed where a GPU is meant."""

from typing import NewType

NodeName = NewType("NodeName", str)
"""`metadata.name` of a Kubernetes Node."""

PoolName = NewType("PoolName", str)
"""`metadata.name` of a GPUPool."""

PciAddress = NewType("PciAddress", str)
"""A PCI function in sysfs form, lower case with domain: `0000:3b:00.0`."""

GpuUuid = NewType("GpuUuid", str)
"""The driver's name of a GPU (`GPU-…`); empty while no driver has ever told it."""

PlanId = NewType("PlanId", str)
"""Names one plan; equal for equal decisions on equal snapshots."""

WorkloadUid = NewType("WorkloadUid", str)
"""`metadata.uid` of a Pod or a VirtualMachineInstance."""

Generation = NewType("Generation", int)
"""Counts changes of a snapshot or object; a later one has seen all an earlier one had."""

LeaseEpoch = NewType("LeaseEpoch", int)
"""Counts leaders. A write that carries a lower epoch than one already seen is a write of the past."""
