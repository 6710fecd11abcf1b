"""GPUNode to and from the domain: the manager's spec and the agent's status."""

from typing import Any

import msgspec

from poolmgr.controller.ports import NodeIntent
from poolmgr.domain.fleet import Gpu, Holder, Transition
from poolmgr.domain.identifiers import GpuUuid, LeaseEpoch, NodeName, PciAddress, PlanId, PoolName
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.reasons import Reason
from poolmgr.wire import GpuNode
from poolmgr.wire.instants import to_rfc3339, unix_or_zero
from poolmgr.wire.pools import DesiredDevice, DeviceStatus, TransitionSpec

NO_NUMA = -1
"""What sysfs says where the platform tells no NUMA node."""

_MODES = {mode.value: mode for mode in Mode}
_PHASES = {phase.value: phase for phase in DevicePhase}
_STEPS = {step.value: step for step in Step}


def gpus_of(node: GpuNode, pools: dict[str, PoolName | None]) -> tuple[Gpu, ...]:
    """Every device that the agent reports, in its order. `pools` maps model to pool on this node."""
    desired = {device.pci_address: device for device in node.spec.devices}
    return tuple(
        _gpu(NodeName(node.metadata.name), device, desired.get(device.pci_address), pools.get(device.model))
        for device in node.status.devices
    )


def transition_of(node: GpuNode) -> Transition | None:
    """The move under way. One that is not understood (written by a newer manager) still shows as a move, at
    its first step, so that nothing else is begun on the node."""
    spec = node.spec.transition
    if spec is None:
        return None
    return Transition(
        node=NodeName(node.metadata.name),
        plan_id=PlanId(spec.plan_id),
        epoch=LeaseEpoch(spec.epoch),
        to_mode=_MODES.get(spec.to_mode, Mode.SHARED),
        devices=tuple(PciAddress(address) for address in spec.devices),
        step=_STEPS.get(spec.step, Step.INTEND),
        started_at=unix_or_zero(spec.started_at),
        step_started_at=unix_or_zero(spec.step_started_at),
        reason=spec.reason,
        message=spec.message,
        rollback=spec.rollback,
    )


def reported(node: GpuNode) -> bool:
    """True when the agent has read and acted on the current spec."""
    return 0 < node.metadata.generation <= node.status.observed_generation


def spec_of(intent: NodeIntent, epoch: LeaseEpoch) -> dict[str, Any]:
    """`GPUNode.spec` as JSON values, the transition in the writer's own `epoch`.

    Every field is named, also the empty ones: in a merge patch an absent field would keep its old value.
    """
    devices = [
        msgspec.to_builtins(DesiredDevice(pci_address=address, mode=mode.value, plan_id=plan_id))
        for address, mode, plan_id in intent.desired
    ]
    transition = intent.transition
    if transition is None:
        return {"devices": devices, "transition": None}
    spec = TransitionSpec(
        plan_id=transition.plan_id,
        epoch=epoch,
        to_mode=transition.to_mode.value,
        devices=tuple(transition.devices),
        step=transition.step.value,
        started_at=to_rfc3339(transition.started_at),
        step_started_at=to_rfc3339(transition.step_started_at),
    )
    written = {
        **msgspec.to_builtins(spec),
        "reason": transition.reason,
        "message": transition.message,
        "rollback": transition.rollback,
    }
    return {"devices": devices, "transition": written}


def _gpu(node: NodeName, device: DeviceStatus, desired: DesiredDevice | None, pool: PoolName | None) -> Gpu:
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
        holders=tuple(Holder(h.pid, h.command, h.pod_uid, h.path) for h in device.holders),
        allocated_to=device.allocated_to,
        advertised=device.advertised,
        plan_id=PlanId(device.plan_id),
        reason=reason,
        message=message,
        mode_since=unix_or_zero(device.mode_since),
    )
