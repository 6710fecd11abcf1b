"""What containers with libhook are shown of their node, read-only: its settings, their own limits, and the others'
activity on the GPUs.

HAMi's plugin mounts `FOLDER/license`, where there is one, read-only as /tmp/license into every container that it starts
(and `FOLDER/vgpuvalidator` as /usr/bin/vgpuvalidator). That folder is kept here:

- `hook.conf`: the node's settings, which a container's environment may only lower.
- `limits/HASH.conf`: what HAMi gave one container. HASH is of the name of the container's folder, which a program finds
  by its mount and cannot choose.
- `regions/INODE.cache`: hard links to the regions that containers write, each into its own folder alone.
"""

import os
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from poolmgr.domain.errors import Rejected, Unavailable
from poolmgr.domain.reasons import Reason
from poolmgr.wire.hami.pods import decode_assignments
from poolmgr.wire.kube_pod import Pod

MOUNTED_AS = Path("/tmp/license")
REGION = "poolmgr.cache"
DEFAULT_SETTINGS: Mapping[str, str] = {"context_memory": "measured", "context_bytes": "128Mi"}
"""As in the chart's `agent.hook.settings`."""


@dataclass(frozen=True, slots=True)
class ContainerLimits:
    """`memory_mib` by the container's GPUs in HAMi's order, 0 = none; `cores` percent of each, 0 = none."""

    memory_mib: tuple[int, ...]
    cores: int

    def text(self) -> str:
        lines = [f"memory_limit.{index} = {mib}Mi" for index, mib in enumerate(self.memory_mib) if mib]
        return "\n".join([*lines, f"core_limit = {self.cores}"]) + "\n"


def given_by_hami(pod: Pod) -> dict[str, ContainerLimits]:
    """What HAMi gave each container of a Pod, by the name of its folder; nothing where that cannot be told."""
    slots = decode_assignments(pod.metadata.annotations.allocated)
    work, init = pod.spec.containers, pod.spec.init_containers
    containers = next((some for some in (work, init + work) if len(some) == len(slots)), ())
    return {
        # The plugin sets the memory of each GPU, and the first one's cores for all of them.
        f"{pod.metadata.uid}_{container.name}": ContainerLimits(
            tuple(gpu.memory_mib for gpu in gpus), min(gpus[0].cores_percent, 100)
        )
        for container, gpus in zip(containers, slots if containers else (), strict=True)
        if gpus and all(gpu.kind == "NVIDIA" for gpu in gpus)
    }


def container_hash(name: str) -> str:
    """FNV-1a of 64 bits, as `ph_hash` in libhook's config.c."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def parse_settings(text: str) -> dict[str, str]:
    """`name = value` lines, `#` begins a comment line. Raises Rejected: libhook would ignore a file with a mistake as a whole."""
    found = {}
    for line in text.splitlines():
        name, separator, value = (part.strip() for part in line.partition("="))
        if name.startswith("#") or not (name or separator):
            continue
        if not separator or not name or not value or value.split() != [value] or "#" in value:
            raise Rejected(
                Reason.INVALID_REQUEST,
                f"'{line}' is no setting of libhook: write `name = value` in each line",
            )
        found[name] = value
    return found


def settings_text(settings: Mapping[str, str], folder: Path) -> str:
    """The node's file. `folder` is a container's own as it sees it."""
    own = {
        "region": str(folder / REGION),
        "activity": str(MOUNTED_AS / "regions"),
        "limits": str(MOUNTED_AS / "limits"),
    }
    lines = [f"{name} = {value}" for name, value in ({**settings, **own}).items()]
    return "\n".join(["# Kept by poolmgr's agent: change the chart's agent.hook.settings.", *lines]) + "\n"


def _write(path: Path, text: str) -> None:
    """Whole or not at all; nothing if it is so already."""
    with suppress(FileNotFoundError):
        if path.read_text() == text:
            return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.chmod(0o644)
    fresh.rename(path)


class HookNode:
    """Called once a pass. `folder` is HAMi's `/usr/local/vgpu`; `seen_as` is where each container sees its own folder,
    by HAMi's plugin the same path."""

    def __init__(self, folder: Path, settings: Mapping[str, str], seen_as: Path | None = None) -> None:
        self._folder = folder
        self._shown = folder / "license"
        self._text = settings_text(settings, seen_as or folder)
        self._asked: dict[str, int] = {}

    def show(self) -> None:
        """Settings and links to the regions. Raises Unavailable where the folder cannot be written, Rejected where
        it is somebody else's."""
        if self._shown.is_symlink() or (self._shown.exists() and not self._shown.is_dir()):
            raise Rejected(
                Reason.HOOK_NOT_IN_PLACE,
                f"{self._shown} was not made by poolmgr: containers get libhook without the node's settings and do "
                "not know of each other. Remove it, unless HAMi needs it as a licence",
            )
        try:
            for folder in (self._shown, self._shown / "regions", self._shown / "limits"):
                folder.mkdir(mode=0o755, exist_ok=True)
                folder.chmod(0o755)
            _write(self._shown / "hook.conf", self._text)
            (self._folder / "vgpuvalidator").touch(mode=0o644)  # HAMi mounts it beside
            self._link_regions()
            self._forget_limits()
        except OSError as error:
            message = f"{self._shown} cannot be written: {error.strerror} ({error.filename})"
            raise Unavailable(Reason.HOOK_NOT_IN_PLACE, message, 30) from error

    def withdraw(self) -> None:
        """Takes it away once no container with libhook is left: its programs read it when they start."""
        if not (self._shown / "hook.conf").is_file():
            return
        with suppress(OSError):
            self._link_regions()
            if not any((self._shown / "regions").iterdir()):
                shutil.rmtree(self._shown)
                (self._folder / "vgpuvalidator").unlink(missing_ok=True)

    def containers(self) -> list[Path]:
        """HAMi's folders of the node's containers, `<pod UID>_<container>`."""
        with suppress(OSError):
            return sorted(path for path in (self._folder / "containers").iterdir() if path.is_dir())
        return []

    def unlimited(self, tries: int = 5) -> bool:
        """Whether a container is there of which the API server has to be asked. One that it does not know (its
        folder outlives the pod for a while) is asked for `tries` times."""
        names = {path.name for path in self.containers() if not self._limits_of(path.name).exists()}
        self._asked = {name: self._asked.get(name, 0) + 1 for name in names}
        return any(asked <= tries for asked in self._asked.values())

    def limit(self, given: Mapping[str, ContainerLimits]) -> None:
        """Writes what containers were given, by the names of their folders. Once: what a tenant can do to its pod's
        annotations later raises nothing. Raises Unavailable."""
        try:
            for path in self.containers():
                if path.name in given and not self._limits_of(path.name).exists():
                    _write(self._limits_of(path.name), given[path.name].text())
        except OSError as error:
            message = f"limits cannot be written: {error.strerror} ({error.filename})"
            raise Unavailable(Reason.HOOK_NOT_IN_PLACE, message, 30) from error

    def _limits_of(self, name: str) -> Path:
        return self._shown / "limits" / f"{container_hash(name)}.conf"

    def _forget_limits(self) -> None:
        known = {self._limits_of(path.name).name for path in self.containers()}
        for path in (self._shown / "limits").iterdir():
            if path.name not in known:
                path.unlink()

    def _link_regions(self) -> None:
        links = self._shown / "regions"
        wanted: dict[str, Path] = {}
        for folder in self.containers():
            region = folder / REGION
            with suppress(FileNotFoundError):
                found = region.lstat()
                if stat.S_ISREG(found.st_mode) and not found.st_mode & 0o7111:
                    wanted[f"{found.st_ino}.cache"] = region
        for link in links.iterdir():
            if link.name not in wanted:
                link.unlink()
        for name, region in wanted.items():
            with suppress(FileExistsError, FileNotFoundError):
                os.link(region, links / name, follow_symlinks=False)
