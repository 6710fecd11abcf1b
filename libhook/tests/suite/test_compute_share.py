"""The compute limit on the fake machine's virtual clock, measured by the machine itself."""

import pytest

from conftest import Machine, share_of

SECONDS = "10"


def measured(
    machine: Machine,
    limit: int,
    mode: str,
    ns: int,
    *,
    processes: int = 1,
    streams: int = 1,
    seconds: str = SECONDS,
    call_ns: int = 500,
) -> float:
    done = machine.run(
        "share",
        "--ns",
        str(ns),
        "--mode",
        mode,
        "--seconds",
        seconds,
        "--processes",
        str(processes),
        "--streams",
        str(streams),
        virtual=True,
        CUDA_DEVICE_SM_LIMIT=str(limit),
        FAKE_CUDA_CALL_NS=str(call_ns),
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return share_of(done.stdout)


@pytest.mark.parametrize("limit", [5, 25, 50, 75, 95])
@pytest.mark.parametrize("mode", ["sync", "async", "graph"])
@pytest.mark.parametrize("ns", [10_000, 100_000, 10_000_000])
def test_share_holds_within_two_points(machine: Machine, limit: int, mode: str, ns: int) -> None:
    assert measured(machine, limit, mode, ns) == pytest.approx(limit, abs=2)


@pytest.mark.parametrize("limit", [5, 25, 95])
@pytest.mark.parametrize("mode", ["sync", "async", "graph"])
def test_share_holds_for_kernels_of_a_microsecond(machine: Machine, mode: str, limit: int) -> None:
    """With calls of 20 ns, or a program that waits for each kernel could not use 95 % itself."""
    share = measured(machine, limit, mode, 1_000, call_ns=20, seconds="2" if limit == 95 else SECONDS)
    assert share == pytest.approx(limit, abs=2)


@pytest.mark.parametrize("limit", [5, 50, 95])
def test_share_holds_for_kernels_of_two_seconds_over_their_own_scale(machine: Machine, limit: int) -> None:
    """A kernel cannot be stopped: the share can only hold over many of them."""
    assert measured(machine, limit, "sync", 2_000_000_000, seconds="4000") == pytest.approx(limit, abs=2)


@pytest.mark.parametrize(("mode", "ns"), [("async", 2_000_000_000), ("graph", 200_000_000)])
def test_share_holds_for_queued_kernels_and_graphs_of_two_seconds(
    machine: Machine, mode: str, ns: int
) -> None:
    assert measured(machine, 50, mode, ns, seconds="400") == pytest.approx(50, abs=2)


@pytest.mark.parametrize("limit", [5, 25, 75, 95])
def test_many_streams_count_once(machine: Machine, limit: int) -> None:
    assert measured(machine, limit, "async", 200_000, streams=8) == pytest.approx(limit, abs=2)


@pytest.mark.parametrize("limit", [5, 25, 50, 95])
@pytest.mark.parametrize("ns", [10_000, 200_000, 3_000_000])
@pytest.mark.parametrize("processes", [2, 4, 16])
def test_processes_that_wait_share_one_limit(machine: Machine, limit: int, ns: int, processes: int) -> None:
    """Each waits for its kernel, so the measured times of all of them overlap on a GPU that takes turns."""
    share = measured(machine, limit, "sync", ns, processes=processes, seconds="2", call_ns=2000)
    assert share == pytest.approx(limit, abs=2)


@pytest.mark.parametrize("limit", [25, 95])
@pytest.mark.parametrize(("processes", "ns"), [(2, 1_000_000), (4, 1_000_000), (16, 200_000)])
def test_processes_that_queue_share_one_limit(machine: Machine, limit: int, processes: int, ns: int) -> None:
    share = measured(machine, limit, "async", ns, processes=processes, seconds="2", call_ns=2000)
    assert share == pytest.approx(limit, abs=2)


@pytest.mark.parametrize("limit", [5, 95])
def test_sixteen_processes_with_kernels_of_a_microsecond_share_one_limit(
    machine: Machine, limit: int
) -> None:
    share = measured(machine, limit, "async", 1_000, processes=16, seconds="1", call_ns=500)
    assert share == pytest.approx(limit, abs=2)


@pytest.mark.parametrize("limit", [25, 95])
def test_processes_with_graphs_share_one_limit(machine: Machine, limit: int) -> None:
    share = measured(machine, limit, "graph", 20_000, processes=4, seconds="2", call_ns=2000)
    assert share == pytest.approx(limit, abs=2)


@pytest.mark.parametrize("life_ms", [1, 4, 10])
def test_processes_killed_before_they_paid_stay_within_the_limit(machine: Machine, life_ms: int) -> None:
    """On the real clock. Those of 4 ms got 47 of 10 % while nobody paid for them. Who is killed may be charged two
    milliseconds more than it used, so they get less than the limit."""
    done = machine.run(
        "mayflies", "--seconds", "2", "--life-ns", str(life_ms * 1_000_000), CUDA_DEVICE_SM_LIMIT="10"
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert 0.5 < share_of(done.stdout) < 12


def test_without_a_limit_nothing_waits(machine: Machine) -> None:
    assert measured(machine, 100, "async", 100_000, seconds="2") > 99


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
            CUDA_DEVICE_SM_LIMIT=str(share),
            CUDA_DEVICE_MEMORY_SHARED_CACHE=str(folder / f"{index}.cache"),
            FAKE_CUDA_CALL_NS="2000",
            **own,
        )
        for index, (share, own) in enumerate(zip(shares, settings, strict=True))
    ]
    outputs = [process.communicate(timeout=100)[0] for process in running]
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
    activity = {"POOLMGR_HOOK_ACTIVITY": str(tmp_path / "activity")}
    shares_of_two_tenants_are(shares, machine, tmp_path, 200_000, [activity, activity])
