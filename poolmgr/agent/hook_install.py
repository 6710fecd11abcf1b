"""Keeps libhook in the place of HAMi's library on the node.

`FOLDER/libvgpu.so.VERSION` and `FOLDER/libvgpu.so` (HAMi's plugin mounts the first, and where it does not see that the
second, into containers as `libvgpu.so`) become symbolic links to a copy of libhook in the agent's own store, named by
its content. That has three reasons:

- Containers mount the file that is there when they start, by inode. A copy in the store is never written again,
  so nothing that happens later reaches a running container.
- HAMi's plugin copies its own library over the name at each of its starts, and every move of a GPU restarts it. It
  writes in place: over a plain file it would change the library under every running container. Inside the plugin's
  container the store does not exist, the link leads nowhere, and `cp` refuses to write through it.
- The container runtime resolves the link on the host before it mounts.

HAMi's file stays beside it under another name with its inode, for the containers that have it and for the way back.
"""

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from poolmgr.domain.errors import Fault, Unavailable
from poolmgr.domain.reasons import Reason
from poolmgr.kit.elf import why_not_loaded

NAME = "libvgpu.so"
THEIRS = "libvgpu.hami.so"


class InstallState(StrEnum):
    IN_PLACE = "InPlace"
    INSTALLED = "Installed"
    RESTORED = "Restored"  # somebody had put another library there
    REMOVED = "Removed"
    NO_FOLDER = "NoFolder"  # HAMi has not been here


@dataclass(frozen=True, slots=True)
class InstallResult:
    state: InstallState
    message: str


@dataclass(frozen=True, slots=True)
class HookPlace:
    """Where libhook comes from, where HAMi looks for it, and where copies are kept. `store` must have the same
    path in the agent as on the host."""

    library: Path = Path("/opt/poolmgr/lib/libvgpu.so")
    folder: Path = Path("/usr/local/vgpu")
    store: Path = Path("/var/lib/poolmgr/hook")

    @property
    def target(self) -> Path:
        return self.folder / NAME

    def targets(self) -> list[Path]:
        """Every name under which HAMi's plugin may mount its library: without a version, and with each one that
        is or was installed."""
        return [self.target, *sorted(self.folder.glob(f"{NAME}.*"))]

    def backup(self, target: Path) -> Path:
        """Where HAMi's file of that name is set aside."""
        return self.folder / target.name.replace(NAME, THEIRS, 1)

    def content(self) -> bytes:
        """The library that this agent brings. Raises Fault where there is none."""
        try:
            content = self.library.read_bytes()
        except OSError as error:
            raise Fault(
                Reason.HOOK_NOT_IN_PLACE,
                f"{self.library} cannot be read ({error.strerror}): this agent's image is built without libhook",
            ) from error
        if wrong := why_not_loaded(content, platform.machine()):
            raise Fault(Reason.HOOK_NOT_IN_PLACE, f"{self.library} {wrong}")
        return content

    def copy_of(self, content: bytes) -> Path:
        """Where a copy of this content is kept; it need not be there yet."""
        return self.store / f"libvgpu-{hashlib.sha256(content).hexdigest()[:16]}.so"

    def leads_to_ours(self, target: Path) -> bool:
        """Whether the name leads to any copy of ours."""
        return target.is_symlink() and target.readlink().parent == self.store

    def is_ours(self) -> bool:
        """Whether new containers get a copy of ours, whichever name HAMi's plugin mounts."""
        return all(self.leads_to_ours(target) for target in self.targets())


@contextmanager
def _file_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"libhook cannot be put into {folder}: {error.strerror} ({error.filename})"
        raise Unavailable(Reason.HOOK_NOT_IN_PLACE, message, 30) from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _keep_copy(content: bytes, copy: Path) -> None:
    """Whole or not at all, also through a power cut."""
    if copy.exists():
        return
    copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = copy.with_name(f".{copy.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o755)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.chmod(0o555)
    fresh.rename(copy)
    _sync(copy.parent)


def _set_theirs_aside(place: HookPlace, target: Path) -> bool:
    """True if a library of somebody else was at the name; it keeps its inode under another."""
    if target.is_symlink() or not target.exists():
        return False
    fresh = place.folder / f".{THEIRS}.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    os.link(target, fresh)
    fresh.rename(place.backup(target))
    return True


def ensure_hook(place: HookPlace, *, dry_run: bool = False) -> InstallResult:
    """Makes the names lead to libhook. Idempotent; call it again and again (every pass of the agent).

    Raises Fault where the library is missing or for another machine, Unavailable where the folder cannot be written.
    """
    if not place.folder.is_dir():
        sentence = f"{place.folder} is not there: HAMi's device plugin has not run on this node"
        return InstallResult(InstallState.NO_FOLDER, sentence)
    content = place.content()
    wanted = place.copy_of(content)
    with _file_errors(place.folder):
        wrong = [
            target
            for target in place.targets()
            if not (target.is_symlink() and target.readlink() == wanted and wanted.exists())
        ]
        if not wrong:
            return InstallResult(InstallState.IN_PLACE, f"libhook is in place in {place.folder}")
        if dry_run:
            names = " and ".join(str(target) for target in wrong)
            return InstallResult(
                InstallState.INSTALLED,
                f"would make {names} a link to {wanted}; running containers keep theirs",
            )
        _keep_copy(content, wanted)
        put_back = False
        for target in wrong:
            had_theirs = place.backup(target).exists()
            put_back |= _set_theirs_aside(place, target) and had_theirs
            fresh = place.folder / f".{NAME}.{os.getpid()}"
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(wanted)
            fresh.rename(target)
        _sync(place.folder)
    if put_back:
        sentence = f"another library had been put into {place.folder}; libhook is back for new containers"
        return InstallResult(InstallState.RESTORED, sentence)
    return InstallResult(InstallState.INSTALLED, f"libhook is installed in {place.folder} for new containers")


def remove_hook(place: HookPlace, *, dry_run: bool = False) -> InstallResult:
    """Gives HAMi's library its place back. Containers that run with libhook keep it."""
    ours = [target for target in place.targets() if place.leads_to_ours(target)]
    if not ours:
        return InstallResult(InstallState.REMOVED, f"libhook is not in {place.folder}")
    backed_up = [target for target in ours if place.backup(target).exists()]
    if dry_run:
        what = (
            f"put {' and '.join(str(place.backup(target)) for target in backed_up)} back"
            if backed_up
            else "take the link away; HAMi's plugin copies its own at its next start"
        )
        return InstallResult(InstallState.REMOVED, f"would {what}")
    with _file_errors(place.folder):
        for target in ours:
            if target in backed_up:
                place.backup(target).rename(target)
            else:
                target.unlink()
        _sync(place.folder)
    return InstallResult(InstallState.REMOVED, f"HAMi's own library is back in {place.folder}")
