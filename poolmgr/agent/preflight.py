"""May this GPU be moved now? Pure questions on values; every "no" says why and what to do.

The order is that of severity: what can never work on this node first, what passes by itself last.
"""

from poolmgr.agent.inventory import Accelerator
from poolmgr.domain.fleet import Holder
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason

OK = Verdict(True, Reason.IN_PLACE)


def check_hardware(gpu: Accelerator, to_mode: Mode) -> Verdict:
    """What is a property of the node or card and will not pass by itself."""
    at = gpu.address
    if to_mode is Mode.SHARED:
        return OK
    if gpu.iommu_group is None:
        return Verdict(
            False,
            Reason.NO_IOMMU,
            f"{at} has no IOMMU group: switch the IOMMU on in the firmware and boot with intel_iommu=on "
            "(or amd_iommu=on), then it can be passed through",
        )
    if gpu.strangers:
        names = ", ".join(f"{f.address} ({f.driver or 'no driver'})" for f in gpu.strangers)
        return Verdict(
            False,
            Reason.GROUP_NOT_VIABLE,
            f"{at} shares IOMMU group {gpu.iommu_group} with {names}, which cannot go into a VM with it: "
            "put the card into another slot or enable ACS in the firmware",
        )
    if gpu.boot_display:
        return Verdict(
            False,
            Reason.BOOT_DISPLAY,
            f"{at} is the display this host boots on: choose another primary display in the firmware",
        )
    return OK


def check_state(gpu: Accelerator, to_mode: Mode, *, mig_enabled: bool | None = False) -> Verdict:
    """What an operator set on the card and has to take back first."""
    at = gpu.address
    if to_mode is Mode.PASSTHROUGH and gpu.virtual_functions:
        return Verdict(
            False,
            Reason.SRIOV_ACTIVE,
            f"{at} has {gpu.virtual_functions} virtual functions: write 0 to its sriov_numvfs first",
        )
    if to_mode is Mode.PASSTHROUGH and gpu.mediated_devices:
        return Verdict(
            False,
            Reason.MEDIATED_DEVICES,
            f"parts of {at} are given out as mediated devices (vGPU): end the virtual machines that have them and "
            "remove the devices first",
        )
    if to_mode is Mode.PASSTHROUGH and mig_enabled:
        return Verdict(False, Reason.MIG_ENABLED, f"{at} is in MIG mode: run nvidia-smi -i {at} -mig 0 first")
    if gpu.driver is not None and gpu.mode is None:
        return Verdict(
            False,
            Reason.UNSUITABLE,
            f"{at} is on driver {gpu.driver}, which poolmgr does not manage: unbind it by hand or keep the "
            f"driver from loading; shared GPUs belong on {' or '.join(gpu.vendor.host_drivers)}",
        )
    return OK


def check_holders(gpu: Accelerator, holders: tuple[Holder, ...]) -> Verdict:
    """A device that somebody has open is never unbound."""
    if not holders:
        return OK
    return Verdict(False, Reason.HOLDER_PRESENT, f"{gpu.address} is held by {describe_holders(holders)}")


def check_pods(gpu: Accelerator, allocated_to: str, shared_pods: tuple[str, ...]) -> Verdict:
    """A device that a pod has been given is not unbound, even while nobody has it open."""
    if allocated_to:
        return Verdict(
            False, Reason.KUBELET_ALLOCATED, f"{gpu.address} is given by the kubelet to pod {allocated_to}"
        )
    if shared_pods:
        return Verdict(
            False,
            Reason.KUBELET_ALLOCATED,
            f"{gpu.address} has slices given to {', '.join(shared_pods)}",
        )
    return OK


def describe_holders(holders: tuple[Holder, ...]) -> str:
    """The first three in words, the rest as a count."""
    shown = [
        f"{h.command or 'a process'} (pid {h.pid}{', pod ' + h.pod_uid if h.pod_uid else ''}) by {h.path}"
        for h in holders[:3]
    ]
    more = len(holders) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
