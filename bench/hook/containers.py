"""One machine and one container on it, for any `libvgpu.so`: starts a program there and reads what it prints."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.hook.bed import Bed

LIMIT_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Arm:
    """What is compared. `library` None: the programs run without any hook."""

    name: str
    library: Path | None


class DidNotFinish(Exception):
    """The program's end in a few words: it hung, crashed or said nothing. `lines` is what it had said."""

    def __init__(self, words: str, lines: list[dict[str, Any]]) -> None:
        super().__init__(words)
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Program:
    """A program of `libhook/tests/programs` and how it is run."""

    name: str
    arguments: tuple[str, ...] = ()
    core_limit: int = 0
    """Percent of GPU time, 0 = none."""
    virtual: bool = False
    """On the fake machine's virtual clock; a real GPU has none."""
    timeout_seconds: float = 60.0
    variables: Mapping[str, str] = field(default_factory=dict)


def environment(bed: Bed, arm: Arm, program: Program, folder: Path) -> dict[str, str]:
    """A container's environment as HAMi's device plugin writes it, and what both libraries need on a machine
    without one: HAMi-core opens itself by CUDA_REDIRECT, and looks at the GPU-time limit only under `force`."""
    virtual = program.virtual and bed.gpu is None
    preload = [str(arm.library)] if arm.library else []
    if virtual:
        preload.append(str(bed.build / "tests/libfakegpu.so"))
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "LD_LIBRARY_PATH": bed.libraries,
        "LD_PRELOAD": ":".join(preload),
        "FAKE_CUDA_SHM": str(folder / "machine"),
        "FAKE_CUDA_CLOCK": "virtual" if virtual else "real",
        "FAKE_CUDA_CALL_NS": "2000",
        "FAKE_CUDA_WATCH_LIMIT": str(LIMIT_BYTES),
        "CUDA_DEVICE_MEMORY_SHARED_CACHE": str(folder / "vgpu.cache"),
        "CUDA_DEVICE_MEMORY_LIMIT": f"{LIMIT_BYTES >> 20}m",
        "GPU_CORE_UTILIZATION_POLICY": "force",
        "LIBCUDA_LOG_LEVEL": "0",
        **program.variables,
    }
    if bed.gpu is not None:
        variables["PROGRAM_ON_GPU"] = "1"
    if arm.library:
        variables["CUDA_REDIRECT"] = str(arm.library)
    if program.core_limit:
        variables["CUDA_DEVICE_SM_LIMIT"] = str(program.core_limit)
    return variables


def run(bed: Bed, arm: Arm, program: Program) -> list[dict[str, Any]]:
    """The lines of JSON of a program of `libhook/tests/programs`, on a fresh machine. Raises DidNotFinish."""
    path = str(bed.build / f"tests/programs/program_{program.name}")
    return run_program([path, *program.arguments], bed, arm, program)


def run_program(command: Sequence[str], bed: Bed, arm: Arm, program: Program) -> list[dict[str, Any]]:
    """The same for any command, run as `program` says."""
    with tempfile.TemporaryDirectory(prefix="poolmgr-hookbench-") as folder:
        # What it prints goes to a file: a pipe that a stuck grandchild holds open would never end.
        printed = Path(folder) / "output"
        # A signal that came between its start and `try` would leave it behind.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        with printed.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=environment(bed, arm, program, Path(folder)),
                stdout=output,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            code: int | None = process.wait(program.timeout_seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        lines = [json.loads(line) for line in printed.read_text().splitlines() if line.startswith("{")]
    if code is None:
        raise DidNotFinish(f"hangs: ended after {program.timeout_seconds:.0f} s", lines)
    if code != 0 or not lines:
        raise DidNotFinish(f"ends with code {code}" if code >= 0 else f"is ended by signal {-code}", lines)
    return lines
