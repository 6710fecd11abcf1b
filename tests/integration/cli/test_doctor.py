"""`poolmgr doctor` on a real API server: before anything is installed, and with a node that reports."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.controlplane.plane import ControlPlane
from e2e.fixtures import running_control_plane
from tests.integration.cluster.real_cluster import device, ensure_crds, report_gpus

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def plane(artifacts: Path) -> Iterator[ControlPlane]:
    for started in running_control_plane(artifacts / "doctor"):
        started.ensure_kwok()
        yield started


def doctor(plane: ControlPlane, *words: str) -> tuple[int, dict[tuple[str, str], str]]:
    """Its exit code, and each grade by question and object."""
    command = [sys.executable, "-m", "poolmgr.cli.main", "doctor", "-o", "json", *words]
    command += ["--kubeconfig", str(plane.kubeconfig)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.stdout, done.stderr
    items: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return done.returncode, {(item["check"], item["about"]): item["grade"] for item in items}


def test_what_is_missing_is_found_and_what_is_there_is_not(plane: ControlPlane) -> None:
    code, before = doctor(plane)
    assert code == 1
    assert before["crds", "CRD gpunodes.poolmgr.io"] == "problem"
    assert before["kubevirt", "cluster"] == "note"
    ensure_crds(plane)
    plane.add_fake_node("doc-1", labels={"nvidia.com/gpu.present": "true"})
    plane.add_fake_node("doc-2", labels={"nvidia.com/gpu.present": "true"})
    report_gpus(plane, "doc-1", [device()])
    code, after = doctor(plane)
    assert code == 1
    assert after["crds", "CRD gpunodes.poolmgr.io"] == "ok"
    assert after["agent", "node doc-2"] == "problem"
    assert ("agent", "node doc-1") not in after
    assert after["pools", "cluster"] == "problem"
    assert after["manager", "Lease poolmgr-manager"] == "problem"


def test_a_cluster_that_does_not_answer_is_no_finding(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "poolmgr.cli.main", "doctor", "--kubeconfig", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode, done.stdout) == (2, "")
