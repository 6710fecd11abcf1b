"""The manager's client on a real API server, as the tests here use them."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from e2e.controlplane.plane import ControlPlane
from e2e.processes import PATIENCE_SECONDS
from poolmgr.cluster.actuate import KubernetesFleet
from poolmgr.cluster.connect import ClusterSettings, KubernetesCluster, connected
from poolmgr.cluster.evict import KubernetesEvictor
from poolmgr.cluster.hami.actuate import KubernetesSharing
from poolmgr.cluster.lease_settings import LeaseSettings
from poolmgr.cluster.node_writer import NodeWriter
from poolmgr.cluster.pools import KubernetesPools
from poolmgr.domain.fleet import Node
from poolmgr.domain.identifiers import LeaseEpoch
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.kit.clock import SystemClock

T = TypeVar("T")

CRDS = sorted((Path(__file__).parents[3] / "helm/poolmgr/crds").glob("*.yaml"))
GPU_NODES = "/apis/poolmgr.io/v1alpha1/gpunodes"
GPU_POOLS = "/apis/poolmgr.io/v1alpha1/gpupools"


class Held:
    """A lease that is held in `epoch`."""

    def __init__(self, epoch: int | None) -> None:
        self.epoch = LeaseEpoch(epoch) if epoch is not None else None


def ensure_crds(plane: ControlPlane) -> None:
    plane.apply(*CRDS)
    names = [f"{plural}.poolmgr.io" for plural in ("gpunodes", "gpupools", "gpureservations")]
    plane.kubectl("wait", "--for=condition=Established", "--timeout=300s", "crd", *names)


@asynccontextmanager
async def connected_cluster(plane: ControlPlane, **settings: Any) -> AsyncIterator[KubernetesCluster]:
    lease = LeaseSettings(namespace="default", name="poolmgr-test")
    chosen = ClusterSettings(**{"kubeconfig": str(plane.kubeconfig), "lease": lease, **settings})
    async with connected(chosen, clock=SystemClock(), rng=random.Random()) as cluster:
        running = asyncio.ensure_future(cluster.run())
        try:
            yield cluster
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def fleet_of(cluster: KubernetesCluster, epoch: int | None) -> KubernetesFleet:
    return KubernetesFleet(cluster.client, Held(epoch), cluster.view.wrote)


def sharing_of(cluster: KubernetesCluster, epoch: int | None) -> KubernetesSharing:
    view = cluster.view
    return KubernetesSharing(
        NodeWriter(cluster.client, Held(epoch)),
        version=view.hami_version,
        plugin=view.plugin,
        plan_of=lambda _: "plan-1",
    )


def evictor_of(cluster: KubernetesCluster) -> KubernetesEvictor:
    return KubernetesEvictor(cluster.client, Held(1))


def reporter_of(cluster: KubernetesCluster) -> KubernetesPools:
    return KubernetesPools(cluster.client, Held(1), cluster.view.pool)


async def eventually(what: str, probe: Callable[[], T], timeout_seconds: float = PATIENCE_SECONDS) -> T:
    """Wait, with the event loop free, until `probe` (run in a thread: it may block) answers something true."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_seconds
    while True:
        found = await asyncio.to_thread(probe)
        if found:
            return found
        if loop.time() > end:
            raise AssertionError(f"not seen within {timeout_seconds:.0f} s: {what}")
        await asyncio.sleep(0.3)


async def seen(
    cluster: KubernetesCluster,
    what: str,
    check: Callable[[ClusterSnapshot], object],
    timeout_seconds: float = PATIENCE_SECONDS,
) -> ClusterSnapshot:
    """Wait for a snapshot of which `check` answers something true."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_seconds
    while True:
        snapshot = await cluster.view.snapshot()
        if check(snapshot):
            return snapshot
        if loop.time() > end:
            raise AssertionError(
                f"not seen within {timeout_seconds:.0f} s: {what}; {cluster.view.trouble()}; {snapshot.nodes}"
            )
        await cluster.view.wait_for_change(0.5)


def node_of(snapshot: ClusterSnapshot, name: str) -> Node | None:
    return next((node for node in snapshot.nodes if node.name == name), None)


def report_gpus(
    plane: ControlPlane, name: str, devices: list[dict[str, Any]], *, adopted: bool = False
) -> None:
    """What a node's agent does: make the GPUNode and report its devices. `adopted`: the manager has seen them before."""
    found: dict[str, Any] = {
        "apiVersion": "poolmgr.io/v1alpha1",
        "kind": "GPUNode",
        "metadata": {"name": name},
    }
    if adopted:
        wanted = [{"pciAddress": d["pciAddress"], "mode": d["mode"], "planId": "adopted"} for d in devices]
        found["spec"] = {"devices": wanted}
    plane.apply(found)
    generation = plane.api.get(f"{GPU_NODES}/{name}")["metadata"]["generation"]
    plane.api.patch(
        f"{GPU_NODES}/{name}/status", {"status": {"observedGeneration": generation, "devices": devices}}
    )


def device(pci_address: str = "0000:00:04.0", **over: Any) -> dict[str, Any]:
    return {
        "pciAddress": pci_address,
        "uuid": "GPU-1",
        "model": "NVIDIA A10",
        "memoryMiB": 24576,
        "mode": "Shared",
        "phase": "Ready",
        "resourceName": "nvidia.com/GA102GL_A10",
        "rebind": {"possible": True},
        **over,
    }
