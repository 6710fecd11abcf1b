"""HAMi, KubeVirt, HAMi-core and the mock NVML, which no package registry has: taken from a settable place.

The place is `$POOLMGR_PARTS`, else `shared/bin` beside the checkout. It holds a folder per release
(`hami-2.10.0/scheduler.xz`, …) and a SHA256SUMS. A part is checked and unpacked into the cache once; what has
been unpacked stays usable when the place is gone.
"""

import hashlib
import lzma
import os
from functools import cache
from pathlib import Path

from e2e.cache import PROJECT_ROOT, cache_folder, locked


class PartMissing(Exception):
    """A part cannot be had here; the message is the reason a skipped test shows."""


def parts_folder() -> Path:
    """Where parts are taken from; the folder need not exist."""
    chosen = os.environ.get("POOLMGR_PARTS")
    return Path(chosen) if chosen else PROJECT_ROOT.parent / "shared" / "bin"


def part(name: str) -> Path:
    """Usable file of a part, such as `hami-2.10.0/scheduler` or `hami-2.10.0/chart.tgz`.

    Compressed parts are asked for without `.xz`. Raises PartMissing.
    """
    unpacked = cache_folder() / "parts" / name
    stored = _stored(name)
    if stored is None:
        if unpacked.exists():
            return unpacked
        raise PartMissing(
            f"{name} is neither in {parts_folder()} nor unpacked in {unpacked.parent}; "
            "set POOLMGR_PARTS to a folder that has it"
        )
    expected = _checksums(parts_folder()).get(stored.relative_to(parts_folder()).as_posix())
    if expected is None:
        raise PartMissing(f"{stored} has no line in SHA256SUMS beside it; it is not used unchecked")
    seal = unpacked.with_name(f".{unpacked.name}.sha256")
    if unpacked.exists() and seal.exists() and seal.read_text() == expected:
        return unpacked
    with locked(cache_folder() / "parts" / ".lock", "another run is unpacking parts; waiting for it"):
        _unpack(stored, unpacked, seal, expected)
    return unpacked


def _stored(name: str) -> Path | None:
    for candidate in (parts_folder() / f"{name}.xz", parts_folder() / name):
        if candidate.exists():
            return candidate
    return None


@cache
def _checksums(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / "SHA256SUMS").read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {path.removeprefix("./"): digest for digest, path in (line.split(maxsplit=1) for line in lines)}


def _unpack(stored: Path, unpacked: Path, seal: Path, expected: str) -> None:
    content = stored.read_bytes()
    if (actual := hashlib.sha256(content).hexdigest()) != expected:
        raise PartMissing(f"{stored} is not what SHA256SUMS says (it is {actual}); get a fresh copy")
    if stored.suffix == ".xz":
        content = lzma.decompress(content)
    unpacked.parent.mkdir(parents=True, exist_ok=True)
    partial = unpacked.with_name(f".{unpacked.name}.partial")
    partial.write_bytes(content)
    partial.chmod(0o755)
    partial.rename(unpacked)
    seal.write_text(expected)
