"""Puts the findings of one pass together into `GPUNode.status`."""

from typing import Any

from poolmgr.agent.decisions import GpuDecision
from poolmgr.agent.journal import Journal
from poolmgr.agent.nvml import NvmlReport
from poolmgr.agent.observe import Observation
from poolmgr.agent.observed import ObservedGpu
from poolmgr.agent.status import Condition, NodeFacts, device_status, gone_status, node_status
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.node_spec import GpuNodeSpec
from poolmgr.domain.reasons import Reason
from poolmgr.wire.gpu_nodes import read_status, status_body


class Reporter:
    def __init__(self, facts: NodeFacts) -> None:
        self._facts = facts

    def status(
        self,
        body: dict[str, Any],
        spec: GpuNodeSpec,
        seen: Observation,
        decisions: tuple[GpuDecision, ...],
        journal: Journal,
        plugin_error: str,
        nvml: NvmlReport,
        hook: Condition | None,
        now: float,
    ) -> dict[str, Any]:
        """The status that says what this pass found."""
        previous = read_status(body)
        advertised = {device.pci_address: device.advertised for device in previous.devices}
        devices = [
            device_status(
                seen.gpus[d.address],
                journal.state.device(d.address),
                d,
                advertised=_advertised(seen.gpus[d.address], advertised.get(d.address, False)),
            )
            for d in decisions
        ]
        devices += [
            gone_status(body.get("metadata", {}).get("name", "NODE"), PciAddress(address), record)
            for address, record in sorted(journal.state.devices.items())
            if address not in seen.gpus
        ]
        status = node_status(
            self._facts,
            spec.generation,
            sorted(devices, key=lambda d: d.pci_address),
            spec.transition,
            (*self._conditions(spec, seen, journal, plugin_error, nvml), *filter(None, (hook,))),
            previous,
            now,
        )
        return status_body(status)

    def _conditions(
        self, spec: GpuNodeSpec, seen: Observation, journal: Journal, plugin_error: str, nvml: NvmlReport
    ) -> tuple[Condition, ...]:
        return (
            _ready(spec, journal),
            _iommu(seen),
            _nvml(seen, nvml),
            _device_plugin(seen, plugin_error),
        )


def _ready(spec: GpuNodeSpec, journal: Journal) -> Condition:
    if spec.complaint:
        return Condition("Ready", False, Reason.INVALID_REQUEST, spec.complaint)
    if journal.complaint:
        return Condition("Ready", True, Reason.JOURNAL_DAMAGED, journal.complaint)
    return Condition("Ready", True, Reason.AGENT_AT_WORK, "the agent reads the spec and acts on it")


def _iommu(seen: Observation) -> Condition:
    without = sorted(a for a, s in seen.gpus.items() if s.gpu.iommu_group is None)
    if without:
        sentence = f"no IOMMU group for {', '.join(without)}: boot with intel_iommu=on or amd_iommu=on"
        return Condition("IOMMU", False, Reason.NO_IOMMU, sentence)
    return Condition("IOMMU", True, Reason.IOMMU_PRESENT, "every GPU has an IOMMU group")


def _nvml(seen: Observation, nvml: NvmlReport) -> Condition:
    if not any(s.gpu.mode is not None and s.gpu.mode.value == "Shared" for s in seen.gpus.values()):
        return Condition(
            "NVML", None, Reason.NVML_UNAVAILABLE, "no GPU is on its vendor driver, so NVML was not asked"
        )
    if nvml.error:
        sentence = f"{nvml.error}; models are taken from the accelerator files, UUIDs are not known"
        return Condition("NVML", False, Reason.NVML_UNAVAILABLE, sentence)
    return Condition("NVML", True, Reason.NVML_ANSWERS, f"NVML shows {len(nvml.gpus)} GPU(s)")


def _device_plugin(seen: Observation, error: str) -> Condition:
    if error or not seen.kubelet.known:
        return Condition("DevicePlugin", False, Reason.KUBELET_UNREACHABLE, error or seen.kubelet.error)
    return Condition(
        "DevicePlugin",
        True,
        Reason.PLUGIN_REGISTERED,
        "the kubelet knows every resource that the agent offers",
    )


def _advertised(observed: ObservedGpu, before: bool) -> bool:
    """The kubelet's word; while it gives none, the last one stands: "not advertised" lets a move go on."""
    return observed.listed if observed.kubelet_known else before
