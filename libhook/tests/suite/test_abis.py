"""What a program is handed that finds the driver by itself: the address decides, and who asks."""

import pytest

from conftest import BUILD, SECOND_DRIVER, Machine

WSL_DRIVER = {"LD_LIBRARY_PATH": str(BUILD / "tests/wsl_driver")}


@pytest.mark.parametrize(
    ("limits", "printed"),
    [({"LIBCUDA_LOG_LEVEL": "0"}, "1 MiB: 0, 2 GiB: 0\n"), ({"CUDA_DEVICE_MEMORY_LIMIT": "1g"}, "1 MiB: 0, 2 GiB: 2\n")],
    ids=["no limit", "1 GiB"],
)  # fmt: skip
def test_a_driver_that_looks_itself_up_is_left_to_itself(
    machine: Machine, limits: dict[str, str], printed: str
) -> None:
    """As WSL2's does: it was answered with the hook, which called it, which looked itself up."""
    done = machine.run("abis", "wsl", **WSL_DRIVER, **limits)
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")


def test_an_abi_of_a_later_cuda_is_the_drivers_and_reported(machine: Machine) -> None:
    """Its parameters are others: the hook of an earlier one would allocate what is meant as a location."""
    done = machine.run("abis", "newer", CUDA_DEVICE_MEMORY_LIMIT="1g", **SECOND_DRIVER)
    assert (done.returncode, done.stdout) == (0, "cuMemAlloc_v3 in libcuda.so.1: 0\n")
    assert "the driver has cuMemAlloc, which this release of the hook does not know" in done.stderr


def test_an_abi_that_the_hook_knows_is_the_hooks(machine: Machine) -> None:
    done = machine.run("abis", "known", CUDA_DEVICE_MEMORY_LIMIT="1g", **SECOND_DRIVER)
    assert (done.returncode, done.stdout, done.stderr) == (0, "cuMemAlloc_v2 in libvgpu.so: 0\n", "")
