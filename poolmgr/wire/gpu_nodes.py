"""poolmgr.io/v1alpha1 GPUNode, and its status both ways: written by the agent, read by manager and webhook.

The chart's CRD describes every field. See `node_specs` for the spec.
"""

from dataclasses import replace
from typing import Any

import msgspec

from poolmgr.domain.directives import NO_DIRECTIVES, Directives, closes, keeps
from poolmgr.domain.fleet import REBINDABLE, Gpu, Holder
from poolmgr.domain.identifiers import GpuUuid, NodeName, PciAddress, PlanId, PoolName
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.neighbours import NOBODY, Neighbours
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.wire.directives import directives_of
from poolmgr.wire.instants import unix_or_zero
from poolmgr.wire.meta import Condition, ObjectMeta, Wire


class DesiredDevice(Wire, frozen=True):
    pci_address: str
    mode: str
    plan_id: str = ""


class TransitionSpec(Wire, frozen=True):
    plan_id: str
    epoch: int
    to_mode: str
    devices: tuple[str, ...]
    step: str
    started_at: str = ""
    step_started_at: str = ""
    reason: str = ""
    message: str = ""
    rollback: bool = False


class BackoffSpec(Wire, frozen=True, omit_defaults=False):
    pci_address: str = ""
    reason: str = ""
    message: str = ""
    failures: int = 1
    failed_at: str = ""
    until: str = ""


class DisturbanceSpec(Wire, frozen=True, omit_defaults=False):
    started_at: str = ""
    plugin_stops: int = 1
    closed_seconds: int = 0


class WireSpec(Wire, frozen=True):
    devices: tuple[DesiredDevice, ...] = ()
    transition: TransitionSpec | None = None
    backoffs: tuple[BackoffSpec, ...] = ()
    disturbances: tuple[DisturbanceSpec, ...] = ()


class HolderStatus(Wire, frozen=True, omit_defaults=False):
    pid: int = 0
    command: str = ""
    pod_uid: str = ""
    path: str = ""


class RebindStatus(Wire, frozen=True, omit_defaults=False):
    """Whether the agent would move the GPU to its other mode, its users apart."""

    possible: bool = False
    reason: str = ""
    message: str = ""


class DeviceStatus(Wire, frozen=True, omit_defaults=False):
    pci_address: str
    uuid: str = ""
    model: str = ""
    memory_mib: int = msgspec.field(name="memoryMiB", default=0)
    vendor_id: str = ""
    device_id: str = ""
    class_id: str = ""
    driver: str = ""
    mode: str = ""
    phase: str = "Ready"
    plan_id: str = ""
    iommu_group: int | None = None
    numa_node: int | None = None
    nvswitch_domain: str = ""
    group_devices: tuple[str, ...] | None = None
    resource_name: str = ""
    holders: tuple[HolderStatus, ...] = ()
    allocated_to: str = ""
    advertised: bool = False
    reason: str = ""
    message: str = ""
    mode_since: str | None = None
    rebind: RebindStatus | None = None
    """None: the agent is of a release that does not say."""


class NodeSummary(Wire, frozen=True, omit_defaults=False):
    gpus: int = 0
    passthrough: int = 0
    shared: int = 0
    moving: int = 0
    trouble: int = 0


class NodeStatus(Wire, frozen=True, omit_defaults=False):
    observed_generation: int = 0
    boot_id: str = ""
    agent_version: str = ""
    kernel: str = ""
    devices: tuple[DeviceStatus, ...] = ()
    summary: NodeSummary = NodeSummary()
    conditions: tuple[Condition, ...] = ()


class GpuNode(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: WireSpec = WireSpec()
    status: NodeStatus = NodeStatus()


NO_NUMA = -1
"""What sysfs says where the platform tells no NUMA node."""

_AGENT_IS_SILENT = Verdict(
    False,
    Reason.CANNOT_TELL,
    "its agent is of a release that does not say whether the GPU could be rebound: update the agent",
)
_MODES = {mode.value: mode for mode in Mode}
_PHASES = {phase.value: phase for phase in DevicePhase}


def gpus_of(
    node: GpuNode, pools: dict[str, PoolName | None], neighbours: Neighbours = NOBODY
) -> tuple[Gpu, ...]:
    """Every device that the agent reports, in its order. `pools` maps model to pool on this node."""
    desired = {device.pci_address: device for device in node.spec.devices}
    name, directives = NodeName(node.metadata.name), directives_of(node.metadata.annotations)
    gpus = tuple(
        _gpu(
            name,
            device,
            desired.get(device.pci_address),
            pools.get(device.model),
            _rebind(device),
            neighbours,
        )
        for device in node.status.devices
    )
    return gpus if directives is NO_DIRECTIVES else tuple(with_directives(gpu, directives) for gpu in gpus)


def with_directives(gpu: Gpu, directives: Directives) -> Gpu:
    """The GPU with what an operator wants of it. That its agent would not move it, or cannot tell, is said first."""
    verdict = keeps(directives, gpu.node, gpu.pci_address, gpu.observed_mode) if gpu.rebind else None
    closed = closes(directives, gpu.node, gpu.pci_address, gpu.observed_mode)
    return replace(gpu, rebind=gpu.rebind if verdict is None else verdict, closed=closed)


def read_status(body: object) -> NodeStatus:
    """The status in a GPUNode as decoded JSON; an empty one where there is none, or none of this form."""
    try:
        return msgspec.convert(body, _StatusOnly).status
    except msgspec.ValidationError:
        return NodeStatus()


class _StatusOnly(Wire, frozen=True):
    status: NodeStatus = NodeStatus()


def status_body(status: NodeStatus) -> dict[str, Any]:
    """JSON values of a status that replaces the one before: every field is named, but those of devices that a
    platform does not tell (an IOMMU group, a NUMA node)."""
    # By way of JSON, so that it equals what a server stored of it: `to_builtins` leaves tuples as they are.
    body: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(status))
    body["devices"] = [
        {name: value for name, value in device.items() if value is not None} for device in body["devices"]
    ]
    return body


def reported(node: GpuNode) -> bool:
    """True when the agent has read and acted on the current spec."""
    return 0 < node.metadata.generation <= node.status.observed_generation


def _gpu(
    node: NodeName,
    device: DeviceStatus,
    desired: DesiredDevice | None,
    pool: PoolName | None,
    rebind: Verdict,
    neighbours: Neighbours,
) -> Gpu:
    phase = _PHASES.get(device.phase)
    reason, message = device.reason, device.message
    if phase is None:
        phase = DevicePhase.QUARANTINED
        reason = Reason.GPU_UNHEALTHY.value
        message = f"The agent reports phase {device.phase!r}, which this manager does not know; update it."
    return Gpu(
        node=node,
        pci_address=PciAddress(device.pci_address),
        model=device.model,
        memory_mib=device.memory_mib,
        observed_mode=_MODES.get(device.mode),
        phase=phase,
        uuid=GpuUuid(device.uuid),
        resource_name=device.resource_name,
        desired_mode=_MODES.get(desired.mode) if desired else None,
        desired_plan_id=PlanId(desired.plan_id) if desired else PlanId(""),
        pool=pool,
        iommu_group=device.iommu_group,
        numa_node=device.numa_node if device.numa_node != NO_NUMA else None,
        nvswitch_domain=device.nvswitch_domain,
        holders=tuple(
            Holder(h.pid, h.command, h.pod_uid, h.path, neighbours.service_of(h.pod_uid))
            for h in device.holders
        ),
        allocated_to=device.allocated_to,
        advertised=device.advertised,
        plan_id=PlanId(device.plan_id),
        reason=reason,
        message=message,
        mode_since=unix_or_zero(device.mode_since),
        rebind=rebind,
    )


def _rebind(device: DeviceStatus) -> Verdict:
    said = device.rebind
    if said is None:
        return _AGENT_IS_SILENT
    if said.possible:
        return REBINDABLE
    try:
        reason = Reason(said.reason)
    except ValueError:  # of a newer agent: its sentence says it
        reason = Reason.CANNOT_TELL
    return Verdict(False, reason, said.message or f"its agent says {said.reason or 'no'}")
