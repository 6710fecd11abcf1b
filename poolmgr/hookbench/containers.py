"""One fake machine and one container on it, for any `libvgpu.so`: starts a victim there and reads what it prints."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

LIMIT_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Arm:
    """What is compared. `library` None: the programs run without any hook."""

    name: str
    library: Path | None


class DidNotFinish(Exception):
    """The victim's end in a few words: it hung, crashed or said nothing. `lines` is what it had said."""

    def __init__(self, words: str, lines: list[dict[str, Any]]) -> None:
        super().__init__(words)
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Victim:
    """A program of `libhook/tests/victims` and how it is run."""

    name: str
    arguments: tuple[str, ...] = ()
    core_limit: int = 0
    """Percent of GPU time, 0 = none."""
    virtual: bool = False
    """On the fake machine's virtual clock."""
    timeout_seconds: float = 60.0


def find_build(build: Path) -> Path:
    """`build` if libhook, its fake driver and its victims are built there. Raises Rejected."""
    if not (build / "tests/victims/victim_cost").is_file():
        raise Rejected(
            Reason.INVALID_REQUEST,
            f"{build} holds no built libhook with its fake driver; run `make hook` in a checkout of poolmgr first, "
            "or name the build folder with --build",
        )
    return build.resolve()


def environment(build: Path, arm: Arm, victim: Victim, folder: Path) -> dict[str, str]:
    """A container's environment as HAMi's device plugin writes it, and what both libraries need on a machine
    without one: HAMi-core opens itself by CUDA_REDIRECT, and looks at the GPU-time limit only under `force`."""
    preload = [str(arm.library)] if arm.library else []
    if victim.virtual:
        preload.append(str(build / "tests/libfakegpu.so"))
    variables = {
        "PATH": os.environ["PATH"],
        "LD_LIBRARY_PATH": str(build / "tests"),
        "LD_PRELOAD": ":".join(preload),
        "FAKE_CUDA_SHM": str(folder / "machine"),
        "FAKE_CUDA_CLOCK": "virtual" if victim.virtual else "real",
        "FAKE_CUDA_CALL_NS": "2000",
        "FAKE_CUDA_WATCH_LIMIT": str(LIMIT_BYTES),
        "CUDA_DEVICE_MEMORY_SHARED_CACHE": str(folder / "vgpu.cache"),
        "CUDA_DEVICE_MEMORY_LIMIT": f"{LIMIT_BYTES >> 20}m",
        "GPU_CORE_UTILIZATION_POLICY": "force",
        "LIBCUDA_LOG_LEVEL": "0",
    }
    if arm.library:
        variables["CUDA_REDIRECT"] = str(arm.library)
    if victim.core_limit:
        variables["CUDA_DEVICE_SM_LIMIT"] = str(victim.core_limit)
    return variables


def run(build: Path, arm: Arm, victim: Victim) -> list[dict[str, Any]]:
    """The victim's lines of JSON from a fresh machine. Raises DidNotFinish."""
    with tempfile.TemporaryDirectory(prefix="poolmgr-hookbench-") as folder:
        # What a victim prints goes to a file: a pipe that a stuck grandchild holds open would never end.
        printed = Path(folder) / "output"
        with printed.open("wb") as output:
            process = subprocess.Popen(
                [str(build / f"tests/victims/victim_{victim.name}"), *victim.arguments],
                env=environment(build, arm, victim, Path(folder)),
                stdout=output,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            code: int | None = process.wait(victim.timeout_seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        lines = [json.loads(line) for line in printed.read_text().splitlines() if line.startswith("{")]
    if code is None:
        raise DidNotFinish(f"hangs: ended after {victim.timeout_seconds:.0f} s", lines)
    if code != 0 or not lines:
        raise DidNotFinish(f"ends with code {code}" if code >= 0 else f"is ended by signal {-code}", lines)
    return lines
