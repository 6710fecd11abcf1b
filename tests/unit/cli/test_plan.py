"""`poolmgr plan` and `snapshot`: what they say, and how they say no."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.speed.planner import random_cluster
from poolmgr.cli.main import app
from poolmgr.sim.snapshots import encode_snapshot


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    path = tmp_path / "snapshot.json"
    path.write_bytes(encode_snapshot(random_cluster(nodes=3, gpus=8, pods=40, seed=1)))
    return path


def test_every_gpu_of_a_snapshot_is_moved_or_has_a_reason(snapshot: Path) -> None:
    plan = json.loads(CliRunner().invoke(app, ["plan", "--from", str(snapshot), "--json"]).output)
    moved = {(m["node"], m["pci_address"]) for m in plan["moves"]}
    kept = {(r["namespace"], r["name"]) for r in plan["refusals"] if r["kind"] == "GPU"}
    assert len(moved | kept) == 24
    assert not moved & kept


def test_one_gpu_is_explained_in_one_line(snapshot: Path) -> None:
    said = CliRunner().invoke(app, ["plan", "--from", str(snapshot), "--explain", "GPU-00000-3"]).output
    assert said.startswith("node-00000/0000:13:00.0: ")
    assert len(said.splitlines()) == 1


def test_snapshot_is_read_from_standard_input(snapshot: Path) -> None:
    result = CliRunner().invoke(app, ["plan", "--from", "-"], input=snapshot.read_bytes())
    assert result.exit_code == 0
    assert "GPU(s) to move" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "--from", "/nowhere.json"], "there is no file /nowhere.json"),
        (["plan", "--kubeconfig", "/nowhere"], "there is no kubeconfig /nowhere"),
        (["snapshot", "--kubeconfig", "/nowhere"], "there is no kubeconfig /nowhere"),
        (["plan"], "give either a snapshot with --from or a cluster with"),
    ],
)
def test_what_cannot_be_read_is_named(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code != 0
    assert said in result.output


def test_gpu_that_is_not_there_is_refused_with_an_example(snapshot: Path) -> None:
    result = CliRunner().invoke(app, ["plan", "--from", str(snapshot), "--explain", "x"])
    assert result.exit_code == 1
    assert "e.g. node-00000/0000:10:00.0" in result.output
