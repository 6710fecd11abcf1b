"""Is enough known of a GPU to say that nobody uses it?

A GPU on its host driver may be in use by a process that has its device file open, or by a pod that was given it and
does not compute at the moment. The first is found by the file's number, the second by the GPU's UUID or by what the
kubelet says. Where one of these cannot be asked, or two contradict each other, the answer is not "nobody": the GPU stays, and
the sentence says what is missing. On vfio-pci the open files and the kubelet tell all there is. On either driver every
process's open files have to be readable, and so has what sysfs has of the card and of its IOMMU group.
"""

from poolmgr.agent.holders import UNREADABLE
from poolmgr.agent.inventory import Accelerator
from poolmgr.agent.observed import ObservedGpu
from poolmgr.agent.preflight import OK
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason


def check_evidence(seen: ObservedGpu) -> Verdict:
    """CannotTell or KubeletUnreachable while a user of the GPU could be overlooked."""
    gpu, at = seen.gpu, seen.gpu.address
    if gpu.unreadable:
        return _cannot_tell(
            at,
            f"the agent cannot read {gpu.unreadable}",
            "find out which security module of the node stops the agent's container from reading it",
        )
    if not gpu.answers:
        return _cannot_tell(
            at,
            "its configuration space cannot be read, or is another card's",
            "drain the node and reboot it; if it stays so, reseat or replace the card",
        )
    hidden = next((h for h in seen.holders if h.path == UNREADABLE), None)
    if hidden is not None:
        return _cannot_tell(
            at,
            f"the agent cannot read which files {hidden.command or 'a process'} (pid {hidden.pid}) has open",
            "find out which security module of the node stops the agent's container from reading /proc/PID/fd",
        )
    if not seen.kubelet_known:
        sentence = f"the kubelet does not answer, so the agent cannot tell whether a pod has {at}: it stays"
        return Verdict(False, Reason.KUBELET_UNREACHABLE, sentence)
    if seen.doubts:
        return _cannot_tell(at, seen.doubts[0].what, seen.doubts[0].remedy)
    if gpu.mode is not Mode.SHARED:
        return OK
    if not gpu.device_files_known:
        return _cannot_tell(
            at,
            f"the numbers of its device files are unknown, so the agent cannot see who has it open{_minor(gpu)}",
            "restart the agent's pod; it needs the host's /proc and /sys, without a container runtime's mounts over them",
        )
    if gpu.vendor.nvml and (not seen.uuid or seen.mig_enabled is None):
        missing = (
            "whether it is in MIG mode"
            if seen.uuid
            else "its UUID, so the agent cannot see slices that HAMi assigned"
        )
        return _cannot_tell(
            at,
            f"NVML does not report {missing}",
            "set agent.runtimeClassName to nvidia, or agent.driverRoot to the driver's folder; if one of them is set, run "
            "nvidia-smi on the node to see whether the driver works",
        )
    return OK


def _minor(gpu: Accelerator) -> str:
    path = f"/proc/driver/nvidia/gpus/{gpu.address}/information"
    return (
        f" ({path} does not exist, and NVML does not report them)"
        if gpu.vendor.character_devices == "nvidia"
        else ""
    )


def _cannot_tell(address: str, what: str, remedy: str) -> Verdict:
    return Verdict(
        False, Reason.CANNOT_TELL, f"the agent cannot tell whether {address} is in use: {what}; {remedy}"
    )
