"""Where things that take long to make are kept between test sessions, and how two sessions share them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent


def cache_folder() -> Path:
    """`$POOLMGR_CACHE`, else `$XDG_CACHE_HOME/poolmgr`, else `~/.cache/poolmgr`; made when it is not
    there."""
    if chosen := os.environ.get("POOLMGR_CACHE"):
        folder = Path(chosen)
    elif xdg := os.environ.get("XDG_CACHE_HOME"):
        folder = Path(xdg) / "poolmgr"
    else:
        folder = Path.home() / ".cache" / "poolmgr"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


@contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel frees it when the holder dies. `waiting` is said once if
    busy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"· {waiting}", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def put(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Writes the file beside its place and moves it there when it is whole: nobody sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.chmod(mode)
    partial.rename(path)
