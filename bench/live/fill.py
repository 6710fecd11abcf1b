"""Creates the fleet through the API, many requests at a time."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from bench.live import fleet, workloads
from bench.live.fleet import SYSTEM, Json, Size
from bench.live.workloads import MACHINES, PODS
from poolmgr.cluster.client import Client, ContentType, ok
from poolmgr.cluster.transport import connect
from poolmgr.kit.clock import SystemClock
from poolmgr.wire import kinds

WORKERS = 24
"""Requests in flight while filling; two cores answer no faster with more."""
Tell = Callable[[str], None]
Work = Callable[[], Awaitable[None]]


class Api:
    """Writes that raise PoolError where the API server does not take them."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def create(
        self, kind: kinds.Kind, body: Json, *, namespace: str = "", subresource: str = ""
    ) -> Json:
        """POST; answers the object as stored. A subresource is one of the object that `body` names."""
        name = body["metadata"]["name"] if subresource else ""
        path = kind.path(name, namespace=namespace, subresource=subresource)
        return await self._send("POST", path, body, ContentType.JSON)

    async def patch(
        self, kind: kinds.Kind, name: str, body: Json, *, namespace: str = "", subresource: str = ""
    ) -> Json:
        """Merge patch."""
        path = kind.path(name, namespace=namespace, subresource=subresource)
        return await self._send("PATCH", path, body, ContentType.MERGE_PATCH)

    async def get(self, kind: kinds.Kind, name: str) -> Json:
        """One object of a kind without namespaces."""
        return await self._send("GET", kind.path(name), None, ContentType.JSON)

    async def delete(self, kind: kinds.Kind, name: str, *, namespace: str = "") -> None:
        """At once, without grace."""
        await self._send(
            "DELETE", kind.path(name, namespace=namespace), {"gracePeriodSeconds": 0}, ContentType.JSON
        )

    async def _send(self, method: str, path: str, body: Json | None, content_type: ContentType) -> Json:
        answer = await self.client.call(
            method, path, body=body, content_type=content_type, timeout_seconds=60.0
        )
        document: Json = msgspec.json.decode(ok(answer, f"{method} {path}").body)
        return document


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[Api]:
    """An Api with all the rights of that kubeconfig."""
    client = Client(await connect(str(kubeconfig)), clock=SystemClock(), rng=random.Random(1))
    try:
        yield Api(client)
    finally:
        await client.close()


async def fill_api_server(kubeconfig: Path, size: Size, tell: Tell) -> None:
    """Everything but the custom resource definitions, which must be there."""
    async with connected(kubeconfig) as api:
        await _prepare(api)
        for title, work in (("nodes, VMs and GPU reports", _nodes(api, size)), ("pods", _pods(api, size))):
            tell(f"creating {title} …")
            begun = api.client.clock.monotonic()
            done = await _all(work)
            tell(f"{title}: {done} in {api.client.clock.monotonic() - begun:.0f} s")


async def _prepare(api: Api) -> None:
    for name in (PODS, MACHINES, SYSTEM, fleet.AGENTS):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await api.create(NAMESPACES, namespace)
        # Nobody runs the controller that would make it, and without one the API server takes no pod.
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        await api.create(SERVICE_ACCOUNTS, account, namespace=name)
    for pool in fleet.pools():
        await api.create(kinds.GPU_POOLS, pool)
    for workload in fleet.hami():
        kind = kinds.DAEMON_SETS if workload["kind"] == "DaemonSet" else kinds.DEPLOYMENTS
        await api.create(kind, workload, namespace=SYSTEM)
    # A wrong name: it waits for ever, and the manager looks at it at every tick.
    await api.create(
        kinds.VIRTUAL_MACHINES, workloads.machine("misspelt", "nvidia.com/NO_SUCH"), namespace=MACHINES
    )


NAMESPACES = kinds.Kind("", "v1", "namespaces")
SERVICE_ACCOUNTS = kinds.Kind("", "v1", "serviceaccounts", namespaced=True)


def _nodes(api: Api, size: Size) -> Iterator[Work]:
    for node in range(size.nodes):
        yield lambda node=node: _node(api, size, node)  # type: ignore[misc]


async def _node(api: Api, size: Size, node: int) -> None:
    await api.create(kinds.NODES, fleet.kubernetes_node(size, node))
    # The API server taints every new node as not ready, and nobody runs the controller that takes the taint off.
    await api.patch(kinds.NODES, fleet.node_name(node), {"spec": {"taints": None}})
    await api.create(kinds.LEASES, fleet.heartbeat(node), namespace=fleet.AGENTS)
    model = fleet.model_of(node)
    launchers = []
    for gpu in range(size.vms_per_node):
        name = f"desk-{node:05d}-{gpu}"
        vmi = await api.create(
            kinds.VIRTUAL_MACHINE_INSTANCES,
            workloads.instance(name, model.resource, node),
            namespace=MACHINES,
        )
        pod = workloads.launcher_pod(name, vmi["metadata"]["uid"], model, node)
        launchers.append((await api.create(kinds.PODS, pod, namespace=MACHINES))["metadata"]["uid"])
    stored = await api.create(kinds.GPU_NODES, fleet.gpu_node(size, node))
    launchers += [""] * (size.gpus - len(launchers))
    devices = [fleet.device(size, node, gpu, launcher) for gpu, launcher in enumerate(launchers)]
    status = fleet.node_status(stored["metadata"]["generation"], devices)
    await api.patch(kinds.GPU_NODES, fleet.node_name(node), {"status": status}, subresource="status")


def _pods(api: Api, size: Size) -> Iterator[Work]:
    for node in range(size.nodes):
        for number in range(fleet.ORDINARY_PER_NODE):
            pod = workloads.ordinary_pod(node, number)
            yield lambda pod=pod: run_pod(api, pod)  # type: ignore[misc]
    for number, slot in enumerate(workloads.slots(size)):
        pod = workloads.sharing_pod(f"job-{number:06d}-0", slot)
        yield lambda pod=pod: run_pod(api, pod)  # type: ignore[misc]
    for number in range(size.waiting):
        pod = workloads.waiting_pod(size, number)
        yield lambda pod=pod: _create_pod(api, pod)  # type: ignore[misc]


async def _create_pod(api: Api, pod: Json) -> None:
    await api.create(kinds.PODS, pod, namespace=pod["metadata"]["namespace"])


async def run_pod(api: Api, pod: Json) -> None:
    """Create it and report it as running."""
    metadata = pod["metadata"]
    await api.create(kinds.PODS, pod, namespace=metadata["namespace"])
    await api.patch(
        kinds.PODS, metadata["name"], workloads.RUNNING, namespace=metadata["namespace"], subresource="status"
    )


async def _all(work: Iterable[Work]) -> int:
    """Do all of it, WORKERS at a time; how many there were. The first failure ends it."""
    waiting, done = iter(work), 0

    async def worker() -> None:
        nonlocal done
        for item in waiting:
            await item()
            done += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(worker())
    return done
