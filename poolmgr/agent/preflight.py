"""May this GPU be moved now? Pure questions on values; every "no" says why and what to do.

The order is that of severity: what can never work on this node first, what passes by itself last.
"""

from poolmgr.agent.inventory import Accelerator
from poolmgr.domain.fleet import Holder
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.usage import YIELDING_DAEMONS

OK = Verdict(True, Reason.IN_PLACE)


def check_answers(gpu: Accelerator) -> Verdict:
    """A card that has fallen off its bus is not written to: each write may hang."""
    if not gpu.off_bus:
        return OK
    return Verdict(
        False,
        Reason.OFF_THE_BUS,
        f"{gpu.address} does not answer on its bus (NVIDIA's driver says Xid 79): drain the node and reboot it; if it stays "
        "so, reseat or replace the card",
    )


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
            f"{at} is this host's boot display: choose another primary display in the firmware",
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
    if to_mode is Mode.PASSTHROUGH and gpu.kernel_users:
        user = gpu.kernel_users[0]
        return Verdict(False, user.reason, f"{at} is used by {user.name}: {user.remedy}")
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


def check_holders(gpu: Accelerator, holders: tuple[Holder, ...], *, asked: bool = True) -> Verdict:
    """A device that somebody has open is never unbound. Before the driver's own daemons have been `asked` to let go of a
    shared GPU, they do not count: they do when asked (`usage.YIELDING_DAEMONS`)."""
    if not asked and gpu.mode is Mode.SHARED:
        holders = tuple(h for h in holders if not h.command.startswith(YIELDING_DAEMONS))
    if not holders:
        return OK
    return Verdict(False, Reason.HOLDER_PRESENT, f"{gpu.address} is held by {describe_holders(holders)}")


def check_pods(gpu: Accelerator, allocated_to: str, shared_pods: tuple[str, ...]) -> Verdict:
    """A device that a pod has been given is not unbound, even while nobody has it open."""
    if allocated_to:
        return Verdict(
            False, Reason.KUBELET_ALLOCATED, f"the kubelet has given {gpu.address} to pod {allocated_to}"
        )
    if shared_pods:
        return Verdict(
            False,
            Reason.KUBELET_ALLOCATED,
            f"{gpu.address} has slices assigned to {', '.join(shared_pods)}",
        )
    return OK


def describe_holders(holders: tuple[Holder, ...]) -> str:
    """The first three in words, the rest as a count."""
    shown = [_described(holder) for holder in holders[:3]]
    more = len(holders) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _described(holder: Holder) -> str:
    pod = f"pod {holder.pod_uid}" if holder.pod_uid else ""
    if not holder.pid:
        return f"{pod or holder.command} by {holder.path}"
    number = ", ".join(filter(None, (f"pid {holder.pid}", pod)))
    return f"{holder.command or 'a process'} ({number}) by {holder.path}"
