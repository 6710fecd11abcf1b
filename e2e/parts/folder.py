"""Parts from a folder that somebody filled: `$POOLMGR_PARTS`.

It holds them by their names (`hami-2.10.0/scheduler`, or `….xz`) and a SHA256SUMS. What is used is a copy in
the cache: the folder may lie where the emulated node cannot look. The copy's own digest lies beside it.
"""

import hashlib
import lzma
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.cache import cache_folder, digest_of, has_digest, put
from e2e.parts.catalogue import Entry
from e2e.parts.source import Finding, Part, PartRefused, State

VARIABLE = "POOLMGR_PARTS"
_LINE = re.compile(r"(?P<digest>[0-9a-fA-F]{64}) [ *](?:\./)?(?P<path>\S.*)")
"""As `sha256sum` writes it."""


class FolderSource:
    """`$POOLMGR_PARTS`, asked anew each time."""

    def look(self, name: str, entry: Entry) -> Finding | None:
        folder = self._folder()
        if folder is None:
            return Finding(State.MISSING, f"{VARIABLE} is not set")
        if stored := _stored(folder, name):
            with _reading(stored):
                _check(stored, digest_of(stored), _digest(folder, stored))
            return Finding(State.HERE, str(stored))
        return Finding(State.MISSING, f"{folder} ({VARIABLE}) does not have it")

    def take(self, name: str, entry: Entry) -> Part:
        folder = self._folder()
        stored = _stored(folder, name) if folder else None
        if folder is None or stored is None:
            raise PartRefused(f"{name} has left {folder} ({VARIABLE})")
        expected = _digest(folder, stored)
        copy = cache_folder() / "parts" / "by-digest" / expected / Path(name).name
        note = copy.with_name(f"{copy.name}.sha256")
        if not (note.exists() and has_digest(copy, note.read_text(errors="replace"))):
            content = _content(stored, expected)
            put(copy, content, 0o755)
            put(note, hashlib.sha256(content).hexdigest().encode())
        return Part(name, entry.version, copy, f"{folder} ({VARIABLE})")

    def _folder(self) -> Path | None:
        chosen = os.environ.get(VARIABLE)
        if not chosen:
            return None
        try:
            is_folder = Path(chosen).is_dir()
        except OSError as error:
            raise PartRefused(f"{VARIABLE} is {chosen}, which cannot be read: {error.strerror}") from error
        if not is_folder:
            raise PartRefused(f"{VARIABLE} is {chosen}, which is no folder; correct or unset it")
        return Path(chosen).resolve()


def _stored(folder: Path, name: str) -> Path | None:
    """The part's file, packed or not. Raises PartRefused where something else bears its name."""
    try:
        for path in (folder / f"{name}.xz", folder / name):
            if path.is_file():
                return path
            if os.path.lexists(path):
                raise PartRefused(f"{path} is no file: put the part there, or take it away")
    except OSError as error:
        raise PartRefused(f"{folder} ({VARIABLE}) cannot be read: {error.strerror}") from error
    return None


def _digest(folder: Path, stored: Path) -> str:
    """What SHA256SUMS says of the part's file. Raises PartRefused where it says nothing."""
    inside = stored.relative_to(folder).as_posix()
    expected = _checksums(folder).get(inside)
    if expected is None:
        raise PartRefused(
            f"{folder}/SHA256SUMS has no line for {inside}, and nothing is used unchecked; in {folder}, run "
            f"`sha256sum {inside} >>SHA256SUMS` once you know where the file comes from"
        )
    return expected


def _checksums(folder: Path) -> dict[str, str]:
    """Path → digest, from SHA256SUMS; none where that is missing. Raises PartRefused."""
    path = folder / "SHA256SUMS"
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise PartRefused(f"{path} cannot be read: {error}; make it anew with sha256sum") from error
    found = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if (match := _LINE.fullmatch(line)) is None:
            raise PartRefused(f"{path}:{number} is not as sha256sum writes it: {line[:80]!r}; make it anew")
        found[match["path"]] = match["digest"].lower()
    return found


@contextmanager
def _reading(stored: Path) -> Iterator[None]:
    """Raises PartRefused where the part's file cannot be read."""
    try:
        yield
    except OSError as error:
        raise PartRefused(f"{stored} cannot be read: {error.strerror}") from error


def _check(stored: Path, actual: str, expected: str) -> None:
    """Raises PartRefused where the part's file has another digest than SHA256SUMS says."""
    if actual != expected:
        raise PartRefused(f"{stored} is not what SHA256SUMS says (it is {actual}); get a fresh copy")


def _content(stored: Path, expected: str) -> bytes:
    """What is in the part's file, unpacked, once its digest is as expected. Raises PartRefused."""
    with _reading(stored):
        content = stored.read_bytes()
    _check(stored, hashlib.sha256(content).hexdigest(), expected)
    try:
        return lzma.decompress(content) if stored.suffix == ".xz" else content
    except lzma.LZMAError as error:
        raise PartRefused(f"{stored} is not packed by xz ({error}); pack it anew, and SHA256SUMS") from error
