"""The file of a recording: JSON, versioned, bounded, and nothing in it is believed before it has been checked.

`VERSION` counts changes that an older reader would misread; a field that is added does not raise it.
"""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from poolmgr.agent.accelerators import Vendor
from poolmgr.agent.files import printable
from poolmgr.agent.journal import DAMAGED
from poolmgr.agent.node_sources import Identity
from poolmgr.agent.nvml import NvmlReport
from poolmgr.domain.errors import Rejected
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.reasons import Reason

VERSION = 1
KIND = "poolmgr-node-recording"
MAX_BYTES = 16 << 20
"""Of a file. A board with eight GPUs and a hundred processes on them takes half a megabyte."""

Question = Literal["read", "entries", "folders", "target", "number"]
"""The methods of `NodeFiles`."""
QUESTIONS: tuple[Question, ...] = get_args(Question)


class FileAnswers(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What `NodeFiles` answered, by path; /sys and /proc stand for where they were."""

    texts: dict[str, str] = {}
    hex: dict[str, str] = {}
    """Of files that are no text that can be shown."""
    entries: dict[str, tuple[str, ...]] = {}
    folders: dict[str, tuple[str, ...]] = {}
    targets: dict[str, str] = {}
    numbers: dict[str, tuple[int, int] | None] = {}
    errors: dict[Question, dict[str, str]] = {}
    """Question → path → the kernel's name of its refusal, as `ENOENT`."""


class KubeletRecord(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The kubelet's pod-resources in protobuf's own JSON form."""

    here: bool = True
    """The machine has a kubelet."""
    error: str = ""
    allocatable: dict[str, Any] = {}
    pods: dict[str, Any] = {}
    """Those that were given anything."""


class Recording(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One node at one moment."""

    kind: str = KIND
    version: int = VERSION
    agent_version: str
    kernel: str
    recorded_at: str
    """RFC 3339."""
    accelerators: tuple[str, ...]
    """Data files by name, of those that come with the agent."""
    vendors: tuple[Vendor, ...] = ()
    """Data files of the node's own, whole."""
    files: FileAnswers = FileAnswers()
    nvml: NvmlReport = msgspec.field(default_factory=NvmlReport)
    kubelet: KubeletRecord = KubeletRecord()
    in_flight: tuple[PciAddress, ...] = ()
    """Functions about which a write had not returned."""
    remembered: dict[PciAddress, Identity] = {}
    """From the agent's journal."""


class _Header(msgspec.Struct, frozen=True, rename="camel"):
    kind: str = ""
    version: int = 0
    agent_version: str = ""


def encode(recording: Recording) -> bytes:
    """Raises Rejected for more than a file may hold."""
    content = msgspec.json.format(msgspec.json.encode(recording, order="sorted"), indent=1) + b"\n"
    if len(content) > MAX_BYTES:
        message = (
            f"this recording would have {len(content) >> 20} MiB, more than the {MAX_BYTES >> 20} MiB that are read again: "
            "end some of the processes that have devices open, or report the node without a recording"
        )
        raise Rejected(Reason.UNSUITABLE, message)
    return content


def load(path: Path) -> Recording:
    """Read a file, of whoever. Raises Rejected with what is wrong with it."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _no_recording(path, error.strerror or str(error)) from error
    if len(content) > MAX_BYTES:
        raise _no_recording(path, f"it has more than {MAX_BYTES >> 20} MiB")
    return decode(content, path)


def decode(content: bytes, path: Path) -> Recording:
    """`path` is for the sentence. Raises Rejected."""
    try:
        header = msgspec.json.decode(content, type=_Header)
    except DAMAGED as error:
        raise _no_recording(path, str(error)) from error
    if header.kind != KIND:
        raise _no_recording(path, f"it does not say that it is one (kind: {KIND})")
    if header.version > VERSION:
        raise _no_recording(
            path,
            f"version {header.version} is newer than version {VERSION}, the newest that this release reads: judge it with "
            f"poolmgr {shown(header.agent_version)}, which made it",
        )
    try:
        recording = msgspec.json.decode(content, type=Recording)
        _check(recording)
    except DAMAGED as error:
        raise _no_recording(path, str(error)) from error
    return recording


def _check(recording: Recording) -> None:
    """Raises ValueError for what decoding lets through and no node would say."""
    for text in _strings(msgspec.to_builtins(recording)):
        if shown(text) != text:
            raise ValueError(f"there are control characters in {shown(text)[:80]!r}")
    if "/proc" not in recording.files.entries:
        raise ValueError("it lists no processes, so it says nothing about who holds a device")
    for path, data in recording.files.hex.items():
        if not data.isascii() or len(data) % 2 or not all(c in "0123456789abcdef" for c in data):
            raise ValueError(f"what {path} holds is no hexadecimal text")
    for refused in recording.files.errors.values():
        for path, name in refused.items():
            if name not in errno.errorcode.values():
                raise ValueError(f"{name!r} for {path} is no error of the kernel")


def _strings(value: Any) -> Iterator[str]:
    """Every string in plain values, without recursion: they are a stranger's."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            pending += item


def shown(text: str) -> str:
    """As a recording holds it: lines and columns of the kernel's files stay."""
    return printable(text, "\n\t")


def _no_recording(path: Path, why: str) -> Rejected:
    return Rejected(
        Reason.INVALID_REQUEST,
        f"{path} cannot be read as the recording of a node: {why}. Make one with `poolmgr agent record`.",
    )
