"""The cluster read once, for somebody who asks and goes away again: the manager's own join, without its watches.

What the caller has no right to read is named in `Look.unseen`, and the snapshot is then not `synced`: no planner
decides on it, and nobody may say of a GPU that it is free.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from poolmgr import wire
from poolmgr.cluster.client import LIST_TIMEOUT_SECONDS, Client
from poolmgr.cluster.observe.assembly import Assembly
from poolmgr.cluster.observe.pods import facts_of
from poolmgr.cluster.view import ViewSettings
from poolmgr.domain.errors import Fault, Rejected
from poolmgr.domain.fleet import Node
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.liveness import SILENT_SECONDS, AgentSign
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.wire import kinds
from poolmgr.wire.annotations import AGENT_LAST_SEEN
from poolmgr.wire.decoding import decode_as
from poolmgr.wire.hami import names as hami_names
from poolmgr.wire.http_errors import Absent
from poolmgr.wire.instants import unix_or_zero
from poolmgr.wire.kinds import Kind
from poolmgr.wire.lease import AGENT_LABEL, AGENT_LABEL_VALUE, Lease, node_of_agent_lease
from poolmgr.wire.meta import Page

T = TypeVar("T")

PAGE = 500
"""Objects asked for at once, as kubectl does."""
DEADLINE_SECONDS = 5.0
"""A person waits: an API server that does not answer is told soon."""
MANAGER_LEASE = "poolmgr-manager"


@dataclass(frozen=True, slots=True)
class Unseen:
    """A kind that could not be read."""

    kind: str
    why: str


@dataclass(frozen=True, slots=True)
class Look:
    snapshot: ClusterSnapshot
    """`synced` exactly where nothing is unseen that a decision needs."""
    pools: Mapping[str, wire.GpuPool]
    nodes: Mapping[str, wire.GpuNode]
    manager: Lease | None
    """The managers' Lease: who leads, and when it was last renewed. None where there is none, or it may not be read."""
    unseen: tuple[Unseen, ...]


async def listed(
    client: Client, kind: Kind, as_type: type[T], *, namespace: str = "", labels: str = "", fields: str = ""
) -> list[T]:
    """All objects of a kind, in pages. Raises Absent where the cluster has no such kind."""
    found: list[T] = []
    query = {"limit": str(PAGE)}
    query |= {"labelSelector": labels} if labels else {}
    query |= {"fieldSelector": fields} if fields else {}
    while True:
        page = await client.read(
            kind.path(namespace=namespace),
            Page[msgspec.Raw],
            query=query,
            timeout_seconds=LIST_TIMEOUT_SECONDS,
            deadline_seconds=DEADLINE_SECONDS,
        )
        try:
            found += [decode_as(as_type, item) for item in page.items or ()]
        except msgspec.DecodeError as error:
            raise Fault(Reason.OBJECT_UNREAD, f"one of {kind} cannot be read: {error}") from error
        if not page.metadata.continue_:
            return found
        query["continue"] = page.metadata.continue_


async def look(client: Client, settings: ViewSettings | None = None) -> Look:
    """Read everything once. Raises Rejected where poolmgr's own kinds or the nodes cannot be read, Unavailable where the
    API server does not answer."""
    return await _Looking(client, settings or ViewSettings()).look()


class _Looking:
    def __init__(self, client: Client, settings: ViewSettings) -> None:
        self._client = client
        self._settings = settings
        self._unseen: list[Unseen] = []
        self._assembly = Assembly(hami_version=settings.hami_version)

    async def look(self) -> Look:
        client, assembly = self._client, self._assembly
        try:
            pools, gpu_nodes = await asyncio.gather(
                listed(client, kinds.GPU_POOLS, wire.GpuPool), listed(client, kinds.GPU_NODES, wire.GpuNode)
            )
        except Absent as error:
            raise Rejected(
                Reason.NOT_FOUND,
                "this cluster has no GPUPools and GPUNodes: poolmgr is not installed there, or the kubeconfig names another "
                "cluster; docs/how-to/install.md says how to install it",
            ) from error
        # Pods are read with the resource names that HAMi's configuration gives.
        for config in await self._try(
            kinds.CONFIG_MAPS, wire.ConfigMap, fields=f"metadata.name={self._settings.hami_device_config}"
        ):
            assembly.apply_device_config(_key(config.metadata), config)
        schedulers = f"{hami_names.COMPONENT_LABEL}={hami_names.SCHEDULER_COMPONENT}"
        plugins = f"{hami_names.COMPONENT_LABEL}={hami_names.PLUGIN_COMPONENT}"
        nodes, pods, reservations, budgets = await asyncio.gather(
            listed(client, kinds.NODES, wire.Node),
            self._try(kinds.PODS, wire.Pod),
            self._try(kinds.GPU_RESERVATIONS, wire.GpuReservation),
            self._try(kinds.DISRUPTION_BUDGETS, wire.DisruptionBudget),
        )
        machines, instances, daemons, deployments = await asyncio.gather(
            self._try(kinds.VIRTUAL_MACHINES, wire.VirtualMachine, optional=True),
            self._try(kinds.VIRTUAL_MACHINE_INSTANCES, wire.VirtualMachineInstance, optional=True),
            self._try(kinds.DAEMON_SETS, wire.DaemonSet, labels=plugins),
            self._try(kinds.DEPLOYMENTS, wire.Deployment, labels=schedulers),
        )
        needed = tuple(self._unseen)
        leases = await self._try(kinds.LEASES, Lease, fields=f"metadata.name={MANAGER_LEASE}")
        beats = await self._try(kinds.LEASES, Lease, labels=f"{AGENT_LABEL}={AGENT_LABEL_VALUE}")
        heard_of = not any(unseen.kind == str(kinds.LEASES) for unseen in self._unseen)
        for node in nodes:
            assembly.apply_node(node.metadata.name, node)
        for pool in pools:
            assembly.apply_pool(pool.metadata.name, pool)
        for gpu_node in gpu_nodes:
            assembly.apply_gpu_node(gpu_node.metadata.name, gpu_node)
        for pod in pods:
            assembly.apply_pod(
                f"{pod.metadata.namespace}/{pod.metadata.name}",
                facts_of(pod, assembly.hami.config, self._settings.schedulers),
            )
        for reservation in reservations:
            assembly.apply_reservation(_key(reservation.metadata), reservation)
        for budget in budgets:
            assembly.apply_budget(_key(budget.metadata), budget)
        for machine in machines:
            assembly.apply_machine(_key(machine.metadata), machine)
        for instance in instances:
            assembly.apply_instance(_key(instance.metadata), instance)
        for daemon in daemons:
            assembly.apply_plugin(_key(daemon.metadata), daemon)
        for deployment in deployments:
            assembly.apply_scheduler(_key(deployment.metadata), deployment)
        now = self._client.clock.now()
        signs = signs_of(gpu_nodes, beats if heard_of else None, now)
        snapshot = assembly.snapshot(now, synced=not needed)
        return Look(
            snapshot=replace(
                snapshot, nodes=tuple(_heard(node, signs[node.name]) for node in snapshot.nodes)
            ),
            pools={pool.metadata.name: pool for pool in pools},
            nodes={node.metadata.name: node for node in gpu_nodes},
            manager=next((lease for lease in leases if lease.metadata.name == MANAGER_LEASE), None),
            unseen=tuple(self._unseen),
        )

    async def _try(
        self, kind: Kind, as_type: type[T], *, labels: str = "", fields: str = "", optional: bool = False
    ) -> list[T]:
        """What may be read of a kind; nothing, and a note, where it may not. `optional`: a cluster without it is whole."""
        try:
            return await listed(self._client, kind, as_type, labels=labels, fields=fields)
        except Absent as error:
            if not optional:
                self._unseen.append(Unseen(str(kind), error.message))
        except (Rejected, Fault) as error:
            self._unseen.append(Unseen(str(kind), error.message))
        return []


def signs_of(
    nodes: Iterable[wire.GpuNode], beats: Iterable[Lease] | None, now: float
) -> dict[NodeName, AgentSign]:
    """Whether each node's agent is heard, by somebody who looks once: the manager's note on the GPUNode counts, and what the
    agent's heartbeat itself says, by this machine's clock. `beats` is None where they may not be read."""
    renewed = {
        node_of_agent_lease(beat.metadata.name): unix_or_zero(beat.spec.renew_time) for beat in beats or ()
    }
    signs = {}
    for node in nodes:
        name = NodeName(node.metadata.name)
        noted = node.metadata.annotations.get(AGENT_LAST_SEEN)
        at = renewed.get(name, 0.0)
        silent = beats is not None and now - at > SILENT_SECONDS
        if noted is not None or silent:
            signs[name] = AgentSign(False, at or unix_or_zero(noted), silent=True)
        else:
            signs[name] = AgentSign(since=at)
    return signs


def _heard(node: Node, sign: AgentSign) -> Node:
    return replace(node, agent=sign, ready=node.ready and sign.heard)


def _key(meta: wire.ObjectMeta) -> str:
    return f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name
