"""Parts from a folder that somebody filled: `$POOLMGR_PARTS`.

It holds them by their names (`hami-2.10.0/scheduler`, or `….xz`) and a SHA256SUMS. What is used is a copy in
the cache: the folder may lie where the emulated node cannot look.
"""

import hashlib
import lzma
import os
from pathlib import Path

from e2e.cache import cache_folder, put
from e2e.parts.catalogue import Entry
from e2e.parts.source import Finding, Part, PartRefused, State

VARIABLE = "POOLMGR_PARTS"


class FolderSource:
    """`$POOLMGR_PARTS`, asked anew each time."""

    def look(self, name: str, entry: Entry) -> Finding | None:
        folder = self._folder()
        if folder is None:
            return Finding(State.MISSING, f"{VARIABLE} is not set")
        if stored := _stored(folder, name):
            return Finding(State.HERE, str(stored))
        return Finding(State.MISSING, f"{folder} ({VARIABLE}) does not have it")

    def take(self, name: str, entry: Entry) -> Part:
        folder = self._folder()
        stored = _stored(folder, name) if folder else None
        if folder is None or stored is None:
            raise PartRefused(f"{name} has left {folder} ({VARIABLE})")
        expected = _checksums(folder).get(stored.relative_to(folder).as_posix())
        if expected is None:
            raise PartRefused(f"{stored} has no line in SHA256SUMS beside it; it is not used unchecked")
        copy = cache_folder() / "parts" / "by-digest" / expected / Path(name).name
        if not copy.exists():
            _copy(stored, copy, expected)
        return Part(name, entry.version, copy, f"{folder} ({VARIABLE})")

    def _folder(self) -> Path | None:
        chosen = os.environ.get(VARIABLE)
        if not chosen:
            return None
        if not Path(chosen).is_dir():
            raise PartRefused(f"{VARIABLE} is {chosen}, which is no folder; correct or unset it")
        return Path(chosen).resolve()


def _stored(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.xz", folder / name) if path.exists()), None)


def _checksums(folder: Path) -> dict[str, str]:
    """Path → digest, as `sha256sum` writes them."""
    try:
        lines = (folder / "SHA256SUMS").read_text().splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.split(maxsplit=1) for line in lines if line.strip())
    return {path.lstrip("*").removeprefix("./"): digest for digest, path in pairs}


def _copy(stored: Path, copy: Path, expected: str) -> None:
    content = stored.read_bytes()
    if (actual := hashlib.sha256(content).hexdigest()) != expected:
        raise PartRefused(f"{stored} is not what SHA256SUMS says (it is {actual}); get a fresh copy")
    put(copy, lzma.decompress(content) if stored.suffix == ".xz" else content, 0o755)
