"""Starting a program as a container's program: the same environment for every arm."""

from pathlib import Path

import pytest

from bench.hook.bed import Bed, RealGpu, find_build
from bench.hook.containers import Arm, DidNotFinish, Program, environment, run
from poolmgr.domain.errors import Rejected

BUILD = Bed(Path("/build"))


def test_both_arms_get_the_same_limits_and_only_the_library_differs(tmp_path: Path) -> None:
    program = Program("share", core_limit=30)
    ours = environment(BUILD, Arm("a", Path("/a.so")), program, tmp_path)
    theirs = environment(BUILD, Arm("b", Path("/b.so")), program, tmp_path)
    assert {name for name in ours if ours[name] != theirs[name]} == {"LD_PRELOAD", "CUDA_REDIRECT"}
    assert ours["CUDA_DEVICE_SM_LIMIT"] == "30"


def test_virtual_time_is_preloaded_behind_the_hook(tmp_path: Path) -> None:
    variables = environment(BUILD, Arm("a", Path("/a.so")), Program("share", virtual=True), tmp_path)
    assert variables["LD_PRELOAD"] == "/a.so:/build/tests/libfakegpu.so"
    assert variables["FAKE_CUDA_CLOCK"] == "virtual"


def test_on_a_gpu_its_driver_comes_before_the_fake_one_and_time_is_real(tmp_path: Path) -> None:
    bed = Bed(Path("/build"), RealGpu("NVIDIA H200", 13000, Path("/driver")))
    variables = environment(bed, Arm("a", Path("/a.so")), Program("share", virtual=True), tmp_path)
    assert variables["LD_LIBRARY_PATH"].split(":")[0] == "/driver"
    assert (variables["LD_PRELOAD"], variables["PROGRAM_ON_GPU"]) == ("/a.so", "1")


def test_without_a_build_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="make hook"):
        find_build(tmp_path)


def bed_with(tmp_path: Path, script: str) -> Bed:
    program = tmp_path / "tests/programs/program_x"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n" + script)
    program.chmod(0o755)
    return Bed(tmp_path)


def test_reads_the_json_and_skips_chatter(tmp_path: Path) -> None:
    build = bed_with(tmp_path, "echo chatter; echo '{\"a\": 1}'")
    assert run(build, Arm("none", None), Program("x")) == [{"a": 1}]


def test_a_program_that_hangs_is_ended_with_its_children_and_keeps_what_it_said(tmp_path: Path) -> None:
    build = bed_with(tmp_path, "echo '{\"a\": 1}'; sleep 1000 & wait")
    for patience in (0.2, 2.0, 20.0):  # a busy machine may not even have begun with it after the first
        with pytest.raises(DidNotFinish, match="hangs") as end:
            run(build, Arm("none", None), Program("x", timeout_seconds=patience))
        if end.value.lines:
            break
    assert end.value.lines == [{"a": 1}]


def test_a_program_that_fails_says_how(tmp_path: Path) -> None:
    build = bed_with(tmp_path, "kill -SEGV $$")
    with pytest.raises(DidNotFinish, match="signal 11"):
        run(build, Arm("none", None), Program("x"))
