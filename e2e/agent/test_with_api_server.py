"""The agent's loop on the real API server with the CRDs' validation, and a device plugin on real sockets; the
kernel is the fake one. What needs a kernel is in `test_on_the_node.py`."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.controlplane.client import ApiError
from e2e.controlplane.plane import ControlPlane
from e2e.node.node import REPOSITORY
from e2e.processes import PATIENCE_SECONDS
from poolmgr.agent.apiserver import ApiServer
from poolmgr.agent.credentials import from_kubeconfig
from poolmgr.agent.deviceplugin.registry import PluginRegistry
from poolmgr.agent.heartbeat import Heartbeat
from poolmgr.agent.journal import Journal
from poolmgr.agent.node_agent import NodeAgent
from poolmgr.agent.observe import NodeObserver
from poolmgr.agent.podresources import PodResources
from poolmgr.agent.rebind import Rebinder
from poolmgr.agent.report import Reporter
from poolmgr.agent.run import Loop
from poolmgr.agent.settings import AgentSettings
from poolmgr.agent.status import NodeFacts
from poolmgr.agent.sysfs import Sysfs
from poolmgr.domain.identifiers import NodeName
from poolmgr.kit.clock import SystemClock
from tests.fake_cluster_of_agent import CATALOGUE, RESOURCE, FakeNvml, NoModules
from tests.fake_node import FakeNode
from tests.integration.agent.kubelet_stub import KubeletStub

A, B = "0000:00:04.0", "0000:00:05.0"
NODE = "agent-alone"
PATH = f"/apis/poolmgr.io/v1alpha1/gpunodes/{NODE}"


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    control_plane.apply(*sorted((REPOSITORY / "helm/poolmgr/crds").glob("*.yaml")))
    control_plane.kubectl("wait", "--for=condition=Established", "crd/gpunodes.poolmgr.io", "--timeout=300s")
    control_plane.ensure_namespace("poolmgr-system")
    control_plane.apply(
        control_plane.helm(
            "template",
            "poolmgr",
            str(REPOSITORY / "helm/poolmgr"),
            "-n",
            "poolmgr-system",
            "--show-only",
            "templates/serviceaccounts.yaml",
            "--show-only",
            "templates/agent-rbac.yaml",
        )
    )
    control_plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
    yield control_plane
    control_plane.kubectl("delete", "node", NODE)


@dataclass
class Running:
    plane: ControlPlane
    node: FakeNode
    kubelet: KubeletStub
    task: asyncio.Task[None]

    async def until(self, what: str, probe: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        body: dict[str, Any] = {}
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    body = await asyncio.to_thread(self._read)
                    if body.get("status") and probe(body):
                        return body
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"{what}: not seen: {body}") from None

    def _read(self) -> dict[str, Any]:
        try:
            return self.plane.api.get(PATH)
        except (ApiError, httpx.HTTPError):
            return {}

    def want(self, spec: dict[str, Any]) -> None:
        self.plane.api.patch(PATH, {"spec": {"transition": None, **spec}})


def gpu(body: dict[str, Any], address: str = A) -> dict[str, Any]:
    found: dict[str, Any] = next(d for d in body["status"]["devices"] if d["pciAddress"] == address)
    return found


def transition(step: str, to_mode: str, plan_id: str) -> dict[str, Any]:
    return {
        "devices": [{"pciAddress": A, "mode": to_mode, "planId": plan_id}],
        "transition": {
            "planId": plan_id, "epoch": 3, "toMode": to_mode, "devices": [A], "step": step,
            "startedAt": "2026-11-22T10:00:00Z", "stepStartedAt": "2026-11-22T10:00:00Z",
        },
    }  # fmt: skip


@pytest.fixture
async def running(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Running]:
    node = FakeNode(tmp_path)
    node.add_device(A)
    node.add_device(B)
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        kubelet = KubeletStub(Path(folder))
        await kubelet.start()
        kubeconfig = plane.service_account_kubeconfig("poolmgr-system", "poolmgr-agent")
        api = ApiServer(from_kubeconfig(kubeconfig), NodeName(NODE), clock)
        plugins = PluginRegistry(kubelet.plugins, clock)
        journal = Journal(node.state_dir / "journal.json")
        journal.load(node.boot_id)
        sysfs = Sysfs(node, node.sys, node.files)
        nvml = FakeNvml(node, {A: "GPU-a", B: "GPU-b"})
        observer = NodeObserver(
            sysfs,
            CATALOGUE,
            PodResources(kubelet.pods / "kubelet.sock"),
            plugins,
            proc=node.proc,
        )
        rebinder = Rebinder(sysfs, CATALOGUE, NoModules(node), nvml, observer.holders_of, proc=node.proc)
        facts = Reporter(NodeFacts(node.boot_id, "6.1", "0.1.0"))
        agent = NodeAgent(NodeName(NODE), api, observer, rebinder, plugins, nvml, journal, facts, clock)
        settings = AgentSettings(NodeName(NODE), poll_seconds=0.5, busy_poll_seconds=0.2)
        task = asyncio.create_task(Loop(agent, api, settings, clock, Heartbeat(api, clock)).run())
        yield Running(plane, node, kubelet, task)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await plugins.stop()
        await api.close()
        await kubelet.stop()
    plane.kubectl("delete", "gpunode", NODE)


async def test_there_and_back_through_the_real_api_server(running: Running) -> None:
    body = await running.until("a first report", lambda b: len(b["status"]["devices"]) == 2)
    assert body["metadata"]["ownerReferences"][0]["kind"] == "Node"
    running.want(transition("Rebind", "Passthrough", "p1"))
    body = await running.until("advertised", lambda b: gpu(b)["advertised"] and gpu(b)["planId"] == "p1")
    assert running.node.driver_of(A) == "vfio-pci"
    assert set(running.kubelet.devices[RESOURCE]) == {A}
    print(await asyncio.to_thread(running.plane.kubectl, "get", "gpunodes", "-o", "wide"))
    running.want(transition("Fence", "Shared", "p2"))
    await running.until("withdrawn", lambda b: not gpu(b)["advertised"])
    assert running.node.driver_of(A) == "vfio-pci"
    running.want(transition("Rebind", "Shared", "p2"))
    await running.until("shared", lambda b: gpu(b)["mode"] == "Shared" and gpu(b)["planId"] == "p2")
    assert running.node.driver_of(A) == "bochs-drm"
    assert not running.task.done()


async def test_a_quiet_node_writes_nothing(running: Running) -> None:
    await running.until("a first report", lambda b: len(b["status"]["devices"]) == 2)
    await asyncio.sleep(1.5)
    before = running.plane.api.get(PATH)["metadata"]["resourceVersion"]
    await asyncio.sleep(4)
    assert running.plane.api.get(PATH)["metadata"]["resourceVersion"] == before


async def test_a_deleted_gpunode_is_made_again(running: Running) -> None:
    body = await running.until("a first report", lambda b: len(b["status"]["devices"]) == 2)
    uid = body["metadata"]["uid"]
    await asyncio.to_thread(running.plane.kubectl, "delete", "gpunode", NODE)
    body = await running.until("again", lambda b: b["metadata"]["uid"] != uid)
    assert len(body["status"]["devices"]) == 2


async def test_an_outage_of_the_api_server_is_outlived(running: Running) -> None:
    await running.until("a first report", lambda b: len(b["status"]["devices"]) == 2)
    with running.plane.outage():
        await asyncio.sleep(3)
        assert not running.task.done()
    running.want(transition("Rebind", "Passthrough", "p3"))
    await running.until("moved", lambda b: gpu(b)["planId"] == "p3")
