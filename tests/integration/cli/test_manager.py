"""`poolmgr manager` as a process on a real API server, with the rights of its ServiceAccount and no others."""

import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.controlplane.plane import ControlPlane
from e2e.processes import Process, free_port, wait_until
from tests.integration.helm.installation import DEVICE, NAMESPACE, Installation, installation

pytestmark = pytest.mark.integration

GPU_NODE = "/apis/poolmgr.io/v1alpha1/gpunodes/gpu-1"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/poolmgr-manager"
REPLICAS = f"/api/v1/namespaces/{NAMESPACE}/pods"
POOL = "/apis/poolmgr.io/v1alpha1/gpupools/default"


class Manager:
    """One replica: its process and its REST API."""

    def __init__(self, release: Installation, name: str, folder: Path) -> None:
        self.port = free_port()
        self.ledger = folder / f"{name}.sqlite"
        kubeconfig = release.plane.service_account_kubeconfig(NAMESPACE, "poolmgr-manager")
        command = [sys.executable, "-m", "poolmgr.cli.main", "manager", "--kubeconfig", str(kubeconfig)]
        self.process: Process = release.plane.add_process(
            name,
            command,
            {
                "POOLMGR_API__HOST": "127.0.0.1",
                "POOLMGR_API__PORT": str(self.port),
                "POOLMGR_DATABASE_URL": f"sqlite:///{self.ledger}",
                "POOLMGR_LOOP__IDLE_SECONDS": "1",
                "POOLMGR_MARK_LEADER": "true",
                "POD_NAME": name,
            },
        )

    def start(self) -> "Manager":
        self.process.start(lambda: self.get("/readyz")[0] == 200)
        return self

    def get(self, path: str) -> tuple[int, Any]:
        return self._ask(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}"))

    def rebalance(self, pool: str, **body: Any) -> tuple[int, Any]:
        url = f"http://127.0.0.1:{self.port}/api/v1/pools/{pool}:rebalance"
        headers = {"Content-Type": "application/json"}
        return self._ask(urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST"))

    def _ask(self, request: urllib.request.Request) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    @property
    def leads(self) -> bool:
        return bool(self.get("/readyz")[1]["leading"])


@pytest.fixture(scope="module")
def release(control_plane: ControlPlane) -> Iterator[Installation]:
    """One node with one shared GPU, and a pool that only recommends."""
    control_plane.ensure_namespace("desk")
    with installation(
        control_plane, "defaultPool.enabled=true", "webhook.hooks.gpupools.enabled=false"
    ) as it:
        it.plane.api.create(
            "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-1"}}
        )
        it.report("gpu-1", DEVICE)
        yield it
        it.plane.api.delete("/api/v1/nodes/gpu-1")


@pytest.fixture(scope="module")
def managers(
    release: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Manager, Manager]]:
    """The first leads, the second stands by."""
    folder = tmp_path_factory.mktemp("ledger")
    for name in ("manager-a", "manager-b"):  # what they would run in
        spec = {
            "serviceAccountName": "poolmgr-manager",
            "containers": [{"name": "manager", "image": "poolmgr"}],
        }
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        release.plane.api.create(REPLICAS, body)
    first = Manager(release, "manager-a", folder).start()
    wait_until("the first manager to lead", lambda: first.leads)
    second = Manager(release, "manager-b", folder).start()
    yield first, second
    for manager in (first, second):
        manager.process.stop()
    for name in ("manager-a", "manager-b"):
        release.plane.api.delete(f"{REPLICAS}/{name}", gracePeriodSeconds=0)


def marked(release: Installation) -> list[str]:
    """Pods that a Service of the leader sends callers to."""
    pods = release.plane.api.get(REPLICAS, labelSelector="poolmgr.io/leads=true")["items"]
    return [pod["metadata"]["name"] for pod in pods]


def test_leader_sees_the_fleet_adopts_its_gpus_and_reports_the_pool(
    release: Installation, managers: tuple[Manager, Manager]
) -> None:
    leader, _ = managers
    [node] = leader.get("/api/v1/nodes")[1]["items"]
    assert [(g["pciAddress"], g["model"], g["mode"]) for g in node["gpus"]] == [
        ("0000:00:04.0", "NVIDIA A10", "Shared")
    ]

    def adopted() -> Any:
        return release.plane.api.get(GPU_NODE).get("spec", {}).get("devices")

    assert wait_until("the GPU to be adopted", adopted) == [
        {"pciAddress": "0000:00:04.0", "mode": "Shared", "planId": "adopted"}
    ]
    status: Any = wait_until("the pool's status", lambda: release.plane.api.get(POOL).get("status"))
    assert (status["gpus"], status["shared"], status["passthrough"]) == (1, 1, 0)


def test_standby_answers_reads_and_refuses_to_act(
    release: Installation, managers: tuple[Manager, Manager]
) -> None:
    _, standby = managers
    before = release.plane.api.get(GPU_NODE)["spec"]
    assert not standby.leads
    assert standby.get("/api/v1/pools")[1]["items"][0]["gpus"] == 1
    status, problem = standby.rebalance("default", dryRun=False)
    assert (status, problem["code"]) == (503, "NotLeader")
    assert release.plane.api.get(GPU_NODE)["spec"] == before


def test_rebalance_explains_itself_and_wrong_ones_change_nothing(
    release: Installation, managers: tuple[Manager, Manager]
) -> None:
    leader, _ = managers
    generation = release.plane.api.get(POOL)["metadata"]["generation"]
    before = release.plane.api.get(GPU_NODE)["spec"]
    status, answer = leader.rebalance("default", dryRun=True, generation=generation)
    assert status == 200
    assert all(r["reason"] and r["message"] for r in answer["plan"]["refusals"])
    for pool, body, code in (
        ("none", {"dryRun": False}, "PoolNotFound"),
        ("default", {"dryRun": "yes"}, "InvalidBody"),
        ("default", {"dryRun": False, "generation": generation + 7}, "StaleGeneration"),
    ):
        assert leader.rebalance(pool, **body)[1]["code"] == code
    assert release.plane.api.get(GPU_NODE)["spec"] == before


def test_standby_takes_over_from_a_killed_leader_and_callers_go_there(
    release: Installation, managers: tuple[Manager, Manager]
) -> None:
    leader, standby = managers
    wait_until("the leader to be marked", lambda: marked(release) == ["manager-a"])
    leader.process.kill()
    wait_until("the standby to lead", lambda: standby.leads)
    wait_until("the mark to follow", lambda: marked(release) == ["manager-b"])
    assert standby.rebalance("default", dryRun=True)[0] == 200
    leader.start()
    assert not leader.leads


def test_ended_leader_gives_the_lease_back_at_once(
    release: Installation, managers: tuple[Manager, Manager]
) -> None:
    first, second = managers
    wait_until("one of them to lead", lambda: second.leads)
    second.process.stop()
    # Not a silent leader that is given up after 15 s: it has taken its name out.
    holder = release.plane.api.get(LEASE)["spec"].get("holderIdentity", "")
    assert not holder.startswith("manager-b"), holder
    wait_until("the other to lead", lambda: first.leads)
