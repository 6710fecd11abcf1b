"""The benchmark of the live manager, on a fleet of three nodes: every phase runs and every figure is there."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.live.calls import CALLS
from bench.live.fleet import Size
from bench.live.manager import Arm
from bench.live.report import markdown
from bench.live.run import Schedule, measure
from bench.live.session import PROGRAMS, fill
from e2e.controlplane.plane import ControlPlane
from e2e.gomodule import BuildFailed

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[3]
SIZE = Size(nodes=3, gpus=8, pods=40)
BRIEF = Schedule(rest_seconds=1, changes_seconds=2, rate=20, vms=2, vm_seconds=0.5, rounds=1, open_seconds=2)


@pytest.fixture(scope="module")
def own_plane(artifacts: Path) -> Iterator[ControlPlane]:
    """etcd and the API server alone: no controller may judge nodes that nobody runs."""
    try:
        plane = ControlPlane(artifacts / "bench-live", PROGRAMS)
    except BuildFailed as failed:
        pytest.skip(f"no control plane: {failed}")
    try:
        yield plane.start()
    finally:
        plane.stop()


def test_every_phase_runs_and_nodes_are_as_before_for_the_next_arm(
    own_plane: ControlPlane, tmp_path: Path
) -> None:
    reported: list[str] = []
    fill(own_plane, SIZE, reported.append)
    before = _gpu_nodes(own_plane)
    arms = [Arm("this", ROOT), Arm("again", ROOT)]
    figures = asyncio.run(measure(own_plane, arms, SIZE, BRIEF, tmp_path, reported.append))
    for found in figures.values():
        assert len(found.begin_s) == BRIEF.vms
        assert found.never_begun == 0
        assert found.calls_s.keys() == CALLS.keys()
        assert not any(found.refused.values()), found.refused
        assert found.leads_s >= found.ready_s > 0
        assert found.rss_mib >= found.pss_mib > 0
        assert found.changes_rate > 0
        assert found.open_bytes
    assert _gpu_nodes(own_plane) == before
    table = "\n".join(markdown(figures, SIZE, BRIEF, "here"))
    assert "again / this" in table
    assert "goal" not in table


def _gpu_nodes(plane: ControlPlane) -> list[object]:
    found = plane.api.get("/apis/poolmgr.io/v1alpha1/gpunodes")["items"]
    return [(n["metadata"]["name"], n["spec"], n["status"]["devices"]) for n in found]
