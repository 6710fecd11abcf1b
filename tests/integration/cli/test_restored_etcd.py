"""etcd put back to a backup under a running manager: what is no more is forgotten, and what came since is seen."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.controlplane.plane import ControlPlane
from e2e.processes import wait_until
from tests.integration.cli.test_manager import Manager
from tests.integration.helm.installation import DEVICE, Installation, installation

pytestmark = pytest.mark.integration

WRITES = 300
"""More than the control plane itself makes while etcd is put back, so that its history ends before what was seen."""


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Installation]:
    """On a control plane of its own: others would lose their objects with the backup."""
    plane = ControlPlane(tmp_path / "plane")
    try:
        plane.start().ensure_controller_manager()
        with installation(plane, "defaultPool.enabled=true", "webhook.hooks.gpupools.enabled=false") as it:
            yield it
    finally:
        plane.stop()


def add_gpu(release: Installation, node: str) -> None:
    release.plane.api.create(
        "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}
    )
    release.report(node, {**DEVICE, "uuid": f"GPU-{node}"})


def test_manager_forgets_what_a_restore_has_undone_and_sees_what_came_since(
    release: Installation, tmp_path: Path
) -> None:
    plane = release.plane
    add_gpu(release, "kept")
    manager = Manager(release, "manager-a", tmp_path).start()

    def seen() -> set[str]:
        return {node["name"] for node in manager.get("/api/v1/nodes")[1]["items"]}

    wait_until("the manager to lead", lambda: manager.leads)
    wait_until("the first node", lambda: seen() == {"kept"})
    plane.back_up(tmp_path / "backup")
    for number in range(WRITES):
        plane.api.patch("/api/v1/nodes/kept", {"metadata": {"annotations": {"write": str(number)}}})
    add_gpu(release, "lost")
    wait_until("the second node", lambda: seen() == {"kept", "lost"})

    # It meets the API server when that is ready again: one that is not yet refuses it for rights, and that lists anew too.
    os.kill(manager.process.pid, signal.SIGSTOP)
    plane.restore(tmp_path / "backup")
    add_gpu(release, "since")
    os.kill(manager.process.pid, signal.SIGCONT)
    wait_until("the history that there is now", lambda: seen() == {"kept", "since"})
    wait_until("the manager to lead again", lambda: manager.leads)
    assert "history_went_back" in manager.process.log.read_text()
    manager.process.stop()
