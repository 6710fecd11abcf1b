"""`GPUNode.status` as the agent writes it. Pure: from values to the wire type."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from poolmgr import wire
from poolmgr.agent.decisions import DeviceAction, GpuDecision, could_move
from poolmgr.agent.journal import DeviceRecord
from poolmgr.agent.observed import ObservedGpu
from poolmgr.domain.fleet import Transition
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.reasons import Reason
from poolmgr.domain.usage import GpuState, unusable_state
from poolmgr.wire.gpu_nodes import DeviceStatus, HolderStatus, NodeStatus, NodeSummary, RebindStatus
from poolmgr.wire.instants import to_rfc3339

MAX_HOLDERS = 16
"""Enough to act on; a GPU shared by hundreds of processes must not bloat the object."""


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    ok: bool | None
    reason: str
    message: str

    def wire(self, previous: wire.Condition | None, now: float) -> wire.Condition:
        status = "Unknown" if self.ok is None else str(self.ok)
        since = previous.last_transition_time if previous is not None and previous.status == status else None
        return wire.Condition(
            self.type,
            status,
            self.reason,
            self.message[:1024],
            since if since is not None else to_rfc3339(now),
        )


@dataclass(frozen=True, slots=True)
class NodeFacts:
    boot_id: str
    kernel: str
    agent_version: str


def device_status(
    observed: ObservedGpu,
    record: DeviceRecord,
    decision: GpuDecision,
    *,
    advertised: bool,
) -> DeviceStatus:
    """One entry of `status.devices` for a GPU that is there."""
    gpu = observed.gpu
    phase = phase_of(observed, record, decision)
    reason, message = _words(record, decision, phase)
    rebind = could_move(observed)
    return DeviceStatus(
        pci_address=gpu.address,
        uuid=record.uuid,
        model=record.model,
        memory_mib=record.memory_mib,
        vendor_id=gpu.function.vendor_id,
        device_id=gpu.function.device_id,
        class_id=gpu.function.class_id,
        driver=gpu.driver or "",
        mode=gpu.mode or "",
        phase=phase,
        plan_id=record.done_plan_id,
        iommu_group=gpu.iommu_group,
        numa_node=gpu.numa_node,
        nvswitch_domain=gpu.nvswitch_domain,
        group_devices=tuple(gpu.group_devices),
        resource_name=gpu.resource_name,
        holders=tuple(
            HolderStatus(h.pid, h.command, h.pod_uid, h.path[:256]) for h in observed.holders[:MAX_HOLDERS]
        ),
        allocated_to=observed.allocated_to[:64],
        advertised=advertised,
        reason=reason,
        message=message[:1024],
        rebind=RebindStatus(bool(rebind), rebind.reason, rebind.message[:1024]),
        mode_since=to_rfc3339(record.mode_since) if record.mode_since else None,
    )


def gone_status(node: str, address: PciAddress, record: DeviceRecord) -> DeviceStatus:
    """A GPU that the journal knows and sysfs does not: said aloud, never dropped in silence."""
    return DeviceStatus(
        pci_address=address,
        uuid=record.uuid,
        model=record.model,
        memory_mib=record.memory_mib,
        vendor_id=record.vendor_id,
        device_id=record.device_id,
        class_id=record.class_id,
        phase=DevicePhase.QUARANTINED,
        plan_id=record.done_plan_id,
        reason=Reason.DEVICE_GONE,
        message=f"GPU {address} is no longer on the PCI bus. If it failed, check the kernel's log (dmesg); if it was "
        f"removed on purpose: `poolmgr gpu forget {node}/{address}`",
    )


def phase_of(observed: ObservedGpu, record: DeviceRecord, decision: GpuDecision) -> DevicePhase:
    """Where a GPU stands. Trouble first: a hung device is Quarantined whatever else is true of it."""
    failure = record.failure
    if observed.write_in_flight or observed.gpu.off_bus:
        return DevicePhase.QUARANTINED
    if (
        failure is not None
        and failure.quarantined
        and decision.action is DeviceAction.NOTHING
        and decision.to_mode
    ):
        return DevicePhase.QUARANTINED
    if observed.gpu.driver is None:
        return DevicePhase.UNBOUND
    if observed.gpu.mode is None:
        return DevicePhase.FOREIGN
    if decision.action in (DeviceAction.REBIND, DeviceAction.WAIT):
        return DevicePhase.MOVING
    return DevicePhase.READY


def _words(record: DeviceRecord, decision: GpuDecision, phase: DevicePhase) -> tuple[str, str]:
    if decision.action is not DeviceAction.NOTHING or decision.message:
        return decision.reason, decision.message
    if phase is DevicePhase.FOREIGN:
        return Reason.UNSUITABLE, "it is on a driver that poolmgr does not manage, so poolmgr leaves it alone"
    if phase is DevicePhase.READY and record.note_reason:
        return record.note_reason, record.note_message
    return "", ""


def node_status(
    facts: NodeFacts,
    generation: int,
    devices: Sequence[DeviceStatus],
    transition: Transition | None,
    conditions: Sequence[Condition],
    previous: NodeStatus,
    now: float,
) -> NodeStatus:
    """The whole status. Equal inputs give equal output but for conditions whose status changed."""
    old = {c.type: c for c in previous.conditions}
    return NodeStatus(
        observed_generation=generation,
        boot_id=facts.boot_id,
        agent_version=facts.agent_version,
        kernel=facts.kernel,
        devices=tuple(devices),
        summary=_summary(devices, transition),
        conditions=tuple(c.wire(old.get(c.type), now) for c in conditions),
    )


def _summary(devices: Sequence[DeviceStatus], transition: Transition | None) -> NodeSummary:
    """Each GPU is counted once: in trouble, moving, or ready in its mode."""
    moving = transition.devices if transition is not None else ()
    count = Counter(
        unusable_state(DevicePhase(d.phase), Mode(d.mode) if d.mode else None, d.pci_address in moving)
        or d.mode
        for d in devices
    )
    return NodeSummary(
        gpus=len(devices),
        passthrough=count[Mode.PASSTHROUGH],
        shared=count[Mode.SHARED],
        moving=count[GpuState.MOVING],
        trouble=count[GpuState.TROUBLE],
    )
