"""What `poolmgr bench hook` stands on: an arm whose limits are not in force is found out before it is timed."""

import pytest

from bench.hook.bed import Bed
from bench.hook.containers import Arm
from bench.hook.rows import limits_not_in_force
from conftest import BUILD, SANITIZER

pytestmark = pytest.mark.skipif(
    bool(SANITIZER),
    reason="the benchmark preloads the library alone, no sanitizer's runtime before it",
)


def test_libhook_holds_both_limits() -> None:
    assert limits_not_in_force(Bed(BUILD), Arm("libhook", BUILD / "libvgpu.so")) is None


def test_a_library_that_hooks_nothing_is_found_out() -> None:
    seen = limits_not_in_force(Bed(BUILD), Arm("inert", BUILD / "tests/libfakegpu.so"))
    assert seen is not None and seen.startswith("no memory limit in force")
