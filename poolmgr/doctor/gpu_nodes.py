"""GPU nodes: agents, IOMMU, drivers, UUIDs, holders, and what keeps a GPU from moving."""

from collections.abc import Iterator

from poolmgr import wire
from poolmgr.doctor.facts import Facts
from poolmgr.doctor.findings import Finding, Grade
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.liveness import SILENT_SECONDS
from poolmgr.domain.usage import YIELDING_DAEMONS
from poolmgr.wire.gpu_nodes import DeviceStatus
from poolmgr.wire.instants import to_rfc3339, unix_or_zero
from poolmgr.wire.lease import node_of_agent_lease
from poolmgr.wire.nodes import kubelet_ready

GPU_LABELS = ("nvidia.com/gpu.present", "feature.node.kubernetes.io/pci-10de.present")
"""What GPU feature discovery and node feature discovery put on nodes with NVIDIA GPUs."""
AGENT_PODS = "kubectl get pods -A -o wide -l app.kubernetes.io/component=agent"

CONDITION_FIXES = {
    "Ready": f"look at the agent's log on that node ({AGENT_PODS})",
    "IOMMU": "enable VT-d or AMD-Vi in the firmware, and intel_iommu=on (or amd_iommu=on) iommu=pt on the kernel's "
    "command line; reboot",
    "NVML": "set agent.runtimeClassName (as a rule nvidia), or agent.driverRoot where the GPU operator installs the driver "
    "(/run/nvidia/driver)",
    "DevicePlugin": "look at the kubelet's log; where its folder is not /var/lib/kubelet, set agent.kubeletDir",
}


def agents(facts: Facts) -> Iterator[Finding]:
    """A node that looks like one with GPUs and has no GPUNode; and nodes whose kubelet is gone."""
    if facts.nodes.unread:
        yield Finding("agent", "nodes", Grade.UNKNOWN, facts.nodes.unread)
    if facts.gpu_nodes.unread or facts.gpu_nodes.absent:
        return
    known = {node.metadata.name for node in facts.gpu_nodes.items}
    for node in facts.nodes.items:
        name, labels = node.metadata.name, node.metadata.labels
        if name not in known and any(labels.get(label) == "true" for label in GPU_LABELS):
            fix = f"check that agent.nodeSelector selects it and that its pod runs: {AGENT_PODS}"
            yield Finding(
                "agent",
                f"node {name}",
                Grade.PROBLEM,
                "its labels say that it has GPUs, but no agent reports it",
                fix,
            )
        if name in known and not kubelet_ready(node):
            message = "its kubelet is not ready, so its last report may be out of date"
            yield Finding("agent", f"node {name}", Grade.PROBLEM, message, f"kubectl describe node {name}")
    if not any(node.status.devices for node in facts.gpu_nodes.items):
        fix = f"check that the agent runs on the GPU nodes: {AGENT_PODS}"
        yield Finding("agent", "cluster", Grade.PROBLEM, "no node reports a GPU", fix)


def heartbeats(facts: Facts) -> Iterator[Finding]:
    """Is each agent heard? What one that is silent said last may be untrue."""
    if facts.heartbeats.unread:
        yield Finding("heartbeat", "agents", Grade.UNKNOWN, facts.heartbeats.unread)
        return
    beats = {node_of_agent_lease(beat.metadata.name): beat.spec.renew_time for beat in facts.heartbeats.items}
    for node in facts.gpu_nodes.items:
        about = f"node {node.metadata.name}"
        at = unix_or_zero(beats.get(NodeName(node.metadata.name)))
        if not at:
            message = "its agent has not been heard from, or its release sends no heartbeat"
            yield Finding("heartbeat", about, Grade.PROBLEM, message, CONDITION_FIXES["Ready"])
        elif facts.now - at > SILENT_SECONDS:
            message = (
                f"its agent was last heard from at {to_rfc3339(at)}, so its last report may be out of date"
            )
            yield Finding("heartbeat", about, Grade.PROBLEM, message, CONDITION_FIXES["Ready"])
        else:
            yield Finding("heartbeat", about, Grade.OK, f"its agent was heard at {to_rfc3339(at)}")


def conditions(facts: Facts) -> Iterator[Finding]:
    """What each agent says of its node."""
    for node in facts.gpu_nodes.items:
        about = f"node {node.metadata.name}"
        said = {condition.type: condition for condition in node.status.conditions}
        for name, fix in CONDITION_FIXES.items():
            condition = said.get(name)
            if condition is None:
                yield Finding(
                    name.lower(),
                    about,
                    Grade.UNKNOWN,
                    "its agent does not report it",
                    CONDITION_FIXES["Ready"],
                )
            elif condition.status == "True":
                yield Finding(name.lower(), about, Grade.OK, condition.message or condition.reason)
            elif name == "NVML" and condition.status == "Unknown" and _none_shared(node):
                yield Finding(name.lower(), about, Grade.NOTE, condition.message)
            else:
                grade = Grade.PROBLEM if condition.status == "False" else Grade.UNKNOWN
                yield Finding(name.lower(), about, grade, condition.message or condition.reason, fix)
        if 0 < node.status.observed_generation < node.metadata.generation:
            message = (
                f"its agent has read generation {node.status.observed_generation} of {node.metadata.generation} of its "
                "GPUNode: it may be silent"
            )
            yield Finding("agent", about, Grade.PROBLEM, message, CONDITION_FIXES["Ready"])


def _none_shared(node: wire.GpuNode) -> bool:
    """NVML shows GPUs on the vendor's driver alone: where there is none, it has nothing to say."""
    return not any(device.mode == "Shared" for device in node.status.devices)


def gpus(facts: Facts) -> Iterator[Finding]:
    """What stands in the way of each GPU; one line for a node of which nothing does."""
    for node in facts.gpu_nodes.items:
        found = [finding for device in node.status.devices for finding in _device(node, device)]
        if found:
            yield from found
        elif node.status.devices:
            message = f"its agent could move each of its {len(node.status.devices)} GPU(s)"
            yield Finding("gpu", f"node {node.metadata.name}", Grade.OK, message)


def _device(node: wire.GpuNode, device: DeviceStatus) -> Iterator[Finding]:
    about = f"GPU {node.metadata.name}/{device.pci_address}"
    if device.phase != "Ready":
        message = f"{device.phase}: {device.message or device.reason or 'no reason is given'}"
        grade = Grade.NOTE if device.phase == "Moving" else Grade.PROBLEM
        yield Finding(
            "gpu", about, grade, message, "" if grade is Grade.NOTE else "docs/how-to/gpu-in-trouble.md"
        )
        return
    if not device.uuid:
        message = "its UUID is unknown, so poolmgr cannot tell which containers use it"
        yield Finding("uuid", about, Grade.PROBLEM, message, CONDITION_FIXES["NVML"])
    if device.rebind is None:
        yield Finding(
            "gpu",
            about,
            Grade.UNKNOWN,
            "its agent does not say whether it could be moved",
            "update the agent",
        )
    elif not device.rebind.possible:
        yield Finding("gpu", about, Grade.PROBLEM, f"{device.rebind.reason}: {device.rebind.message}")
    # A process without a pod ends with no pod: nothing that Kubernetes does makes it leave.
    of_host = sorted(
        {
            holder.command
            for holder in device.holders
            if not holder.pod_uid and holder.pid and not holder.command.startswith(YIELDING_DAEMONS)
        }
    )
    if of_host and device.mode == "Shared":
        message = f"host processes have it open: {', '.join(of_host)}"
        fix = "stop the ones that you do not need (Xorg, nv-hostengine): the GPU cannot leave the shared side while they run"
        yield Finding("holders", about, Grade.NOTE, message, fix)
