"""Who has a GPU open: every process of the node, by device number.

Paths lie: a container may have the device under any name, in a mount namespace of its own. The number of
the open file does not. This needs the host's PID namespace.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from poolmgr.agent.inventory import Accelerator
from poolmgr.domain.errors import Rejected
from poolmgr.domain.fleet import Holder
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.reasons import Reason

_POD_IN_CGROUP = re.compile(r"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})")
_NOT_DEVICES = ("socket:", "pipe:", "anon_inode:", "/memfd:")
_VFIO_DEVICE = "anon_inode:[vfio-device]"

_INITIAL_PID_NAMESPACE = "pid:[4026531836]"
"""Inode of the namespace that the kernel starts in (PROC_PID_INIT_INO, fixed since Linux 3.8)."""

DeviceNumber = tuple[int, int]

UNREADABLE = "open files that cannot be read"
"""In place of a path: the process may have any GPU open."""
_GONE = (FileNotFoundError, ProcessLookupError)
"""What the kernel says of a process that has ended or a file that was closed since it was listed."""


def check_sees_all_processes(proc: Path = Path("/proc"), *, any_pid_namespace: bool = False) -> None:
    """Raise Rejected where holders could be overlooked: without root, or in a PID namespace of one's own.

    A GPU with a holder that is not seen would be unbound under it.
    """
    if os.geteuid() != 0:
        raise Rejected(
            Reason.UNSUITABLE,
            "this needs root: without it other users' processes, and so a GPU's holders, cannot be seen",
        )
    if not any_pid_namespace and str((proc / "self/ns/pid").readlink()) != _INITIAL_PID_NAMESPACE:
        raise Rejected(
            Reason.UNSUITABLE,
            "this process does not see the host's processes, and so not who holds a GPU: set hostPID: true on "
            "its pod (where the node itself is a container: poolmgr agent run --any-pid-namespace)",
        )


def device_number_of(path: str) -> DeviceNumber | None:
    """(major, minor) of an open character device, through /proc/<pid>/fd/<n>."""
    info = os.stat(path)
    if not stat.S_ISCHR(info.st_mode):
        return None
    return os.major(info.st_rdev), os.minor(info.st_rdev)


def find_holders(
    accelerators: Iterable[Accelerator],
    proc: Path = Path("/proc"),
    number_of: Callable[[str], DeviceNumber | None] = device_number_of,
) -> dict[PciAddress, tuple[Holder, ...]]:
    """One walk over all processes. Each process is reported once per GPU and file; one whose open files cannot be read
    holds every GPU, with UNREADABLE as path.

    A device below a driver (no vfio group, no DRM node) cannot be held by a file; kernel users without a
    file are what `nvml.quiesce` and the preflight are for.
    """
    wanted: dict[DeviceNumber, list[PciAddress]] = {}
    found: dict[PciAddress, dict[tuple[int, str], Holder]] = {}
    for gpu in accelerators:
        found[gpu.address] = {}
        for file in gpu.device_files:
            wanted.setdefault((file.major, file.minor), []).append(gpu.address)
    for name in sorted(filter(str.isdigit, os.listdir(proc))):
        try:
            opened = _open_devices(f"{proc}/{name}", wanted, number_of)
        except _GONE:
            continue
        except OSError:  # refused, as by a security module; whoever hides there must not be overlooked
            opened = [(address, UNREADABLE) for address in found]
        for address, path in opened:
            if address not in found:
                continue
            pid, process = int(name), proc / name
            found[address].setdefault(
                (pid, path),
                Holder(pid=pid, command=_command(process), pod_uid=_pod_uid(process), path=path),
            )
    return {address: tuple(holders.values()) for address, holders in found.items()}


def _open_devices(
    process: str,
    wanted: dict[DeviceNumber, list[PciAddress]],
    number_of: Callable[[str], DeviceNumber | None],
) -> list[tuple[PciAddress, str]]:
    """Raises OSError where it cannot be told what the process has open."""
    result: list[tuple[PciAddress, str]] = []
    # By strings: a node has tens of thousands of open files, and `Path` takes longer for each than the kernel.
    for name in os.listdir(f"{process}/fd"):
        descriptor = f"{process}/fd/{name}"
        try:
            target = os.readlink(descriptor)
            if target == _VFIO_DEVICE:
                result.extend(_vfio_device(Path(process, "fdinfo", name)))
                continue
            if target.startswith(_NOT_DEVICES):
                continue
            number = _number(descriptor, target, number_of)
        except _GONE:
            continue
        if number is not None:
            result.extend((address, _shown(os.fsencode(target))) for address in wanted.get(number, ()))
    return result


def _number(
    descriptor: str, target: str, number_of: Callable[[str], DeviceNumber | None]
) -> DeviceNumber | None:
    try:
        return number_of(descriptor)
    except _GONE:
        raise
    except OSError:
        # A file system of a user's own, or one whose server is away, says so even to root, and has no devices.
        if target.startswith("/dev/"):
            raise
        return None


def _vfio_device(fdinfo: Path) -> list[tuple[PciAddress, str]]:
    """An open vfio device may outlive the group file it came from; newer kernels (6.18) name the function
    in fdinfo. Older ones say nothing there, and the open group file has to do."""
    for line in fdinfo.read_text(errors="replace").splitlines():
        key, _, path = line.partition(":")
        if key == "vfio-device-syspath":
            return [(PciAddress(Path(path.strip()).name), _VFIO_DEVICE)]
    return []


def _command(process: Path) -> str:
    """Whatever a process calls itself, as text that can be shown."""
    try:
        return _shown((process / "comm").read_bytes().strip())
    except OSError:
        return ""


def _pod_uid(process: Path) -> str:
    """The pod a process belongs to, from its cgroup path: `…/pod<uid>/…`, with `_` for `-` under systemd."""
    try:
        match = _POD_IN_CGROUP.search(_shown((process / "cgroup").read_bytes()))
    except OSError:
        return ""
    return match.group(1).replace("_", "-") if match else ""


def _shown(text: bytes) -> str:
    return "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}"
        for c in text.decode(errors="replace")
    )
