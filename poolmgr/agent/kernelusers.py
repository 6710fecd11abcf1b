"""Parts of the kernel that use a GPU without a file that any process has open.

Unbinding a GPU under them hangs in the driver until a reboot, or takes the console away.
"""

from typing import NamedTuple

from poolmgr.agent.accelerators import Vendor
from poolmgr.agent.sysfs import Sysfs
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.reasons import Reason

_OFF = ("N", "0")
"""How the kernel prints a boolean parameter that is off, or a number that is 0."""


class KernelUser(NamedTuple):
    name: str
    """As a sentence names it."""
    reason: Reason
    remedy: str


def kernel_users(sysfs: Sysfs, vendor: Vendor, address: PciAddress) -> tuple[KernelUser, ...]:
    """Those of a GPU on a host driver."""
    found = []
    console = sysfs.console_frame_buffer()
    if console and not vendor.leaves_console and sysfs.has_frame_buffer(address, console):
        found.append(
            KernelUser(
                f"the kernel's console, on {console}",
                Reason.BOOT_DISPLAY,
                "boot with the console on another card, or without a frame buffer on this one",
            )
        )
    module = vendor.modeset_module
    modeset = sysfs.read_module_parameter(module, "modeset") if module else None
    if modeset is not None and modeset not in _OFF and sysfs.has_display_node(address):
        found.append(
            KernelUser(
                f"{module}, whose modesetting is on"
                if modeset
                else f"{module}, whose parameter modeset cannot be read",
                Reason.KERNEL_HOLDS,
                f"put `options {module} modeset=0` into /etc/modprobe.d and reboot the node, or unload {module}",
            )
        )
    return tuple(found)
