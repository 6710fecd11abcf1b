"""Who has a GPU open: every process of the node, by device number.

Paths lie: a container may have the device under any name, in a mount namespace of its own. The number of
the open file does not. This needs the host's PID namespace.
"""

import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

from poolmgr.agent.files import KERNEL_FILES, DeviceNumber, NodeFiles, parse_number, printable
from poolmgr.agent.inventory import Accelerator
from poolmgr.domain.errors import Rejected
from poolmgr.domain.fleet import Holder
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.reasons import Reason

_POD_IN_CGROUP = re.compile(r"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})")
_NOT_DEVICES = ("socket:", "pipe:", "anon_inode:", "/memfd:")
_VFIO_FOLDER = "vfio/"
VFIO_DEVICE = "anon_inode:[vfio-device]"

_INITIAL_PID_NAMESPACE = "pid:[4026531836]"
"""Inode of the namespace that the kernel starts in (PROC_PID_INIT_INO, fixed since Linux 3.8)."""

CGROUP_BYTES = 64 << 10
"""A path is at most a page, and a process has one in each of a dozen hierarchies at most (cgroup v1)."""

BY_KUBELET = "the kubelet"
"""In place of a path: the kubelet gave the GPU to the pod."""
UNKNOWN_FILES = "device files whose numbers are not known"
"""In place of a path: whoever has the GPU open could not be found."""
BY_NVML = "NVML"
"""In place of a path: NVML lists the process."""
UNREADABLE = "open files that cannot be read"
"""In place of a path: the process may have any GPU open."""
GONE = (FileNotFoundError, ProcessLookupError)
"""What the kernel says of a process that has ended or a file that was closed since it was listed."""


def check_sees_all_processes(proc: Path = Path("/proc"), *, any_pid_namespace: bool = False) -> None:
    """Raise Rejected where holders could be overlooked: without root, or in a PID namespace of one's own.

    A GPU with a holder that is not seen would be unbound under it.
    """
    if os.geteuid() != 0:
        raise Rejected(
            Reason.UNSUITABLE,
            "this needs root: other users cannot see every process, and so not every holder of a GPU",
        )
    if not any_pid_namespace and str((proc / "self/ns/pid").readlink()) != _INITIAL_PID_NAMESPACE:
        raise Rejected(
            Reason.UNSUITABLE,
            "this process cannot see the host's processes, so it would miss holders of a GPU: set hostPID: true on "
            "its pod (where the node itself is a container: poolmgr agent run --any-pid-namespace)",
        )


def find_holders(
    accelerators: Iterable[Accelerator],
    proc: Path = Path("/proc"),
    files: NodeFiles = KERNEL_FILES,
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
    for name in sorted(files.entries(f"{proc}")):
        pid = parse_number(name)
        if pid is None:
            continue
        process = f"{proc}/{name}"
        try:
            opened = _open_devices(process, wanted, files)
        except GONE:
            continue
        except OSError:  # refused, as by a security module; whoever hides there must not be overlooked
            opened = [(address, UNREADABLE) for address in found]
        for address, path in opened:
            if address not in found:
                continue
            found[address].setdefault(
                (pid, path),
                Holder(
                    pid=pid, command=_command(files, process), pod_uid=_pod_uid(files, process), path=path
                ),
            )
    return {address: tuple(holders.values()) for address, holders in found.items()}


def holders_by_nvml(
    pids: Iterable[int], proc: Path = Path("/proc"), files: NodeFiles = KERNEL_FILES
) -> tuple[Holder, ...]:
    """Processes that NVML shows on a GPU, those that have ended since left out. They have its device file open, too, unless
    its number is another than is thought."""
    found = []
    for pid in pids:
        process = f"{proc}/{pid}"
        try:
            files.entries(f"{process}/fd")
        except GONE:
            continue
        except OSError:
            pass  # it is there
        found.append(Holder(pid, _command(files, process), _pod_uid(files, process), BY_NVML))
    return tuple(found)


def _open_devices(
    process: str,
    wanted: dict[DeviceNumber, list[PciAddress]],
    files: NodeFiles,
) -> list[tuple[PciAddress, str]]:
    """Raises OSError where it cannot be told what the process has open."""
    result: list[tuple[PciAddress, str]] = []
    nameless = by_group = False
    # By strings: a node has tens of thousands of open files, and `Path` takes longer for each than the kernel.
    for name in files.entries(f"{process}/fd"):
        descriptor = f"{process}/fd/{name}"
        try:
            target = files.target(descriptor)
            if target == VFIO_DEVICE:
                named = _vfio_device(files.read(f"{process}/fdinfo/{name}"))
                nameless |= not named
                result.extend(named)
                continue
            if target.startswith(_NOT_DEVICES):
                continue
            number = _number(descriptor, target, files)
        except GONE:
            continue
        if number is not None:
            by_group |= _VFIO_FOLDER in target
            result.extend((address, _shown(os.fsencode(target))) for address in wanted.get(number, ()))
    if nameless and not by_group:
        raise OSError(errno.ENODATA, "a vfio device that neither the kernel nor an open group identifies")
    return result


def _number(descriptor: str, target: str, files: NodeFiles) -> DeviceNumber | None:
    try:
        return files.number(descriptor)
    except GONE:
        raise
    except OSError:
        # A file system of a user's own, or one whose server is away, says so even to root, and has no devices.
        if target.startswith("/dev/"):
            raise
        return None


def _vfio_device(fdinfo: bytes) -> list[tuple[PciAddress, str]]:
    """An open vfio device may outlive the group file it came from; newer kernels (6.18) name the function
    in fdinfo. Older ones say nothing there, and the open group file has to do; a process without one may have any."""
    for line in fdinfo.decode(errors="replace").splitlines():
        key, _, path = line.partition(":")
        if key == "vfio-device-syspath":
            return [(PciAddress(Path(path.strip()).name), VFIO_DEVICE)]
    return []


def _command(files: NodeFiles, process: str) -> str:
    """Whatever a process calls itself, as text that can be shown."""
    try:
        return _shown(files.read(f"{process}/comm").strip())
    except OSError:
        return ""


def _pod_uid(files: NodeFiles, process: str) -> str:
    """The pod a process belongs to, from its cgroup path: `…/pod<uid>/…`, with `_` for `-` under systemd."""
    try:
        found = pod_in_cgroup(files.read(f"{process}/cgroup", CGROUP_BYTES))
    except OSError:
        return ""
    return found.removeprefix("pod").replace("_", "-")


def pod_in_cgroup(text: bytes) -> str:
    """The part of /proc/<pid>/cgroup that names the pod, as it is written there; empty where none does."""
    match = _POD_IN_CGROUP.search(_shown(text))
    return match[0] if match else ""


def _shown(text: bytes) -> str:
    return printable(text.decode(errors="replace"))
