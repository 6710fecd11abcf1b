"""Many threads of one process at once, on the real clock. With --sanitize thread this is what ThreadSanitizer watches."""

import json

import pytest

from conftest import BUILD, SANITIZER, Machine


@pytest.mark.parametrize(
    "settings", [{}, {"CUDA_DEVICE_SM_LIMIT": "50"}, {"POOLMGR_HOOK_CONTEXT_BYTES": "1m"}]
)
def test_threads_may_do_everything_at_once(machine: Machine, settings: dict[str, str]) -> None:
    done = machine.run("threads", "--rounds", "30", CUDA_DEVICE_MEMORY_LIMIT="1g", **settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("mode", ["sync", "async", "graph"])
def test_the_housekeeper_works_beside_a_launching_thread(machine: Machine, mode: str) -> None:
    done = machine.run("share", "--seconds", "0.5", "--mode", mode, CUDA_DEVICE_SM_LIMIT="50")
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert json.loads(done.stdout)["launches"] > 0


@pytest.mark.skipif(
    SANITIZER == "address", reason="gcc 12's AddressSanitizer leaves its allocator's locks shut in children"
)
def test_children_of_a_program_whose_threads_use_the_gpu_find_no_lock_held(machine: Machine) -> None:
    done = machine.run("forks", "--children", "150", CUDA_DEVICE_MEMORY_LIMIT="1g")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("hook", ["vgpu", "vgpu_paths"])
@pytest.mark.parametrize("visible", ["0", ""], ids=["one GPU", "no GPU"])
def test_a_library_whose_constructor_initialises_cuda_waits_for_nobody(
    machine: Machine, hook: str, visible: str
) -> None:
    """The dynamic linker's lock is held meanwhile, and another thread is being attached: it must not load NVML then."""
    done = machine.run(
        "loader",
        hook=BUILD / f"lib{hook}.so",
        LD_LIBRARY_PATH=f"{BUILD}/tests:{BUILD}/tests/programs",
        CUDA_DEVICE_MEMORY_LIMIT="1g",
        CUDA_VISIBLE_DEVICES=visible,
    )
    expected = (0, f"{1 << 30}\n", "") if visible else (0, "no GPU\n", "")
    assert (done.returncode, done.stdout, done.stderr) == expected
