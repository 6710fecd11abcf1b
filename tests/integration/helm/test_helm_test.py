"""`helm test` in a cluster without GPUs, HAMi or KubeVirt: what it runs, under which rights, and what it says is missing.

No kubelet is here: what the test's pod would run is run on this machine, under the rights of the pod's own account.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from e2e.controlplane.plane import CommandFailed, ControlPlane
from e2e.fixtures import running_control_plane
from e2e.processes import wait_until
from tests.integration.helm.installation import NAMESPACE, Installation, installation

pytestmark = pytest.mark.integration

PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
POD = f"{PODS}/poolmgr-test"


@pytest.fixture(scope="module")
def release(artifacts: Path) -> Iterator[Installation]:
    for plane in running_control_plane(artifacts / "helm-test"):
        with installation(plane) as it:
            it.start_webhook()
            yield it


def lead(plane: ControlPlane) -> None:
    """As a manager does whose clock is ahead: the Lease is fresh however long a test takes."""
    renewed = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    lease = {"holderIdentity": "poolmgr-manager-1_2", "leaseDurationSeconds": 15, "renewTime": renewed}
    plane.apply(
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "poolmgr-manager", "namespace": NAMESPACE},
            "spec": lease,
        }
    )


class Kubelet(threading.Thread):
    """Runs the one pod of the test, and ends it as its command ended."""

    def __init__(self, plane: ControlPlane) -> None:
        super().__init__(daemon=True)
        self._plane = plane
        self.said = ""

    def run(self) -> None:
        wait_until("the test's pod", lambda: self._plane.api.exists(POD))
        spec: dict[str, Any] = self._plane.api.get(POD)["spec"]
        kubeconfig = self._plane.service_account_kubeconfig(NAMESPACE, spec["serviceAccountName"])
        command = [sys.executable, "-m", "poolmgr.cli.main", *spec["containers"][0]["args"]]
        done = subprocess.run(
            [*command, "--kubeconfig", str(kubeconfig)], capture_output=True, text=True, check=False
        )
        self.said = done.stdout + done.stderr
        phase = "Failed" if done.returncode else "Succeeded"
        self._plane.api.patch(f"{POD}/status", {"status": {"phase": phase}})


def helm_test(plane: ControlPlane) -> str:
    """What the pod said. Raises CommandFailed as helm does."""
    if plane.api.exists(POD):
        plane.kubectl("delete", "pod", "poolmgr-test", "-n", NAMESPACE, "--force", "--grace-period=0")
    kubelet = Kubelet(plane)
    kubelet.start()
    try:
        plane.helm("test", "poolmgr", "-n", NAMESPACE, "--timeout", "10m")
    finally:
        kubelet.join()
    return kubelet.said


def test_it_passes_where_poolmgr_works_and_says_what_the_cluster_lacks(release: Installation) -> None:
    lead(release.plane)
    said = helm_test(release.plane)
    assert "no node reports a GPU" in said
    assert "KubeVirt is not installed" in said
    assert "HAMi is not installed" in said
    assert "there is no GPUPool" in said
    assert "the API server can call it" in said
    assert "poolmgr-manager-1_2 leads" in said
    assert "forbidden" not in said.lower(), said


def test_it_fails_where_no_manager_leads(release: Installation) -> None:
    release.plane.kubectl("delete", "lease", "poolmgr-manager", "-n", NAMESPACE, "--ignore-not-found")
    with pytest.raises(CommandFailed):
        helm_test(release.plane)


def test_the_notes_say_how_to_check_and_that_kubevirt_is_missing(release: Installation) -> None:
    notes = release.plane.helm("get", "notes", "poolmgr", "-n", NAMESPACE)
    assert f"helm test poolmgr -n {NAMESPACE} --logs" in notes
    assert "KubeVirt is not installed here" in notes


def test_nothing_of_the_test_but_its_pod_stays(release: Installation) -> None:
    lead(release.plane)
    helm_test(release.plane)
    left = json.loads(release.plane.kubectl("get", "serviceaccounts,pods", "-n", NAMESPACE, "-o", "json"))
    names = {(item["kind"], item["metadata"]["name"]) for item in left["items"]}
    assert ("Pod", "poolmgr-test") in names
    assert ("ServiceAccount", "poolmgr-test") not in names
