"""Is enough known of a GPU to say that nobody uses it?

A GPU on its host driver may be in use by a process that has its device file open, or by a pod that was given it and
does not compute at the moment. The first is found by the file's number, the second by the GPU's UUID or by what the
kubelet says. Where one of these cannot be asked, the answer is not "nobody": the GPU stays, and the sentence says what
is missing. On vfio-pci the open files and the kubelet tell all there is. On either driver every process's open files have to
be readable.
"""

from poolmgr.agent.holders import UNREADABLE
from poolmgr.agent.inventory import Accelerator
from poolmgr.agent.preflight import OK
from poolmgr.domain.fleet import Holder
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason


def check_evidence(
    gpu: Accelerator,
    *,
    uuid: str,
    mig_enabled: bool | None,
    kubelet_known: bool,
    holders: tuple[Holder, ...] = (),
) -> Verdict:
    """CannotTell or KubeletUnreachable while a user of the GPU could be overlooked. `mig_enabled` is None where NVML does
    not say."""
    at = gpu.address
    hidden = next((h for h in holders if h.path == UNREADABLE), None)
    if hidden is not None:
        return _cannot_tell(
            at,
            f"what {hidden.command or 'a process'} (pid {hidden.pid}) has open cannot be read",
            "see which security module of the node keeps the agent's container from reading /proc/PID/fd",
        )
    if not kubelet_known:
        sentence = f"whether a pod has {at} cannot be told while the kubelet does not answer: it stays"
        return Verdict(False, Reason.KUBELET_UNREACHABLE, sentence)
    if gpu.mode is not Mode.SHARED:
        return OK
    if not gpu.device_files_known:
        return _cannot_tell(
            at,
            f"the numbers of its device files are not known, so who has it open cannot be seen{_minor(gpu)}",
            "restart the agent's pod; it needs the host's /proc and /sys, without a container runtime's mounts over them",
        )
    if gpu.vendor.nvml and not uuid:
        return _cannot_tell(
            at,
            "NVML has not told its UUID, so slices that HAMi gave away cannot be seen",
            "set agent.runtimeClassName to nvidia, or agent.driverRoot to the driver's folder",
        )
    if gpu.vendor.nvml and mig_enabled is None:
        return _cannot_tell(
            at,
            "NVML does not say whether it is in MIG mode",
            "run nvidia-smi on the node to see whether the driver works",
        )
    return OK


def _minor(gpu: Accelerator) -> str:
    path = f"/proc/driver/nvidia/gpus/{gpu.address}/information"
    return f" ({path} is not there)" if gpu.vendor.character_devices == "nvidia" else ""


def _cannot_tell(address: str, what: str, remedy: str) -> Verdict:
    return Verdict(False, Reason.CANNOT_TELL, f"whether {address} is in use cannot be told: {what}; {remedy}")
