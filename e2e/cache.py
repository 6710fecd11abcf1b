"""Where things that take long to make are kept between test sessions, and how two sessions share them."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent
VARIABLE = "POOLMGR_CACHE"


class CacheUnusable(Exception):
    """The cache cannot be made or written; the message says why, and what to do."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"the cache cannot be used: {error.strerror or error} ({path}); "
            f"set {VARIABLE} to a folder that you may write and that has room"
        )


def cache_folder() -> Path:
    """`$POOLMGR_CACHE`, else `$XDG_CACHE_HOME/poolmgr`, else `~/.cache/poolmgr`; made when it is not
    there. Raises CacheUnusable."""
    if chosen := os.environ.get(VARIABLE):
        folder = Path(chosen)
    elif xdg := os.environ.get("XDG_CACHE_HOME"):
        folder = Path(xdg) / "poolmgr"
    else:
        folder = Path.home() / ".cache" / "poolmgr"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheUnusable(folder, error) from error
    return folder.resolve()


@contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel frees it when the holder dies. `waiting` is said once if
    busy. Raises CacheUnusable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("a")
    except OSError as error:
        raise CacheUnusable(path, error) from error
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"· {waiting}", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def put(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Writes the file beside its place and moves it there when it is whole: nobody sees half of it. Raises
    CacheUnusable."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.chmod(mode)
        partial.rename(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise CacheUnusable(path, error) from error


def has_digest(path: Path, sha256: str) -> bool:
    """Whether the file is there and is what its digest says: a disk that was full or lost power leaves others. Read
    once as long as it does not change."""
    try:
        return digest_of(path) == sha256
    except OSError:
        return False


def digest_of(path: Path) -> str:
    """SHA-256 of the file as hex digits, read once as long as it does not change. Raises OSError."""
    seen = path.stat()
    return _digest(path, seen.st_ino, seen.st_size, seen.st_mtime_ns)


@lru_cache
def _digest(path: Path, *_version: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
