"""The memory limit: every family of allocations, failures at every call, killed processes, hostile files."""

import os
import re
import struct
from pathlib import Path

import pytest

from conftest import BUILD, LIBHOOK, PATIENCE, Machine

FAMILIES = [
    "linear",
    "pitched",
    "managed",
    "pooled",
    "own_pool",
    "physical",
    "multicast",
    "arrays",
    "mipmaps",
    "external",
    "graphs",
    "old_names",
    "dying_context",
    "modules",
    "first_abi",
    "per_thread_streams",
    "multicast_variants",
    "sparse",
    "graph_variants",
    "context_variants",
    "code",
    "primary_context",
]
HOLD_LITTLE = ("old_names", "dying_context", "modules", "context_variants", "code", "primary_context")
"""What needs a context of its own, or asks for less than the limit."""
ACCOUNTED = re.findall(r"^HOOK\((\w+), \w+, accounted,", (LIBHOOK / "hooks.def").read_text(), re.MULTILINE)
"""Every hook that takes or gives back device memory."""
ASKED = ["cuMemPoolGetAttribute", "cuDeviceGetGraphMemAttribute", "cuGraphGetNodes", "cuMemGetInfo_v2"]
"""What the hooks ask the driver themselves."""


@pytest.mark.parametrize("family", FAMILIES)
def test_books_equal_what_the_machine_gave(machine: Machine, family: str) -> None:
    done = machine.run("memory", "--only", family, CUDA_DEVICE_MEMORY_LIMIT="1g")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in HOLD_LITTLE])
def test_more_than_the_limit_is_refused(machine: Machine, family: str) -> None:
    done = machine.run(
        "memory",
        "--only",
        family,
        "--size",
        str(256 << 20),
        CUDA_DEVICE_MEMORY_LIMIT="128m",
        FAKE_CUDA_WATCH_LIMIT=str(128 << 20),
        FAKE_CUDA_LOG=str(machine.folder / "log"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split()[1:] == ["0", "0"]


CONTEXTS_AND_CODE = [
    symbol for symbol in ACCOUNTED if re.match("cu(Ctx|DevicePrimary|Module|Library)", symbol)
]
MEASURED = {
    "POOLMGR_HOOK_CONTEXT_MEMORY": "measured",
    "POOLMGR_HOOK_CONTEXT_BYTES": "200m",
    "FAKE_CUDA_CONTEXT_MIB": "300",
    "FAKE_CUDA_MODULE_MIB": "50",
    "FAKE_NVML_PID_OFFSET": "100000",
}
"""Contexts and code hold memory, the estimate is wrong, and NVML knows processes by other pids than they do."""


@pytest.mark.parametrize("lazy", ["0", "1"])
@pytest.mark.parametrize("offset", ["0", "100000"])
def test_contexts_and_code_are_charged_as_measured(machine: Machine, lazy: str, offset: str) -> None:
    settings = {**MEASURED, "FAKE_CUDA_LAZY": lazy, "FAKE_NVML_PID_OFFSET": offset}
    done = machine.run("memory", CUDA_DEVICE_MEMORY_LIMIT="2g", LIBCUDA_LOG_LEVEL="2", **settings)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    linear = next(line.split() for line in done.stdout.splitlines() if line.startswith("linear"))
    assert linear[1:] == [str(300 << 20)] * 2, "the context alone"


def test_processes_that_start_at_once_each_find_themselves(machine: Machine) -> None:
    running = [
        machine.start(
            "memory", virtual=False, CUDA_DEVICE_MEMORY_LIMIT="16g", LIBCUDA_LOG_LEVEL="2", **MEASURED
        )
        for _ in range(6)
    ]
    assert [process.communicate(timeout=PATIENCE)[1] for process in running] == [""] * 6


def test_where_nvml_cannot_tell_each_context_is_charged_a_flat_sum(machine: Machine) -> None:
    done = machine.run(
        "memory", "--only", "dying_context", CUDA_DEVICE_MEMORY_LIMIT="2g", LIBCUDA_LOG_LEVEL="2",
        **{**MEASURED, "FAKE_NVML_FAIL": "nvmlDeviceGetComputeRunningProcesses_v3:999"},
    )  # fmt: skip
    assert done.stdout.split()[1:] == [str(200 << 20), str(300 << 20)]
    assert "NVML does not tell what this process holds" in done.stderr


@pytest.mark.parametrize(("policy", "charged"), [("flat", 200 << 20), ("off", 0)])
def test_context_memory_by_policy(machine: Machine, policy: str, charged: int) -> None:
    settings = {**MEASURED, "POOLMGR_HOOK_CONTEXT_MEMORY": policy}
    done = machine.run("memory", "--only", "dying_context", CUDA_DEVICE_MEMORY_LIMIT="2g", **settings)
    assert done.stdout.split()[1:] == [str(charged), str(300 << 20)]


@pytest.mark.parametrize("policy", ["flat", "measured"])
def test_a_context_without_room_is_refused(machine: Machine, policy: str) -> None:
    settings = {**MEASURED, "POOLMGR_HOOK_CONTEXT_MEMORY": policy}
    done = machine.run("memory", "--only", "linear", CUDA_DEVICE_MEMORY_LIMIT="150m", **settings)
    assert "cuDevicePrimaryCtxRetain(&context, 0) = 2" in done.stderr


@pytest.mark.parametrize(
    ("symbol", "settings"),
    [(symbol, {}) for symbol in ACCOUNTED + ASKED]
    + [(symbol, MEASURED) for symbol in [*CONTEXTS_AND_CODE, "cuModuleGetFunction", "cuMemAlloc_v2"]],
)
def test_books_balance_whichever_call_fails(machine: Machine, symbol: str, settings: dict[str, str]) -> None:
    for nth in range(1, 60):
        done = machine.run(
            "memory",
            CUDA_DEVICE_MEMORY_LIMIT="2g",
            **settings,
            FAKE_CUDA_FAIL=f"{symbol}:{nth}:2",
            FAKE_CUDA_LOG=str(machine.folder / f"log{nth}"),
        )
        assert done.returncode == 0, f"{symbol} number {nth}: {done.returncode}\n{done.stdout}{done.stderr}"
        calls = (machine.folder / f"log{nth}").read_text().count(f" {symbol}\n")
        (machine.folder / "machine").unlink()
        if calls < nth:
            assert nth > 1, "the sweep never met the call"
            return
    pytest.fail("more calls than the sweep covers")


CHAOS_SECONDS, CHAOS_PROCESSES = os.environ.get("LIBHOOK_CHAOS", "8:32").split(":")


@pytest.mark.timeout(int(CHAOS_SECONDS) + 200)
def test_chaos_never_passes_the_limit_and_leaks_nothing(machine: Machine) -> None:
    seconds, processes = CHAOS_SECONDS, CHAOS_PROCESSES
    done = machine.run(
        "chaos",
        "--processes",
        processes,
        "--seconds",
        seconds,
        CUDA_DEVICE_MEMORY_LIMIT="1g",
        FAKE_CUDA_WATCH_LIMIT=str(1 << 30),
        timeout=float(seconds) + 100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


HOSTILE = {
    "short": b"x" * 100,
    "other magic": struct.pack("<iIIi", 1, 1, 2, 0) + b"\0" * 4_000_000,
    "all ones": b"\xff" * 4_000_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_region_is_refused_left_alone_and_the_limit_still_holds(
    machine: Machine, kind: str
) -> None:
    machine.region.write_bytes(HOSTILE[kind])
    done = machine.run("memory", "--only", "linear", CUDA_DEVICE_MEMORY_LIMIT="1g")
    assert done.returncode == 0, done.stderr
    assert re.search(r"shared region .* is refused: .*Limits hold for this process alone", done.stderr)
    assert machine.region.read_bytes() == HOSTILE[kind]
    over = machine.run("memory", "--only", "linear", "--size", str(2 << 30), CUDA_DEVICE_MEMORY_LIMIT="1g")
    assert over.stdout.split()[1:] == ["0", "0"]


def test_a_symbolic_link_is_not_followed(machine: Machine) -> None:
    target = machine.folder / "precious"
    target.write_bytes(b"")
    machine.region.symlink_to(target)
    done = machine.run("memory", "--only", "linear", CUDA_DEVICE_MEMORY_LIMIT="1g")
    assert "it is a symbolic link" in done.stderr and target.stat().st_size == 0


def test_the_environment_lowers_and_never_raises_the_nodes_limit(machine: Machine) -> None:
    config = machine.folder / "hook.conf"
    config.write_text("memory_limit = 512Mi\ncore_limit = 30\n")
    config.chmod(0o644)
    library = Path(os.environ.get("LIBHOOK_BUILD", Path(__file__).parents[2] / "build")) / "libvgpu_paths.so"

    def largest(environment_limit: str) -> bool:
        done = machine.run(
            "memory",
            "--only",
            "linear",
            "--size",
            str(400 << 20),
            hook=library,
            PH_TEST_CONFIG=str(config),
            CUDA_DEVICE_MEMORY_LIMIT=environment_limit,
            FAKE_CUDA_LOG=str(machine.folder / "log"),
        )
        granted = "cuMemFree_v2" in (machine.folder / "log").read_text()
        (machine.folder / "log").unlink()
        machine.region.unlink()
        assert done.returncode == 0, done.stderr
        return granted

    assert largest("100g")
    assert not largest("300m")
    config.write_text("memory_limit = 300Mi\n")
    assert not largest("100g")
    config.chmod(0o666)
    assert largest("100g"), "a file that others can write is not the node's word"


def test_closed_on_error_refuses_cuda_where_the_limit_cannot_be_shared(machine: Machine) -> None:
    machine.region.write_bytes(HOSTILE["all ones"])
    done = machine.run(
        "memory", "--only", "linear", CUDA_DEVICE_MEMORY_LIMIT="1g", POOLMGR_HOOK_ON_ERROR="closed"
    )
    assert done.returncode != 0 and "CUDA is refused" in done.stderr and "cuInit(0) = 800" in done.stderr
    machine.region.unlink()
    done = machine.run(
        "memory", "--only", "linear", CUDA_DEVICE_MEMORY_LIMIT="1g", POOLMGR_HOOK_ON_ERROR="closed"
    )
    assert done.returncode == 0, done.stderr


def test_closed_on_error_refuses_cuda_where_the_nodes_file_is_wrong(machine: Machine) -> None:
    config = machine.folder / "hook.conf"
    config.write_text("on_error = closed\nmemory_limit = lots\n")
    config.chmod(0o644)
    library = BUILD / "libvgpu_paths.so"
    done = machine.run("memory", "--only", "linear", hook=library, PH_TEST_CONFIG=str(config))
    assert done.returncode != 0 and "line 2" in done.stderr and "CUDA is refused" in done.stderr


def test_memory_of_a_program_that_closes_every_descriptor_stays_charged(machine: Machine) -> None:
    """The lock on its slot goes with the descriptor; who looks for the dead must see that it lives."""
    done = machine.run("daemon", CUDA_DEVICE_MEMORY_LIMIT="1g", FAKE_CUDA_WATCH_LIMIT=str(1 << 30))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.split() == ["second", "refused", "first", "went", "on", "exec", "freed"]
