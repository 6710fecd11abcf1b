"""Memory that lives longer or shorter than the calls about it say: what is granted, shown and really used."""

import os
import struct

import pytest

from conftest import BUILD, PATIENCE, Machine

SLOT, HAMI_SIZE, EXTENSION = 1856, 2_008_952, 491 * 4096
HIGH_WATER = 2_008_896
LIMITS = 1600
"""Of memory for sixteen GPUs, then of GPU time."""


def run_case(machine: Machine, *arguments: str, limit: str = "1g", **settings: str) -> list[str]:
    done = machine.run("reconcile", *arguments, CUDA_DEVICE_MEMORY_LIMIT=limit, **settings)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.splitlines()


def test_a_program_that_execs_itself_has_what_it_held_back(machine: Machine) -> None:
    """Chaos looked at the end only; the old image's 600 MiB stayed charged for as long as the new one ran."""
    assert run_case(machine, "exec", "600") == [
        "before granted 600 shown 600 used 600",
        "plain granted 600 shown 600 used 600",
    ]


def test_the_limit_is_that_of_the_program_that_runs(machine: Machine) -> None:
    assert run_case(machine, "plain", "2000", limit="3g") == ["plain granted 2000 shown 2000 used 2000"]
    assert run_case(machine, "plain", "2000", limit="1g") == ["plain granted 0 shown 0 used 0"]
    assert run_case(machine, "plain", "2000", limit="3g") == ["plain granted 2000 shown 2000 used 2000"]


def hamis(pid: int) -> bytes:
    file = bytearray(HAMI_SIZE + 1)
    struct.pack_into("<iIIi", file, 0, 19920718, 1, 2, 1)
    struct.pack_into("<Q", file, 56, 1)
    struct.pack_into("<ii", file, SLOT, pid, 0)
    struct.pack_into("<i", file, SLOT + 1928, 1)
    struct.pack_into("<Q", file, SLOT + 8 + 32, 900 << 20)
    struct.pack_into("<i", file, HIGH_WATER, 1)
    return bytes(file)


@pytest.mark.parametrize("pid", [os.getpid(), 999_999], ids=["lives", "gone"])
def test_hamis_file_is_taken_over_once_nobody_has_it_mapped(machine: Machine, pid: int) -> None:
    """Its slots outlive the container's programs, and the first of each container has pid 1: another one lives by then."""
    machine.region.write_bytes(hamis(pid))
    assert run_case(machine, "plain", "600") == ["plain granted 600 shown 600 used 600"]


def test_a_file_of_another_release_is_taken_over_once_nobody_uses_it(machine: Machine) -> None:
    run_case(machine, "plain", "600")
    file = bytearray(machine.region.read_bytes())
    struct.pack_into("<I", file, EXTENSION + 4, 2)
    machine.region.write_bytes(bytes(file))
    assert run_case(machine, "plain", "600") == ["plain granted 600 shown 600 used 600"]


def test_a_broken_file_that_nobody_uses_begins_anew(machine: Machine) -> None:
    machine.region.write_bytes(struct.pack("<iIIi", 19920718, 1, 2, 0) + b"\xff" * 4_000_000)
    assert run_case(machine, "plain", "600") == ["plain granted 600 shown 600 used 600"]
    assert run_case(machine, "plain", "2000") == ["plain granted 0 shown 0 used 0"]


@pytest.mark.parametrize("visible", [("0", "1"), ("1", "0")])
def test_processes_that_see_one_gpu_each_are_told_apart_without_nvml(
    machine: Machine, visible: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """NVIDIA_DRIVER_CAPABILITIES=compute: no libnvidia-ml, and CUDA counts what each sees from 0."""
    drivers = tmp_path_factory.mktemp("without-nvml")
    for name in ("libcuda.so.1", "libfakegpu.so"):
        (drivers / name).symlink_to(BUILD / "tests" / name)
    two = {"LD_LIBRARY_PATH": str(drivers), "FAKE_CUDA_DEVICES": "2"}
    first = machine.start(
        "reconcile",
        "plain",
        "700",
        "0",
        virtual=False,
        CUDA_DEVICE_MEMORY_LIMIT="1g",
        CUDA_VISIBLE_DEVICES=visible[0],
        **two,
    )
    assert first.stdout and first.stdout.readline().startswith("plain granted 700 shown 700")
    second = run_case(machine, "plain", "700", CUDA_VISIBLE_DEVICES=visible[1], **two)
    assert second[0].startswith("plain granted 700 shown 700")
    first.communicate("\n", timeout=PATIENCE)


def test_host_memory_of_a_pool_is_no_memory_of_the_gpu(machine: Machine) -> None:
    assert run_case(machine, "host", "2048") == ["host granted 2048 shown 0 used 0"]


@pytest.mark.parametrize("what", ["host", "hostgone"])
@pytest.mark.parametrize("hook", ["vgpu", "vgpu_paths"])
def test_a_pool_of_the_host_is_charged_to_no_gpu_at_all(machine: Machine, hook: str, what: str) -> None:
    """It stands under -1 in the place of a GPU; its size was written ahead of the slot, over the limits of GPUs 11 and 13."""
    done = machine.run("reconcile", what, "2048", hook=BUILD / f"lib{hook}.so", CUDA_DEVICE_MEMORY_LIMIT="1g")
    assert (done.returncode, done.stderr) == (0, "")
    limits = struct.unpack_from("<32Q", machine.region.read_bytes(), LIMITS)
    assert limits == (1 << 30,) * 16 + (100,) * 16


def test_a_destroyed_pool_holds_what_is_still_in_use(machine: Machine) -> None:
    (line,) = run_case(machine, "destroyed", "700")
    assert line.startswith("destroyed granted 700 shown 7")


def test_a_pool_grows_within_the_limit(machine: Machine) -> None:
    """97 MiB of 100 would be 128, as the driver takes them."""
    assert run_case(machine, "step", "97", limit="100m") == ["step granted 0 shown 0 used 0"]
    assert run_case(machine, "step", "96", limit="100m") == ["step granted 96 shown 96 used 96"]


def test_graphs_that_run_one_after_another_share_their_memory(machine: Machine) -> None:
    assert run_case(machine, "graphs", "200") == ["graphs granted 2000 shown 200 used 200"]


def test_imported_memory_goes_with_its_context(machine: Machine) -> None:
    assert run_case(machine, "imported", "500") == ["imported granted 500 shown 0 used 0"]
