"""The compute limit on the fake machine's virtual clock, measured by the machine itself."""

import os

import pytest

from conftest import PATIENCE, RUNNER, SANITIZER, Machine, share_of

WHOLE = "LIBHOOK_WHOLE" in os.environ
"""run-tests.sh --shares: more limits, and ten seconds of everything however many launches that takes."""
LIMITS = range(5, 100, 15) if WHOLE else (5, 25, 50, 75, 95)
LAUNCHES = 20_000 if SANITIZER or RUNNER else 200_000
"""More than these take too long, and far fewer where processes queue them side by side: such kernels are held against the
limit for less than ten seconds, but for one."""
SECOND = 1_000_000_000


def seconds_for(limit: int, ns: int, processes: int, mode: str) -> float:
    launches = LAUNCHES / (processes if mode == "sync" else processes**2)
    return 10 if WHOLE else max(1, min(10, launches * ns * 100 / limit / SECOND))


def measured(
    machine: Machine,
    limit: int,
    mode: str,
    ns: int,
    *,
    processes: int = 1,
    streams: int = 1,
    seconds: float | None = None,
    call_ns: int = 500,
) -> float:
    """The share that kernels of `ns` got; a graph is ten of a tenth."""
    done = machine.run(
        "share",
        "--ns",
        str(ns // 10 if mode == "graph" else ns),
        "--mode",
        mode,
        "--seconds",
        str(seconds or seconds_for(limit, ns, processes, mode)),
        "--processes",
        str(processes),
        "--streams",
        str(streams),
        virtual=True,
        timeout=900 if WHOLE else PATIENCE,
        CUDA_DEVICE_SM_LIMIT=str(limit),
        FAKE_CUDA_CALL_NS=str(call_ns),
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return share_of(done.stdout)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("mode", ["sync", "async", "graph"])
@pytest.mark.parametrize("ns", [10_000, 100_000, 1_000_000, 10_000_000, 50_000_000, 200_000_000])
def test_share_holds_within_two_points(machine: Machine, limit: int, mode: str, ns: int) -> None:
    assert measured(machine, limit, mode, ns) == pytest.approx(limit, abs=2)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("mode", ["sync", "async", "graph"])
@pytest.mark.parametrize("ns", [500_000_000, SECOND, 2 * SECOND])
def test_share_of_kernels_longer_than_two_points_of_it_holds_within_one_kernel(
    machine: Machine, limit: int, mode: str, ns: int
) -> None:
    """Nothing that cannot stop a kernel holds less: in ten seconds at 5 % one of two seconds is 20 points or none."""
    share = measured(machine, limit, mode, ns)
    assert limit - 2 <= share <= limit + 100 * ns / (10 * SECOND)


@pytest.mark.parametrize("limit", [5, 50, 95])
@pytest.mark.parametrize("mode", ["sync", "async", "graph"])
def test_share_of_kernels_of_two_seconds_holds_over_many_of_them(
    machine: Machine, mode: str, limit: int
) -> None:
    seconds = 400 if limit == 5 else 200
    assert measured(machine, limit, mode, 2 * SECOND, seconds=seconds) == pytest.approx(limit, abs=2)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("mode", ["sync", "async", "graph"])
def test_share_holds_for_kernels_of_a_microsecond(machine: Machine, mode: str, limit: int) -> None:
    """With calls of 20 ns, or a program that waits for each kernel could not use 95 % itself."""
    ns = 10_000 if mode == "graph" else 1_000
    assert measured(machine, limit, mode, ns, call_ns=20) == pytest.approx(limit, abs=2)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("ns", [20_000, 200_000, 20_000_000])
def test_many_streams_count_once(machine: Machine, limit: int, ns: int) -> None:
    assert measured(machine, limit, "async", ns, streams=8) == pytest.approx(limit, abs=2)


@pytest.mark.parametrize("limit", [25, 75])
@pytest.mark.parametrize(("streams", "ns"), [(8, 1_000), (32, 5_000), (64, 20_000), (128, 200_000)])
def test_many_streams_that_rest_between_their_launches_count_once(
    machine: Machine, limit: int, streams: int, ns: int
) -> None:
    """Each stream's kernels are shorter than the time between its launches; 64 with 20 µs paid for each other, forty
    times, and got 2 of 50 %. Nobody knows when within a batch a kernel ran: at worst (64 of them) it was 5 points less."""
    share = measured(machine, limit, "async", ns, streams=streams, seconds=1)
    assert limit - 7 <= share <= limit + 2


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("ns", [10_000, 200_000, 3_000_000])
@pytest.mark.parametrize("processes", [2, 4, 16])
def test_processes_that_wait_share_one_limit(machine: Machine, limit: int, ns: int, processes: int) -> None:
    """Each waits for its kernel, so the measured times of all of them overlap on a GPU that takes turns."""
    share = measured(machine, limit, "sync", ns, processes=processes, call_ns=2000)
    assert share == pytest.approx(limit, abs=2)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(("processes", "ns"), [(2, 1_000_000), (4, 1_000_000), (16, 200_000)])
def test_processes_that_queue_share_one_limit(machine: Machine, limit: int, processes: int, ns: int) -> None:
    share = measured(machine, limit, "async", ns, processes=processes, call_ns=2000)
    assert share == pytest.approx(limit, abs=2)


@pytest.mark.parametrize("limit", [5, 95])
def test_sixteen_processes_with_kernels_of_a_microsecond_share_one_limit(
    machine: Machine, limit: int
) -> None:
    assert measured(machine, limit, "async", 1_000, processes=16) == pytest.approx(limit, abs=2)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("processes", [4, 16])
def test_processes_with_graphs_share_one_limit(machine: Machine, limit: int, processes: int) -> None:
    share = measured(machine, limit, "graph", 200_000, processes=processes, call_ns=2000)
    assert share == pytest.approx(limit, abs=2)


@pytest.mark.parametrize("life_ms", [1, 4, 10])
def test_processes_killed_before_they_paid_stay_within_the_limit(machine: Machine, life_ms: int) -> None:
    """On the real clock. Those of 4 ms got 47 of 10 % while nobody paid for them. Who is killed may be charged two
    milliseconds more than it used, so they get less than the limit."""
    done = machine.run(
        "short_lived", "--seconds", "2", "--life-ns", str(life_ms * 1_000_000), CUDA_DEVICE_SM_LIMIT="10"
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert 0.5 < share_of(done.stdout) < 12


def test_without_a_limit_nothing_waits(machine: Machine) -> None:
    assert measured(machine, 100, "async", 100_000, seconds=2) > 99


def test_thinking_between_launches_is_not_charged(machine: Machine) -> None:
    """100 µs of work in every 1.1 ms is 9 %: a limit of 20 must not slow it."""
    assert measured(machine, 20, "think", 100_000) == pytest.approx(9, abs=0.5)


def test_a_policy_of_disable_lifts_the_limit(machine: Machine) -> None:
    done = machine.run(
        "share",
        "--seconds",
        "2",
        virtual=True,
        CUDA_DEVICE_SM_LIMIT="20",
        GPU_CORE_UTILIZATION_POLICY="disable",
    )
    assert share_of(done.stdout) > 99


def shares_of_two_tenants_are(
    shares: tuple[int, int], machine: Machine, folder, ns: int, settings: list[dict[str, str]]
) -> None:
    """Two containers side by side on one GPU for ten seconds, each with its own limit and settings."""
    running = [
        machine.start(
            "share",
            "--seconds",
            "10",
            "--ns",
            str(ns),
            "--programs",
            str(len(shares)),
            CUDA_DEVICE_SM_LIMIT=str(share),
            CUDA_DEVICE_MEMORY_SHARED_CACHE=str(folder / f"{index}.cache"),
            FAKE_CUDA_CALL_NS="2000",
            **own,
        )
        for index, (share, own) in enumerate(zip(shares, settings, strict=True))
    ]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in running]
    assert [share_of(output) for output in outputs] == [pytest.approx(share, abs=2) for share in shares]


@pytest.mark.parametrize("ns", [20_000, 200_000, 1_000_000])
@pytest.mark.parametrize("shares", [(30, 70), (10, 90)])
def test_two_tenants_get_their_shares_with_windows(
    machine: Machine, tmp_path, shares: tuple[int, int], ns: int
) -> None:
    each = [
        {"POOLMGR_HOOK_MODE": "windows", "POOLMGR_HOOK_WINDOW_START_PERCENT": str(start)}
        for start in (0, shares[0])
    ]
    shares_of_two_tenants_are(shares, machine, tmp_path, ns, each)


@pytest.mark.parametrize("shares", [(30, 70), (50, 50), (10, 90)])
def test_two_tenants_get_their_shares_where_activity_is_known(
    machine: Machine, tmp_path, shares: tuple[int, int]
) -> None:
    activity = {"POOLMGR_HOOK_ACTIVITY": str(tmp_path)}
    shares_of_two_tenants_are(shares, machine, tmp_path, 200_000, [activity, activity])
