"""Burst, best effort, windows, MPS, live changes, the monitor's flags: on the virtual clock, measured by the machine."""

import json
import os
import struct
from pathlib import Path

import pytest

from conftest import BUILD, PATIENCE, Machine, share_of

LIMIT, SM_LIMIT, SWITCH, RECENT_KERNEL, PRIORITY = 1600, 1728, 2_008_900, 2_008_904, 2_008_908


def write(region: Path, offset: int, form: str, value: int) -> None:
    with region.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack(form, value))


def read(region: Path, offset: int, form: str) -> int:
    with region.open("rb") as file:
        file.seek(offset)
        return int(struct.unpack(form, file.read(struct.calcsize(form)))[0])


def alone(machine: Machine, mode: str, limit: int, *arguments: str, **settings: str) -> float:
    done = machine.run(
        "share", *arguments, "--seconds", "3", virtual=True,
        CUDA_DEVICE_SM_LIMIT=str(limit), POOLMGR_HOOK_MODE=mode, **settings,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return share_of(done.stdout)


def together(
    machine: Machine, tmp_path: Path, first: dict[str, str], second: dict[str, str]
) -> tuple[float, float]:
    """Two containers that see each other; both want all they can get for five seconds."""
    running = [
        machine.start(
            "share", "--seconds", "5", "--ns", "200000", "--programs", "2",
            POOLMGR_HOOK_ACTIVITY=str(tmp_path), FAKE_CUDA_CALL_NS="2000",
            CUDA_DEVICE_MEMORY_SHARED_CACHE=str(tmp_path / f"{i}.cache"), **settings,
        )
        for i, settings in enumerate((first, second))
    ]  # fmt: skip
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in running]
    return share_of(outputs[0]), share_of(outputs[1])


def test_burst_uses_what_nobody_else_uses(machine: Machine, tmp_path: Path) -> None:
    assert alone(machine, "burst", 30, POOLMGR_HOOK_ACTIVITY=str(tmp_path)) > 98


def test_burst_without_knowing_the_others_keeps_to_the_share(machine: Machine) -> None:
    assert alone(machine, "burst", 30) == pytest.approx(30, abs=2)


def burst_beside(machine: Machine, tmp_path: Path, *neighbour: str) -> tuple[float, float]:
    """Shares of ten seconds of a burst container of 30 % and, over its own time, of a neighbour that has 70 %."""
    known = {"POOLMGR_HOOK_ACTIVITY": str(tmp_path), "FAKE_CUDA_CALL_NS": "2000"}
    burst = machine.start(
        "share", "--seconds", "10", "--ns", "200000", "--programs", "2", CUDA_DEVICE_SM_LIMIT="30", POOLMGR_HOOK_MODE="burst",
        CUDA_DEVICE_MEMORY_SHARED_CACHE=str(tmp_path / "a.cache"), **known,
    )  # fmt: skip
    other = machine.start(
        "share", "--ns", "200000", "--programs", "2", *neighbour, CUDA_DEVICE_SM_LIMIT="70",
        CUDA_DEVICE_MEMORY_SHARED_CACHE=str(tmp_path / "b.cache"), **known,
    )  # fmt: skip
    own, others = (share_of(process.communicate(timeout=PATIENCE)[0]) for process in (burst, other))
    return own, others


def test_burst_uses_the_time_of_a_neighbour_that_has_gone(machine: Machine, tmp_path: Path) -> None:
    own, other = burst_beside(machine, tmp_path, "--seconds", "5")
    assert other == pytest.approx(70, abs=2)
    assert own == pytest.approx((30 + 100) / 2, abs=2)


def test_burst_gives_idle_time_away_and_takes_it_back(machine: Machine, tmp_path: Path) -> None:
    """The neighbour works in the first second, stands still for four, and works again in the last five."""
    own, other = burst_beside(
        machine, tmp_path, "--seconds", "10", "--region", str(tmp_path / "b.cache"),
        "--offset", str(RECENT_KERNEL), "--size", "4", "--write-at", "1", "--value", "-1", "--undo-at", "5", "--undo-value", "2",
    )  # fmt: skip
    assert other == pytest.approx(70 * 6 / 10, abs=2), "taken back as soon as it worked again"
    assert own == pytest.approx((30 * 6 + 100 * 4) / 10, abs=2)


def test_best_effort_yields_to_others_and_uses_the_rest(machine: Machine, tmp_path: Path) -> None:
    best, other = together(
        machine, tmp_path, {"POOLMGR_HOOK_MODE": "best-effort"}, {"CUDA_DEVICE_SM_LIMIT": "70"}
    )
    assert other == pytest.approx(70, abs=2)
    assert best < 25


def test_best_effort_alone_is_not_held(machine: Machine, tmp_path: Path) -> None:
    assert alone(machine, "best-effort", 100, POOLMGR_HOOK_ACTIVITY=str(tmp_path)) > 98


@pytest.mark.parametrize("ns", [10_000, 100_000, 1_000_000])
@pytest.mark.parametrize("limit", [5, 10, 50, 95])
def test_a_window_is_used_to_its_end_and_not_passed(machine: Machine, limit: int, ns: int) -> None:
    share = alone(machine, "windows", limit, "--ns", str(ns), "--seconds", "6", FAKE_CUDA_CALL_NS="2000")
    assert share == pytest.approx(limit, abs=1)


def test_a_program_that_waits_gets_the_part_of_its_window_that_it_keeps_busy(machine: Machine) -> None:
    """Each launch of 10 µs takes 2 µs on the CPU, in which the GPU idles: 10/12 of the window."""
    share = alone(machine, "windows", 60, "--ns", "10000", "--mode", "sync", FAKE_CUDA_CALL_NS="2000")
    assert share == pytest.approx(50, abs=1)


@pytest.mark.parametrize("driver", [{"FAKE_CUDA_MPS": "1"}, {}], ids=["tells", "older"])
def test_mps_holds_the_share_where_its_daemon_is(
    machine: Machine, tmp_path: Path, driver: dict[str, str]
) -> None:
    os.mkfifo(tmp_path / "control")
    assert alone(machine, "mps", 30, CUDA_MPS_PIPE_DIRECTORY=str(tmp_path), **driver) > 98, (
        "the hook itself must not wait"
    )


def test_what_a_dead_mps_daemon_left_holds_nothing_and_so_the_hook_does(
    machine: Machine, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "control")
    share = alone(machine, "mps", 30, CUDA_MPS_PIPE_DIRECTORY=str(tmp_path), FAKE_CUDA_MPS="0")
    assert share == pytest.approx(30, abs=2)


@pytest.mark.parametrize(("given", "told"), [(None, "30"), ("20", "20"), ("60", "30"), ("lots", "30")])
def test_mps_is_told_the_share_before_cuda_starts_and_less_where_asked(
    machine: Machine, tmp_path: Path, given: str | None, told: str
) -> None:
    """CUDA reads the percentage in cuInit, so it must be there when the driver's cuInit is called."""
    os.mkfifo(tmp_path / "control")
    asked = {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": given} if given else {}
    done = machine.run(
        "share", "--seconds", "0.01", virtual=True, CUDA_DEVICE_SM_LIMIT="30", POOLMGR_HOOK_MODE="mps",
        CUDA_MPS_PIPE_DIRECTORY=str(tmp_path), FAKE_CUDA_LOG=str(tmp_path / "log"), **asked,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"cuInit MPS {told} {tmp_path}\n" in (tmp_path / "log").read_text()


def test_without_an_mps_daemon_the_hook_holds_the_share_itself(machine: Machine, tmp_path: Path) -> None:
    share = alone(machine, "mps", 30, CUDA_MPS_PIPE_DIRECTORY=str(tmp_path / "nothing"))
    assert share == pytest.approx(30, abs=2)


def change_at_half(machine: Machine, offset: int, form: str, value: int, **settings: str) -> float:
    """Share of ten seconds in whose middle somebody writes to the region, as HAMi's monitor does."""
    done = machine.run(
        "share", "--seconds", "10", "--write-at", "5", "--region", str(machine.region),
        "--offset", str(offset), "--size", str(struct.calcsize(form)), "--value", str(value),
        virtual=True, **settings,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return share_of(done.stdout)


def test_a_limit_changes_live(machine: Machine) -> None:
    assert change_at_half(machine, SM_LIMIT, "<Q", 80, CUDA_DEVICE_SM_LIMIT="20") == pytest.approx(50, abs=2)


def test_lifting_a_limit_live_lets_go(machine: Machine) -> None:
    assert change_at_half(machine, SM_LIMIT, "<Q", 100, CUDA_DEVICE_SM_LIMIT="20") == pytest.approx(60, abs=2)


def test_the_monitors_switch_lifts_the_limit_and_force_overrules_it(machine: Machine) -> None:
    assert change_at_half(machine, SWITCH, "<i", 0, CUDA_DEVICE_SM_LIMIT="20") == pytest.approx(60, abs=2)
    machine.region.unlink()
    forced = change_at_half(
        machine, SWITCH, "<i", 0, CUDA_DEVICE_SM_LIMIT="20", GPU_CORE_UTILIZATION_POLICY="force"
    )
    assert forced == pytest.approx(20, abs=2)


def test_the_monitors_block_flag_stops_launches_until_it_is_taken_back(machine: Machine) -> None:
    """Blocked for two of ten seconds."""
    done = machine.run(
        "share", "--seconds", "10", "--write-at", "4", "--undo-at", "6", "--region", str(machine.region),
        "--offset", str(RECENT_KERNEL), "--size", "4", "--value", "-1", "--undo-value", "2", virtual=True,
        CUDA_DEVICE_SM_LIMIT="50",
    )  # fmt: skip
    assert share_of(done.stdout) == pytest.approx(40, abs=2)


def test_priority_is_told_to_the_monitor(machine: Machine) -> None:
    machine.run("share", "--seconds", "0.1", virtual=True, CUDA_DEVICE_SM_LIMIT="50", CUDA_TASK_PRIORITY="0")
    assert read(machine.region, PRIORITY, "<i") == 0


def test_what_the_node_says_is_not_changed_by_whoever_writes_to_the_region(machine: Machine) -> None:
    config = machine.folder / "hook.conf"
    config.write_text("core_limit = 20\nmemory_limit = 1Gi\n")
    config.chmod(0o644)
    done = machine.run(
        "share", "--seconds", "10", "--write-at", "5", "--region", str(machine.region), "--offset", str(SM_LIMIT),
        "--size", "8", "--value", "100", virtual=True, hook=BUILD / "libvgpu_paths.so", PH_TEST_CONFIG=str(config),
    )  # fmt: skip
    assert share_of(done.stdout) == pytest.approx(20, abs=2)
    assert json.loads(done.stdout)["launches"] > 0
