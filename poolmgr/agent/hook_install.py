"""Keeps libhook in the place of HAMi's library on the node, atomically, and puts it back when HAMi's plugin has
copied its own again.

Containers mount the file that is there when they start, by inode: replacing the name by rename leaves a running
container's copy untouched. HAMi's file is kept beside ours, so that taking libhook away again is one rename too.
"""

import hashlib
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from poolmgr.domain.errors import Fault, Unavailable
from poolmgr.domain.reasons import Reason

NAME = "libvgpu.so"
THEIRS = "libvgpu.hami.so"


class InstallState(StrEnum):
    IN_PLACE = "InPlace"
    INSTALLED = "Installed"
    RESTORED = "Restored"  # HAMi's plugin had put its own back
    NO_FOLDER = "NoFolder"  # HAMi has not been here


@dataclass(frozen=True, slots=True)
class InstallResult:
    state: InstallState
    message: str


def digest(path: Path) -> str | None:
    """SHA-256 of a regular file, None if there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def _replace(content: bytes, target: Path) -> None:
    """Whole or not at all, also through a power cut; a reader sees the old file or the new one."""
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o755)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def ensure_hook(library: Path, folder: Path) -> InstallResult:
    """Makes `folder`/libvgpu.so be `library`. Idempotent; call it again and again (every agent round).

    Raises Fault if `library` is missing or no shared library, Unavailable if the folder cannot be written now.
    """
    target, kept = folder / NAME, folder / THEIRS
    if not folder.is_dir():
        return InstallResult(
            InstallState.NO_FOLDER, f"{folder} is not there: HAMi's device plugin has not run on this node."
        )
    wanted = digest(library)
    if wanted is None or not library.read_bytes().startswith(b"\x7fELF"):
        raise Fault(
            Reason.INVARIANT_BROKEN, f"{library} is no shared library: this agent's image is incomplete."
        )
    found = digest(target)
    if found == wanted:
        return InstallResult(InstallState.IN_PLACE, f"libhook is in place in {folder}.")
    try:
        if found is not None:
            _replace(target.read_bytes(), kept)
        _replace(library.read_bytes(), target)
    except OSError as error:
        raise Unavailable(
            Reason.VERIFY_FAILED, f"libhook cannot be put into {folder}: {error.strerror}.", 30
        ) from error
    if digest(target) != wanted:
        raise Unavailable(
            Reason.VERIFY_FAILED, f"{target} changed while it was being written; trying again.", 5
        )
    marker = folder / ".libhook"
    before = marker.exists()
    marker.touch()
    if before:
        return InstallResult(
            InstallState.RESTORED, f"HAMi's plugin had put its own library into {folder}; libhook is back."
        )
    return InstallResult(InstallState.INSTALLED, f"libhook is installed in {folder}; new containers use it.")


def remove_hook(folder: Path) -> InstallResult:
    """Gives HAMi's library its place back, if it was kept."""
    kept = folder / THEIRS
    if kept.exists():
        kept.rename(folder / NAME)
    (folder / ".libhook").unlink(missing_ok=True)
    return InstallResult(InstallState.IN_PLACE, f"HAMi's own library is in place in {folder}.")
