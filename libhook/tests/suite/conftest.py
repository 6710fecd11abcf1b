"""Runs test programs under the built hook on the fake driver. No GPU, no network."""

import json
import os
import subprocess
import time
from pathlib import Path
from zlib import crc32

import pytest

LIBHOOK = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("LIBHOOK_BUILD", LIBHOOK / "build"))
SANITIZER = os.environ.get("LIBHOOK_SANITIZER", "")
"""What the hook was built with: address, undefined, thread; nothing in what is shipped."""
RUNNER = os.environ.get("LIBHOOK_RUNNER", "").split()
"""What runs programs of another architecture: qemu and its options."""
SECOND_DRIVER = {"LD_LIBRARY_PATH": str(BUILD / "tests/second_driver")}
"""Settings of a program that runs on the second fake driver (tests/second_driver/second.h)."""
on_both_drivers = pytest.mark.parametrize(
    "driver", [pytest.param({}, id="fake"), pytest.param(SECOND_DRIVER, id="second")]
)
"""The settings come as `driver`."""
PATIENCE = 300.0
"""Seconds after which anything here is taken to hang. Beside other work everything takes ten times as long."""
not_ours = pytest.mark.skipif(
    SANITIZER == "thread",
    reason="ThreadSanitizer's runtime is in the programs; a hook that calls it loads nowhere else",
)
"""For tests that preload the hook into a program that was not built with it."""


def up_for(seconds: int) -> list[str]:
    """What runs a program on a machine that has been up for so long: a time namespace of its own. Skips the test where
    the kernel grants none."""
    offset = seconds - int(time.monotonic())
    own_users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *own_users, "--time", f"--monotonic={offset}", "--fork"]
    try:
        tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("unshare is missing (Debian: util-linux)")
    if tried.returncode != 0:
        pytest.skip(f"no time namespace here: {tried.stderr.strip()}")
    return command


def ahead_of_others() -> list[str]:
    """What runs a program so that it has a processor whenever it wants one; nothing where this user may not. For tests on
    the real clock, whose programs would else be billed for waiting behind others' work."""
    command = ["chrt", "--rr", "1"]
    try:
        may = subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        may = False
    return command if may else []


def pytest_collection_modifyitems() -> None:
    """Says at once what is missing, instead of in every test."""
    if not (BUILD / "libvgpu.so").exists():
        raise pytest.UsageError(
            f"{BUILD}/libvgpu.so is not built: `libhook/run-tests.sh` builds it and runs these tests; "
            "after that `pytest libhook` runs them on what was built last"
        )


class Machine:
    """One fake machine and one container on it; `run` starts a program there."""

    def __init__(self, folder: Path, drift_ppm: int = 0) -> None:
        self.folder = folder
        self.drift_ppm = drift_ppm
        self.region = folder / "vgpu.cache"

    def environment(self, *, hook: Path | None, virtual: bool, settings: dict[str, str]) -> dict[str, str]:
        preload = [str(hook)] if hook else []
        if virtual:
            preload.append(str(BUILD / "tests/libfakegpu.so"))
        return {
            "PATH": os.environ["PATH"],
            "LD_LIBRARY_PATH": str(BUILD / "tests"),
            "LD_PRELOAD": ":".join([*filter(None, [os.environ.get("LIBHOOK_SANITIZER_RUNTIME")]), *preload]),
            "FAKE_CUDA_SHM": str(self.folder / "machine"),
            "FAKE_CUDA_DRIFT_PPM": str(self.drift_ppm),
            "SECOND_DRIFT_PPM": str(self.drift_ppm),
            "FAKE_CUDA_CLOCK": "virtual" if virtual else "real",
            "CUDA_DEVICE_MEMORY_SHARED_CACHE": str(self.region),
            **{name: value for name, value in os.environ.items() if name.endswith("SAN_OPTIONS")},
            **settings,
        }

    def run(
        self,
        program: str,
        *arguments: str,
        hook: Path | None = BUILD / "libvgpu.so",
        virtual: bool = False,
        timeout: float = PATIENCE,
        within: list[str] | None = None,
        **settings: str,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*(within or []), *RUNNER, str(BUILD / f"tests/programs/program_{program}"), *arguments],
            env=self.environment(hook=hook, virtual=virtual, settings=settings),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(
        self, program: str, *arguments: str, virtual: bool = True, **settings: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*RUNNER, str(BUILD / f"tests/programs/program_{program}"), *arguments],
            env=self.environment(hook=BUILD / "libvgpu.so", virtual=virtual, settings=settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def share_of(output: str) -> float:
    """Percent of the run that the GPU worked for the processes of `output`, taken together."""
    lines = [json.loads(line) for line in output.splitlines()]
    return 100 * sum(line["busy_ns"] for line in lines) / max(line["elapsed_ns"] for line in lines)


@pytest.fixture
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Machine:
    """Its GPUs' clocks drift as real ones do: of half of the tests, by name, one way, of the others the other."""
    return Machine(tmp_path, 200 if crc32(request.node.name.encode()) % 2 else -200)
