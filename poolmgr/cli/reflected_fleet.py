"""The webhook's view of the fleet, kept by watches and made anew in the background when something changed.

Joins `poolmgr.cluster` and `webhooks`, which know nothing of each other; a request only ever reads the
newest value.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from poolmgr import wire
from poolmgr.cluster.client import Client
from poolmgr.cluster.reflector import AnyReflector, Reflector
from poolmgr.kit.clock import Clock
from poolmgr.wire.annotations import AGENT_LAST_SEEN
from poolmgr.wire.directives import DIRECTIVES
from poolmgr.wire.gpu_nodes import NodeStatus
from poolmgr.wire.gpu_pools import PoolStatus
from poolmgr.wire.kinds import GPU_NODES, GPU_POOLS, GPU_RESERVATIONS, NODES, Kind
from poolmgr.wire.kube_node import NodeMeta
from poolmgr.wire.kube_node import NodeStatus as CoreStatus
from poolmgr.wire.reservations import ReservationStatus
from webhooks.fleet_reader import FleetReader
from webhooks.fleet_view import FleetView

SETTLE_SECONDS = 0.2
"""Changes that come together make one new view. A move waits many times longer for pods already admitted."""
REST_RATIO = 5.0
"""Of a view's own making: at ten thousand GPUs, however much changes, a sixth of one core goes into views."""
STALE_AFTER_SECONDS = 300.0
"""A view that no watch has confirmed for so long is not used to refuse anything."""
CHECK_SECONDS = 10.0
PAUSE_SECONDS = 60.0
"""How long after its end at most a GPU is still said to rest."""
log = structlog.get_logger()


class ReflectedFleet:
    """A `webhooks.fleet_view.FleetFeed`. `run` must be running for it to see anything."""

    def __init__(self, client: Client, clock: Clock, slice_resource: str) -> None:
        self._clock = clock
        self._reader = FleetReader(slice_resource)
        self._changed = asyncio.Event()
        self._view: FleetView | None = None
        self._trusted = False

        def mirror(kind: Kind, as_type: type[Any], project: Callable[[Any], Any]) -> AnyReflector:
            return Reflector(
                client, kind, as_type, project=project, apply=self._apply, apply_unread=self._apply
            )

        self._gpu_nodes = mirror(GPU_NODES, wire.GpuNode, _gpu_node)
        self._pools = mirror(GPU_POOLS, wire.GpuPool, _gpu_pool)
        self._nodes = mirror(NODES, wire.Node, _node)
        self._reservations = mirror(GPU_RESERVATIONS, wire.GpuReservation, _reservation)
        self._all: tuple[AnyReflector, ...] = (
            self._gpu_nodes,
            self._pools,
            self._nodes,
            self._reservations,
        )

    def current(self) -> FleetView | None:
        return self._view if self._trusted else None

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._all:
                group.create_task(reflector.run(), name=f"watch {reflector.kind}")
            group.create_task(self._renew(), name="renew view")
            group.create_task(self._judge(), name="judge view")
            group.create_task(self._pass_time(), name="end pauses")

    def _apply(self, key: str, record: object) -> None:
        self._changed.set()

    async def _renew(self) -> None:
        for reflector in self._all:
            await reflector.wait_listed()
        while True:
            self._changed.clear()
            started = self._clock.monotonic()
            # In a thread: at ten thousand GPUs this takes longer than a request may.
            self._view = await asyncio.to_thread(
                self._made,
                list(self._gpu_nodes.records.values()),
                list(self._pools.records.values()),
                list(self._nodes.records.values()),
                list(self._reservations.records.values()),
            )
            self._judge_now()
            took = self._clock.monotonic() - started
            await self._changed.wait()
            await self._clock.sleep(max(SETTLE_SECONDS, REST_RATIO * took))

    def _made(
        self,
        gpu_nodes: list[wire.GpuNode],
        pools: list[wire.GpuPool],
        nodes: list[wire.Node],
        reservations: list[wire.GpuReservation],
    ) -> FleetView | None:
        """None where an object is such that no view can be made: nothing is refused then, until it changes."""
        try:
            return self._reader.read(gpu_nodes, pools, nodes, reservations, now=self._clock.now())
        except Exception:
            log.exception("fleet_view_broken")
            return None

    async def _pass_time(self) -> None:
        """Pauses end though no object changes."""
        while True:
            await self._clock.sleep(PAUSE_SECONDS)
            self._changed.set()

    async def _judge(self) -> None:
        while True:
            self._judge_now()
            await self._clock.sleep(CHECK_SECONDS)

    def _judge_now(self) -> None:
        known = all(r.synced and r.age < STALE_AFTER_SECONDS for r in self._all)
        # A reservation that cannot be read keeps nothing. Of a node or a pool nobody can say what is not there.
        whole = not any(reflector.unread for reflector in (self._gpu_nodes, self._pools, self._nodes))
        trusted = self._view is not None and known and whole
        if trusted != self._trusted:
            self._trusted = trusted
            log.info("fleet_view_known" if trusted else "fleet_view_unknown", detail=self._problem())

    def _problem(self) -> str:
        return " ".join(reflector.problem for reflector in self._all if reflector.problem)


def _gpu_node(found: wire.GpuNode) -> wire.GpuNode:
    """Without its versions and what agent and API server keep there: those change without meaning anything here. Of its
    annotations, an operator's directives are left, and that the agent is silent."""
    meta = found.metadata
    standing = {
        name: text for name, text in meta.annotations.items() if name in (*DIRECTIVES, AGENT_LAST_SEEN)
    }
    return wire.GpuNode(
        wire.ObjectMeta(name=meta.name, annotations=standing),
        found.spec,
        NodeStatus(
            observed_generation=min(1, found.status.observed_generation),
            devices=found.status.devices,
            conditions=_ready(found.status.conditions),
        ),
    )


def _gpu_pool(found: wire.GpuPool) -> wire.GpuPool:
    """Of what the manager says of it only who holds what."""
    meta = found.metadata
    return wire.GpuPool(
        wire.ObjectMeta(name=meta.name, creation_timestamp=meta.creation_timestamp),
        found.spec,
        PoolStatus(quotas=found.status.quotas),
    )


def _reservation(found: wire.GpuReservation) -> wire.GpuReservation:
    """Of what the manager says of it only what is kept for it, and whether it is promised."""
    meta, status = found.metadata, found.status
    return wire.GpuReservation(
        found.spec,
        wire.ObjectMeta(name=meta.name, namespace=meta.namespace, creation_timestamp=meta.creation_timestamp),
        ReservationStatus(phase=status.phase, kept=status.kept, cards=status.cards),
    )


def _node(found: wire.Node) -> wire.Node:
    """Labels, whether it takes workloads, and what it offers beyond CPU, memory and the like: neither heartbeats nor
    HAMi's handshake change anything then."""
    meta = found.metadata
    return wire.Node(
        NodeMeta(
            name=meta.name,
            labels=meta.labels,
            annotations=wire.NodeAnnotations(
                cordoned=meta.annotations.cordoned, plugin_labels=meta.annotations.plugin_labels
            ),
        ),
        found.spec,
        CoreStatus(
            capacity={name: amount for name, amount in found.status.capacity.items() if "/" in name},
            conditions=tuple([c for c in found.status.conditions if c.type == "Ready"]),
        ),
    )


def _ready(conditions: tuple[wire.Condition, ...]) -> tuple[wire.Condition, ...]:
    return tuple([wire.Condition(c.type, c.status) for c in conditions if c.type == "Ready"])
