"""`poolmgr simulate`: what it accepts, and how it says no."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from poolmgr.cli.main import app
from poolmgr.cli.simulate import parse_seeds, pictures

pytestmark = pytest.mark.long

FIELDS = [
    "scenario",
    "load",
    "policy",
    "seed",
    "vm_served",
    "vm_within_60s",
    "vm_wait_p99_s",
    "goodput",
    "bound",
    "allocation",
    "flips_per_gpu_day",
    "evictions",
    "evicted_gpu_hours",
    "vm_kills",
    "pdb_violations",
    "plan_ms_p50",
    "plan_ms_max",
]
DAY = 86_400


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Two weeks of sessions and of pods, far too few to congest anything."""
    chance = np.random.default_rng(2)
    (tmp_path / "uncg-desktops").mkdir()
    (tmp_path / "openb").mkdir()
    starts = np.sort(chance.random(600)) * 15 * DAY
    rows = "".join(f"{s:.0f},{n % 40},1,{chance.exponential(4_000) + 60:.0f}\n" for n, s in enumerate(starts))
    text = f"# t0 = 2019-03-06 00:00 local\nstart_s,machine,pool,duration_s\n{rows}"
    (tmp_path / "uncg-desktops" / "sessions_2019.csv.gz").write_bytes(gzip.compress(text.encode()))
    lines = [
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,creation_time,deletion_time,scheduled_time"
    ]
    for n in range(400):
        at = int(chance.random() * 15 * DAY) + 1
        lines.append(f"p{n},1000,10,1,500,,BE,{at},{at + 7_200},{at}")
    lines += [f"q{n},1000,10,1,1000,,LS,,," for n in range(50)]
    (tmp_path / "openb" / "openb_pod_list_default.csv").write_text("\n".join(lines))
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["simulate", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_json_has_a_line_for_each_policy_and_seed_with_every_field(traces: Path) -> None:
    out = run(
        "--data", str(traces), "--days", "1", "--policy", "B4,B1", "--seeds", "1-2", "--load", "0.3", "--json"
    )
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["policy"], line["seed"]) for line in lines] == [("B4", 1), ("B1", 1), ("B4", 2), ("B1", 2)]
    for line in lines:
        assert not set(FIELDS) - set(line)
        assert 0 < line["goodput"] <= line["bound"] <= 1
        assert line["period"].startswith("2019-03-")


def test_moves_fail_where_failures_are_asked_for(traces: Path) -> None:
    base = ["--data", str(traces), "--policy", "B4", "--days", "1", "--tick-seconds", "60", "--json"]
    sound, failing = (json.loads(run(*base, "--failures", chance)) for chance in ("0", "1"))
    assert (sound["failures"], sound["failed_flips"]) == (0, 0)
    assert failing["failures"] == 1
    assert failing["failed_flips"] > 0
    assert failing["flips_per_gpu_day"] == 0


def test_week_asked_for_is_the_week_replayed(traces: Path) -> None:
    out = run(
        "--data", str(traces), "--days", "1", "--policy", "B0-vm", "--week", "1", "--load", "0.2", "--json"
    )
    line = json.loads(out)
    assert (line["period"], line["split"]) == ("2019-03-11", "week 1")


def test_strict_rule_takes_virtual_machines_from_the_pods(traces: Path) -> None:
    out = run(
        "--data", str(traces), "--days", "1", "--policy", "B5", "--rule", "strict", "--load", "0.2", "--json"
    )
    assert "openb alone" in json.loads(out)["note"]


def test_table_names_what_no_policy_could_exceed(traces: Path) -> None:
    out = run("--data", str(traces), "--days", "1", "--policy", "B4", "--load", "0.3")
    assert "no policy could exceed goodput" in " ".join(out.split())


def test_list_names_scenarios_and_policies() -> None:
    out = run("--list")
    assert all(name in out for name in ("S1", "S4", "S7", "S8", "B1 ", "B8", "B10", "poolmgr"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--policy", "B4"], "name the folder that holds the traces"),
        (["--data", "/nowhere"], "give the folder that holds the traces with --data"),
        (["--data", "/nowhere", "--split", "x"], "choose develop, held-out or all"),
        (["--data", "/nowhere", "--rule", "x"], "choose desktop or strict"),
        (["--data", "/nowhere", "--policy", "B99"], "there is no policy 'B99'; choose from poolmgr"),
        (["--data", "/nowhere", "--scenario", "S99"], "there is no scenario 'S99'"),
        (["--data", "/nowhere", "--seeds", "one"], "'one' is not a seed"),
    ],
)
def test_what_cannot_be_run_is_named(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["simulate", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code != 0
    assert said in " ".join(result.output.split())


def test_seeds_are_read_as_ranges_and_lists() -> None:
    assert parse_seeds("1-3,7") == [1, 2, 3, 7]
    with pytest.raises(typer.BadParameter):
        parse_seeds("a-b")


def test_pictures_go_where_they_are_asked_for(tmp_path: Path) -> None:
    assert [p.name for p in pictures(tmp_path / "plots", "S2")] == ["S2.png", "S2.svg"]
    assert pictures(tmp_path / "one.svg", "S2") == [tmp_path / "one.svg"]
    with pytest.raises(typer.BadParameter):
        pictures(tmp_path / "one.pdf", "S2")
