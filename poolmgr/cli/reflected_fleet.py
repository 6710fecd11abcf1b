"""The webhook's view of the fleet, kept by watches and made anew in the background when something changed.

Joins `poolmgr.cluster` and `webhooks`, which know nothing of each other; a request only ever reads the
newest value.
"""

import asyncio

import structlog

from poolmgr import wire
from poolmgr.cluster.client import Client
from poolmgr.cluster.reflector import AnyReflector, Reflector
from poolmgr.kit.clock import Clock
from poolmgr.wire.gpu_nodes import NodeStatus
from poolmgr.wire.kinds import GPU_NODES, GPU_POOLS, NODES
from poolmgr.wire.kube_node import NodeMeta
from poolmgr.wire.kube_node import NodeStatus as CoreStatus
from webhooks.fleet_reader import FleetReader
from webhooks.fleet_view import FleetView

SETTLE_SECONDS = 0.2
"""Changes that come together make one new view. A move waits many times longer for pods already admitted."""
REST_RATIO = 5.0
"""Of a view's own making: at ten thousand GPUs, however much changes, a sixth of one core goes into views."""
STALE_AFTER_SECONDS = 300.0
"""A view that no watch has confirmed for so long is not used to refuse anything."""
CHECK_SECONDS = 10.0
log = structlog.get_logger()


class ReflectedFleet:
    """A `webhooks.fleet_view.FleetFeed`. `run` must be running for it to see anything."""

    def __init__(self, client: Client, clock: Clock, slice_resource: str) -> None:
        self._clock = clock
        self._reader = FleetReader(slice_resource)
        self._changed = asyncio.Event()
        self._view: FleetView | None = None
        self._trusted = False

        self._gpu_nodes = Reflector(client, GPU_NODES, wire.GpuNode, project=_gpu_node, apply=self._apply)
        self._pools = Reflector(client, GPU_POOLS, wire.GpuPool, project=_gpu_pool, apply=self._apply)
        self._nodes = Reflector(client, NODES, wire.Node, project=_node, apply=self._apply)
        self._all: tuple[AnyReflector, ...] = (self._gpu_nodes, self._pools, self._nodes)

    def current(self) -> FleetView | None:
        return self._view if self._trusted else None

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._all:
                group.create_task(reflector.run(), name=f"watch {reflector.kind}")
            group.create_task(self._renew(), name="renew view")
            group.create_task(self._judge(), name="judge view")

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
            )
            self._judge_now()
            took = self._clock.monotonic() - started
            await self._changed.wait()
            await self._clock.sleep(max(SETTLE_SECONDS, REST_RATIO * took))

    def _made(
        self, gpu_nodes: list[wire.GpuNode], pools: list[wire.GpuPool], nodes: list[wire.Node]
    ) -> FleetView | None:
        """None where an object is such that no view can be made: nothing is refused then, until it changes."""
        try:
            return self._reader.read(gpu_nodes, pools, nodes)
        except Exception:
            log.exception("fleet_view_broken")
            return None

    async def _judge(self) -> None:
        while True:
            self._judge_now()
            await self._clock.sleep(CHECK_SECONDS)

    def _judge_now(self) -> None:
        trusted = self._view is not None and all(
            reflector.synced and reflector.age < STALE_AFTER_SECONDS for reflector in self._all
        )
        if trusted != self._trusted:
            self._trusted = trusted
            log.info("fleet_view_known" if trusted else "fleet_view_unknown", detail=self._problem())

    def _problem(self) -> str:
        return " ".join(reflector.problem for reflector in self._all if reflector.problem)


def _gpu_node(found: wire.GpuNode) -> wire.GpuNode:
    """Without its versions and what agent and API server keep there: those change without meaning anything here."""
    meta = found.metadata
    return wire.GpuNode(
        wire.ObjectMeta(name=meta.name),
        found.spec,
        NodeStatus(
            observed_generation=min(1, found.status.observed_generation),
            devices=found.status.devices,
            conditions=_ready(found.status.conditions),
        ),
    )


def _gpu_pool(found: wire.GpuPool) -> wire.GpuPool:
    meta = found.metadata
    return wire.GpuPool(
        wire.ObjectMeta(name=meta.name, creation_timestamp=meta.creation_timestamp), found.spec
    )


def _node(found: wire.Node) -> wire.Node:
    """Labels, whether it takes workloads, and what it offers beyond CPU, memory and the like: neither heartbeats nor
    HAMi's handshake change anything then."""
    meta = found.metadata
    return wire.Node(
        NodeMeta(
            name=meta.name,
            labels=meta.labels,
            annotations=wire.NodeAnnotations(cordoned=meta.annotations.cordoned),
        ),
        found.spec,
        CoreStatus(
            capacity={name: amount for name, amount in found.status.capacity.items() if "/" in name},
            conditions=tuple([c for c in found.status.conditions if c.type == "Ready"]),
        ),
    )


def _ready(conditions: tuple[wire.Condition, ...]) -> tuple[wire.Condition, ...]:
    return tuple([wire.Condition(c.type, c.status) for c in conditions if c.type == "Ready"])
