"""A small cluster behind the API server in memory, and the command run against it as a user does."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from poolmgr.cli.daily.connection import SURROUNDINGS, Surroundings
from poolmgr.cli.main import app
from tests.unit.cluster import builders as build
from tests.unit.cluster.fake_api import FakeApi, FakeTransport
from tests.unit.cluster.virtual_clock import VirtualClock

NOW = build.CREATED_AT + 3_600
Json = dict[str, Any]

PATHS = {
    "Node": "/api/v1/nodes",
    "Pod": "/api/v1/pods",
    "ConfigMap": "/api/v1/configmaps",
    "Event": "/api/v1/events",
    "GPUNode": "/apis/poolmgr.io/v1alpha1/gpunodes",
    "GPUPool": "/apis/poolmgr.io/v1alpha1/gpupools",
    "GPUReservation": "/apis/poolmgr.io/v1alpha1/gpureservations",
    "VirtualMachine": "/apis/kubevirt.io/v1/virtualmachines",
    "VirtualMachineInstance": "/apis/kubevirt.io/v1/virtualmachineinstances",
    "DaemonSet": "/apis/apps/v1/daemonsets",
    "Deployment": "/apis/apps/v1/deployments",
    "PodDisruptionBudget": "/apis/policy/v1/poddisruptionbudgets",
    "MutatingWebhookConfiguration": "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "KubeVirt": "/apis/kubevirt.io/v1/kubevirts",
    "Lease": "/apis/coordination.k8s.io/v1/leases",
}


class HastyClock(VirtualClock):
    """Whoever waits is woken at once, that much later."""

    async def sleep(self, seconds: float) -> None:
        await self.stop(seconds)


class Cluster:
    """`poolmgr` on a cluster of which every kind exists; objects are put, the command is run, the output compared."""

    def __init__(self, kubeconfig: Path) -> None:
        self.api = FakeApi(HastyClock(NOW))
        self.api.kinds = set(PATHS.values())
        self.transport = self.api.transport()
        self.around = Surroundings(connect=self._connect, clock=self.api.clock)
        self._kubeconfig = kubeconfig
        kubeconfig.write_text("{}")

    async def _connect(self, kubeconfig: str | None, context: str | None) -> FakeTransport:
        return self.transport

    def put(self, *documents: Json, kind: str = "") -> "Cluster":
        for document in documents:
            self.api.put(PATHS[kind or document["kind"]], document)
        return self

    def forbid(self, kind: str) -> None:
        """The caller may not list this kind."""
        self.transport.forbidden = frozenset({PATHS[kind]})

    def run(self, *words: str, **environment: str) -> Result:
        """As a user does, in a narrow pipe."""
        clean = {
            "COLUMNS": "40",
            "POOLMGR_SERVER": "",
            "POOLMGR_TOKEN": "",
            "KUBECONFIG": str(self._kubeconfig),
        }
        before = SURROUNDINGS.set(self.around)
        try:
            return CliRunner().invoke(app, list(words), env=clean | environment)
        finally:
            SURROUNDINGS.reset(before)

    def answers(self, *words: str) -> str:
        result = self.run(*words)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    def json(self, *words: str) -> Json:
        answer: Json = json.loads(self.answers(*words, "-o", "json"))
        return answer


def lease(
    renewed: str = "2026-11-22T10:59:57.000000Z", holder: str = "poolmgr-manager-7c9d_0a1b2c3d"
) -> Json:
    return {
        "kind": "Lease",
        "metadata": {"name": "poolmgr-manager", "namespace": "poolmgr-system"},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed},
    }


def heartbeat(node: str, renewed: str = "2026-11-22T10:59:50.000000Z") -> Json:
    return {
        "kind": "Lease",
        "metadata": {"name": f"poolmgr-agent-{node}", "namespace": "poolmgr-system"},
        "spec": {"renewTime": renewed},
    }


def working_day(cluster: Cluster) -> Cluster:
    """Two nodes: on gpu-1 a VM and a pod are at work, and a VM waits; gpu-2 is not ready."""
    vm_gpu = build.device(
        "0000:3b:00.0", uuid=build.GPU_A, driver="vfio-pci", mode="Passthrough", iommuGroup=11, advertised=True,
        allocatedTo="uid-desktops-virt-launcher-ada",
    )  # fmt: skip
    shared_gpu = build.device("0000:5e:00.0", uuid=build.GPU_B)
    taken = f"{build.GPU_B},NVIDIA,4096,25:;"
    train = build.pod(
        "train",
        node="gpu-1",
        annotations={"hami.io/vgpu-node": "gpu-1", "hami.io/vgpu-devices-allocated": taken},
    )
    return cluster.put(
        build.pool("desktops"),
        build.node("gpu-1"),
        build.node("gpu-2", ready=False),
        build.adopted("gpu-1", [vm_gpu, shared_gpu]),
        build.adopted("gpu-2", [build.device("0000:3b:00.0", uuid="GPU-c")]),
        build.launcher("ada", node="gpu-1"),
        build.vmi("ada", node="gpu-1", phase="Running"),
        build.launcher("bob"),
        build.vmi("bob"),
        train,
        lease(),
        heartbeat("gpu-1"),
        heartbeat("gpu-2"),
    )
