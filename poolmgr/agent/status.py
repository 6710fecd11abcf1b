"""`GPUNode.status` as the agent writes it. Pure: from values to the wire form of the CRD."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from poolmgr.agent.journal import DeviceRecord
from poolmgr.agent.reconcile import Act, Decision, Sight
from poolmgr.domain.fleet import Transition
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.modes import DevicePhase
from poolmgr.domain.reasons import Reason
from poolmgr.wire.instants import to_rfc3339

MAX_HOLDERS = 16
"""Enough to act on; a GPU shared by hundreds of processes must not bloat the object."""


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    ok: bool | None
    reason: str
    message: str

    def wire(self, previous: Mapping[str, Any] | None, now: float) -> dict[str, Any]:
        status = "Unknown" if self.ok is None else str(self.ok)
        same = previous is not None and previous.get("status") == status
        return {
            "type": self.type,
            "status": status,
            "reason": self.reason,
            "message": self.message[:1024],
            "lastTransitionTime": previous["lastTransitionTime"] if same and previous else to_rfc3339(now),
        }


@dataclass(frozen=True, slots=True)
class NodeFacts:
    boot_id: str
    kernel: str
    agent_version: str


def device_status(
    sight: Sight,
    record: DeviceRecord,
    decision: Decision,
    *,
    advertised: bool,
) -> dict[str, Any]:
    """One entry of `status.devices` for a GPU that is there."""
    gpu = sight.gpu
    phase = phase_of(sight, record, decision)
    reason, message = _words(record, decision, phase)
    status: dict[str, Any] = {
        "pciAddress": gpu.address,
        "uuid": record.uuid,
        "model": record.model,
        "memoryMiB": record.memory_mib,
        "vendorId": gpu.function.vendor_id,
        "deviceId": gpu.function.device_id,
        "classId": gpu.function.class_id,
        "driver": gpu.driver or "",
        "mode": gpu.mode or "",
        "phase": phase,
        "planId": record.done_plan_id,
        "groupDevices": list(gpu.group_devices),
        "nvswitchDomain": gpu.nvswitch_domain,
        "resourceName": gpu.resource_name,
        "holders": [
            {"pid": h.pid, "command": h.command, "podUid": h.pod_uid, "path": h.path[:256]}
            for h in sight.holders[:MAX_HOLDERS]
        ],
        "allocatedTo": sight.allocated_to[:64],
        "advertised": advertised,
        "reason": reason,
        "message": message[:1024],
    }
    if gpu.iommu_group is not None:
        status["iommuGroup"] = gpu.iommu_group
    if gpu.numa_node is not None:
        status["numaNode"] = gpu.numa_node
    if record.mode_since:
        status["modeSince"] = to_rfc3339(record.mode_since)
    return status


def gone_status(address: PciAddress, record: DeviceRecord) -> dict[str, Any]:
    """A GPU that the journal knows and sysfs does not: said aloud, never dropped in silence."""
    return {
        "pciAddress": address,
        "uuid": record.uuid,
        "model": record.model,
        "memoryMiB": record.memory_mib,
        "vendorId": record.vendor_id,
        "deviceId": record.device_id,
        "classId": record.class_id,
        "driver": "",
        "mode": "",
        "phase": DevicePhase.QUARANTINED,
        "planId": record.done_plan_id,
        "holders": [],
        "allocatedTo": "",
        "advertised": False,
        "reason": Reason.DEVICE_GONE,
        "message": f"{address} is not on the PCI bus any more: see the kernel's log; if it was taken out on "
        "purpose, remove it from GPUNode.spec.devices and reboot the node",
    }


def phase_of(sight: Sight, record: DeviceRecord, decision: Decision) -> DevicePhase:
    """Where a GPU stands. Trouble first: a hung device is Quarantined whatever else is true of it."""
    trouble = record.trouble
    if sight.write_in_flight:
        return DevicePhase.QUARANTINED
    if trouble is not None and trouble.quarantined and decision.act is Act.NOTHING and decision.to_mode:
        return DevicePhase.QUARANTINED
    if sight.gpu.driver is None:
        return DevicePhase.UNBOUND
    if sight.gpu.mode is None:
        return DevicePhase.FOREIGN
    if decision.act in (Act.REBIND, Act.WAIT):
        return DevicePhase.MOVING
    return DevicePhase.READY


def _words(record: DeviceRecord, decision: Decision, phase: DevicePhase) -> tuple[str, str]:
    if decision.act is not Act.NOTHING or decision.message:
        return decision.reason, decision.message
    if phase is DevicePhase.FOREIGN:
        return Reason.UNSUITABLE, "it is on a driver that poolmgr does not manage and is left alone"
    if phase is DevicePhase.READY and record.note_reason:
        return record.note_reason, record.note_message
    return "", ""


def node_status(
    facts: NodeFacts,
    generation: int,
    devices: Sequence[dict[str, Any]],
    transition: Transition | None,
    conditions: Sequence[Condition],
    previous: Mapping[str, Any],
    now: float,
) -> dict[str, Any]:
    """The whole status. Equal inputs give equal output but for conditions whose status changed."""
    old = {c["type"]: c for c in previous.get("conditions") or []}
    return {
        "observedGeneration": generation,
        "bootId": facts.boot_id,
        "agentVersion": facts.agent_version,
        "kernel": facts.kernel,
        "devices": list(devices),
        "summary": _summary(devices, transition),
        "conditions": [c.wire(old.get(c.type), now) for c in conditions],
    }


def _summary(devices: Sequence[dict[str, Any]], transition: Transition | None) -> dict[str, int]:
    """Each GPU is counted once: in trouble, moving, or ready in its mode."""
    in_transition = transition.devices if transition is not None else ()
    trouble = [d for d in devices if d["phase"] in ("Unbound", "Foreign", "Quarantined")]
    rest = [d for d in devices if d not in trouble]
    moving = [d for d in rest if d["phase"] == "Moving" or d["pciAddress"] in in_transition]
    ready = [d for d in rest if d not in moving]
    return {
        "gpus": len(devices),
        "passthrough": sum(d["mode"] == "Passthrough" for d in ready),
        "shared": sum(d["mode"] == "Shared" for d in ready),
        "moving": len(moving),
        "trouble": len(trouble),
    }
