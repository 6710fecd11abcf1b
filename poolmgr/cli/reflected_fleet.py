"""The webhook's view of the fleet, kept by watches and made anew in the background when something changed.

Joins `poolmgr.cluster` and `webhooks`, which know nothing of each other; a request only ever reads the
newest value.
"""

import asyncio
from typing import Any

import structlog

from poolmgr.cluster.client import Client
from poolmgr.cluster.reflector import Reflector
from poolmgr.kit.clock import Clock
from poolmgr.wire.kinds import GPU_NODES, GPU_POOLS, NODES
from webhooks.fleet_view import FleetView, fleet_view_of

Json = dict[str, Any]

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
        self._slice_resource = slice_resource
        self._changed = asyncio.Event()
        self._view: FleetView | None = None
        self._trusted = False

        def watch(kind: Any, project: Any) -> "Reflector[Json, Json]":
            return Reflector(client, kind, Json, project=project, apply=self._apply)

        self._gpu_nodes = watch(GPU_NODES, _named("spec", "status"))
        self._pools = watch(GPU_POOLS, _named("spec"))
        self._nodes = watch(NODES, _node)
        self._all = (self._gpu_nodes, self._pools, self._nodes)

    def current(self) -> FleetView | None:
        return self._view if self._trusted else None

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._all:
                group.create_task(reflector.run(), name=f"watch {reflector.kind}")
            group.create_task(self._renew(), name="renew view")
            group.create_task(self._judge(), name="judge view")

    def _apply(self, key: str, record: Json | None) -> None:
        self._changed.set()

    async def _renew(self) -> None:
        for reflector in self._all:
            await reflector.wait_listed()
        while True:
            self._changed.clear()
            started = self._clock.monotonic()
            # In a thread: at ten thousand GPUs this takes longer than a request may.
            self._view = await asyncio.to_thread(
                fleet_view_of,
                list(self._gpu_nodes.records.values()),
                list(self._pools.records.values()),
                list(self._nodes.records.values()),
                slice_resource=self._slice_resource,
            )
            self._judge_now()
            took = self._clock.monotonic() - started
            await self._changed.wait()
            await self._clock.sleep(max(SETTLE_SECONDS, REST_RATIO * took))

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


def _named(*fields: str) -> Any:
    """Keep name, age and these fields: the rest changes without meaning anything here."""

    def project(object_: Json) -> Json:
        metadata = object_["metadata"]
        kept: Json = {
            "metadata": {
                "name": metadata["name"],
                "creationTimestamp": metadata.get("creationTimestamp"),
            }
        }
        kept.update({field: object_[field] for field in fields if field in object_})
        return kept

    return project


def _node(node: Json) -> Json:
    """Labels, and what the node offers beyond CPU, memory and the like: heartbeats then change nothing."""
    capacity = (node.get("status") or {}).get("capacity") or {}
    return {
        "metadata": {"name": node["metadata"]["name"], "labels": node["metadata"].get("labels") or {}},
        "status": {"capacity": {name: amount for name, amount in capacity.items() if "/" in name}},
    }
