"""`poolmgr snapshot` and `plan --kubeconfig` on a real API server: what they read is what the manager sees."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.controlplane.plane import ControlPlane
from e2e.fixtures import running_control_plane
from tests.integration.cluster.real_cluster import device, ensure_crds, report_gpus

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def plane(artifacts: Path) -> Iterator[ControlPlane]:
    for started in running_control_plane(artifacts / "snapshot"):
        started.ensure_kwok()
        yield started


def poolmgr(*arguments: str, fails: bool = False) -> str:
    command = [sys.executable, "-m", "poolmgr.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout


def test_cluster_without_the_custom_resources_is_not_taken_for_an_empty_one(plane: ControlPlane) -> None:
    said = poolmgr("snapshot", "--kubeconfig", str(plane.kubeconfig), "--timeout", "3", fails=True)
    assert "has not been read completely" in said
    assert "gpunodes" in said.lower()


def test_snapshot_of_a_cluster_can_be_planned_on_elsewhere(plane: ControlPlane, tmp_path: Path) -> None:
    ensure_crds(plane)
    plane.add_fake_node("snap-1", labels={"zone": "a"})
    pool = {"apiVersion": "poolmgr.io/v1alpha1", "kind": "GPUPool", "metadata": {"name": "snap"}, "spec": {}}
    plane.apply(pool)
    report_gpus(plane, "snap-1", [device()])
    path = tmp_path / "snapshot.json"
    path.write_text(poolmgr("snapshot", "--kubeconfig", str(plane.kubeconfig)))
    seen = json.loads(path.read_text())
    assert seen["synced"] is True
    assert [node["name"] for node in seen["nodes"] if node["gpus"]] == ["snap-1"]
    from_file = json.loads(poolmgr("plan", "--from", str(path), "--json"))
    live = json.loads(poolmgr("plan", "--kubeconfig", str(plane.kubeconfig), "--json"))
    assert from_file["refusals"] == live["refusals"]
    assert any(r["namespace"] == "snap-1" for r in live["refusals"])
