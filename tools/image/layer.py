"""Image layers as bytes that depend on their content alone: order, owners and times of entries are fixed."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

COMPRESSION = 6
"""gzip's usual level: 9 takes three times as long for one percent."""


@dataclass(frozen=True)
class Layer:
    """A gzipped tar in `path`. `digest` and `size` are of the file, `diff_id` is of the tar within."""

    path: Path
    digest: str
    size: int
    diff_id: str


class _Hashing(io.RawIOBase):
    """Counts and hashes what is written through it."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self._hash = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._hash.update(data)
        self.size += len(data)
        return self._sink.write(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


@contextmanager
def _writing(target: Path) -> Iterator[tuple[tarfile.TarFile, Callable[[], Layer]]]:
    """A tar to add to, and what gives the layer once the tar is closed. Nothing is at `target` before that."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(target.name + ".new")
    with unfinished.open("wb") as file:
        packed = _Hashing(file)
        with gzip.GzipFile("", "wb", COMPRESSION, packed, mtime=0) as squeezed:  # type: ignore[arg-type]
            plain = _Hashing(squeezed)  # type: ignore[arg-type]
            with tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[arg-type]
                yield archive, lambda: Layer(target, packed.digest, packed.size, plain.digest)
    unfinished.replace(target)


def from_tar(source: IO[bytes], target: Path, epoch: int, dropped: Callable[[str], bool]) -> Layer:
    """The entries of a tar stream in its own order, which whoever wrote it must keep the same.

    Owners stay, by number. Entries whose path is `dropped` are left out, and so are device nodes: the runtime
    makes its own, and nobody but root could unpack them. No time is later than `epoch`.
    """
    with _writing(target) as (archive, layer), tarfile.open(fileobj=source, mode="r|") as entries:
        for entry in entries:
            entry.name = entry.name.removeprefix("./").rstrip("/")
            if entry.name in ("", ".") or entry.isdev() or dropped(entry.name):
                continue
            if entry.islnk():
                entry.linkname = entry.linkname.removeprefix("./")
            entry.mtime = min(int(entry.mtime), epoch)
            entry.uname = entry.gname = ""
            entry.pax_headers = {
                key: value for key, value in entry.pax_headers.items() if key.startswith("SCHILY.xattr.")
            }
            archive.addfile(entry, entries.extractfile(entry) if entry.isreg() else None)
    return layer()


def from_folder(folder: Path, target: Path, epoch: int) -> Layer:
    """A folder's content by name, all of it root's, of one time, writable by its owner alone."""
    with _writing(target) as (archive, layer):
        for path in sorted(folder.rglob("*")):
            entry = tarfile.TarInfo(str(path.relative_to(folder)))
            entry.mtime = epoch
            if path.is_symlink():
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
                archive.addfile(entry)
            elif path.is_dir():
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
            else:
                status = path.stat()
                entry.size, entry.mode = status.st_size, 0o755 if status.st_mode & 0o100 else 0o644
                with path.open("rb") as content:
                    archive.addfile(entry, content)
    return layer()


def cached(folder: Path, make: Callable[[Path], Layer]) -> Layer:
    """The layer that lies in `folder`; made there by `make`, which is given its path, when there is none."""
    note = folder / "layer.json"
    if note.exists():
        return Layer(folder / "layer.tar.gz", **json.loads(note.read_text()))
    layer = make(folder / "layer.tar.gz")
    facts = {key: value for key, value in asdict(layer).items() if key != "path"}
    note.with_suffix(".new").write_text(json.dumps(facts))
    note.with_suffix(".new").replace(note)
    return layer
