"""Traces are read as they are, wherever their period begins."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from bench.scenarios.traces import DAY, WEEK, Sessions, read_pods, read_sessions
from bench.scenarios.workload import superpose, term_weeks
from poolmgr.domain.errors import Rejected

HEADER = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time"


def write_sessions(folder: Path, name: str, first: str, rows: list[tuple[float, float]]) -> None:
    (folder / "uncg-desktops").mkdir(exist_ok=True)
    text = f"# t0 = {first} 00:00 local\nstart_s,machine,pool,duration_s\n"
    text += "".join(f"{s},1,1,{d}\n" for s, d in rows)
    (folder / "uncg-desktops" / name).write_bytes(gzip.compress(text.encode()))


def test_sessions_of_two_files_share_a_clock_that_begins_on_a_monday(tmp_path: Path) -> None:
    write_sessions(tmp_path, "sessions_a.csv.gz", "2015-08-19", [(0, 60)])  # a Wednesday
    write_sessions(tmp_path, "sessions_b.csv.gz", "2015-08-24", [(5, 70)])
    read = read_sessions(tmp_path)
    assert read.start.tolist() == [2 * DAY, WEEK + 5]
    assert read.duration.tolist() == [60, 70]


def test_missing_traces_are_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="give the folder that holds the traces with --data"):
        read_sessions(tmp_path)


def test_file_without_a_first_day_is_refused(tmp_path: Path) -> None:
    write_sessions(tmp_path, "sessions_a.csv.gz", "unknown", [(0, 60)])
    with pytest.raises(Rejected, match="t0 = YYYY-MM-DD"):
        read_sessions(tmp_path)


def test_pods_without_times_stay_as_shapes(tmp_path: Path) -> None:
    (tmp_path / "openb").mkdir()
    rows = ["a,1000,10,1,500,,BE,Running,100,400,130", "b,1000,10,1,1000,G2|P100,LS,,,,"]
    (tmp_path / "openb" / "openb_pod_list_default.csv").write_text("\n".join([HEADER, *rows]))
    pods = read_pods(tmp_path)
    assert pods.start[0] == 100
    assert pods.duration[0] == 270
    assert np.isnan(pods.start[1])
    assert pods.models == ("", "G2|P100")


def test_held_out_weeks_are_never_weeks_to_develop_on() -> None:
    starts = np.sort(np.random.default_rng(1).random(20_000)) * 10 * WEEK
    sessions = Sessions(starts, np.ones(20_000))
    develop, held_out = (set(term_weeks(sessions, split)) for split in ("develop", "held-out"))
    assert develop
    assert held_out
    assert not develop & held_out
    assert max(develop) < min(held_out)


def test_superposed_pods_meet_the_load_and_differ_by_seed(tmp_path: Path) -> None:
    (tmp_path / "openb").mkdir()
    rows = [
        f"p{n},1000,10,1,1000,,LS,Running,{n * 600 + 1},{n * 600 + 1801},{n * 600 + 1}" for n in range(3_200)
    ]
    (tmp_path / "openb" / "openb_pod_list_default.csv").write_text("\n".join([HEADER, *rows]))
    pods = read_pods(tmp_path)
    table, copies = superpose(pods, 20.0, 3 * DAY, np.random.default_rng(1))
    other, _ = superpose(pods, 20.0, 3 * DAY, np.random.default_rng(2))
    late = table.start > 0
    assert table.duration[late].sum() / (3 * DAY) == pytest.approx(20.0, rel=0.1)
    assert copies == pytest.approx(20.0 / 3.0, rel=0.15)
    assert len(other) != len(table)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            gzip.compress(b"# t0 = 2016-01-04 00:00\nstart_s,duration_s\n" + b"1,2\n" * 5_000, mtime=0)[:-20],
            "to its end",
        ),
        (b"no archive", "to its end"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (gzip.compress(b"# t0 = 2016-01-04 00:00\nstart,length\n1,2\n", mtime=0), "no column 'start_s'"),
        (
            gzip.compress(b"# t0 = 2016-01-04 00:00\nstart_s,duration_s\n1,2\nx,3\n", mtime=0),
            "line 4: .*a number",
        ),
        (
            gzip.compress(b"# t0 = 2016-01-04 00:00\nstart_s,duration_s\n1,2\n3\n", mtime=0),
            "line 4: has 1 columns",
        ),
        (gzip.compress(b"# t0 = 2016-01-04 00:00\nstart_s,duration_s\n", mtime=0), "no rows"),
    ],
    # ids of its own: a compressed file begins with the time
    ids=["cut off", "no gzip", "empty", "wrong columns", "no number", "short line", "no rows"],
)
def test_broken_file_is_named_with_what_is_wrong(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "uncg-desktops").mkdir()
    (tmp_path / "uncg-desktops" / "sessions_a.csv.gz").write_bytes(content)
    with pytest.raises(Rejected, match=f"sessions_a.*{said}"):
        read_sessions(tmp_path)


def test_pod_list_without_any_times_cannot_be_replayed(tmp_path: Path) -> None:
    (tmp_path / "openb").mkdir()
    text = f"{HEADER}\nb,1000,10,1,1000,,LS,,,,\n"
    (tmp_path / "openb" / "openb_pod_list_default.csv").write_text(text)
    with pytest.raises(Rejected, match="no GPU pod with times"):
        superpose(read_pods(tmp_path), 5.0, DAY, np.random.default_rng(1))


def test_list_of_shapes_alone_is_read_as_pods_that_are_not_best_effort(tmp_path: Path) -> None:
    (tmp_path / "openb").mkdir()
    text = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,1000,10,8,1000\nb,1000,10,1,500\n"
    (tmp_path / "openb" / "openb_pod_list_multigpu50.csv").write_text(text)
    pods = read_pods(tmp_path, "multigpu50")
    assert pods.gpus.tolist() == [8, 1]
    assert not pods.best_effort.any()
    assert np.isnan(pods.start).all()


def test_pods_of_a_list_without_scheduling_times_start_when_created(tmp_path: Path) -> None:
    (tmp_path / "openb").mkdir()
    text = "num_gpu,gpu_milli,cpu_milli,memory_mib,qos,creation_time,deletion_time\n1,1000,1,1,BE,100,400\n1,1000,1,1,BE,,\n"
    (tmp_path / "openb" / "openb_pod_list_default.csv").write_text(text)
    pods = read_pods(tmp_path)
    assert (pods.start[0], pods.duration[0]) == (100, 300)
    assert np.isnan(pods.start[1])


def test_sessions_that_began_before_the_first_day_move_the_common_monday(tmp_path: Path) -> None:
    write_sessions(tmp_path, "sessions_a.csv.gz", "2015-08-19", [(-10 * DAY, 60), (0, 60)])
    read = read_sessions(tmp_path)
    assert read.start.tolist() == [6 * DAY, 16 * DAY]
    assert str(read.monday) == "2015-08-03"


def test_sessions_that_say_no_time_or_never_end_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "uncg-desktops").mkdir()
    text = (
        "\ufeff# t0 = 2016-01-04 00:00\r\nstart_s,duration_s\r\n1,2\r\n,3\r\n4,\r\n5,inf\r\nnan,6\r\n7,-1\r\n"
    )
    (tmp_path / "uncg-desktops" / "sessions_a.csv").write_text(text, encoding="utf-8", newline="")
    assert read_sessions(tmp_path).start.tolist() == [1]


def test_weeks_without_anybody_between_two_files_are_never_drawn() -> None:
    early = np.sort(np.random.default_rng(1).random(3_000)) * 4 * WEEK
    sessions = Sessions(np.concatenate([early, early + 400 * WEEK]), np.ones(6_000))
    for split in ("develop", "held-out", "all"):
        weeks = term_weeks(sessions, split)
        assert weeks
        assert all(week < 4 or week >= 400 for week in weeks)
