"""Writes `GPUPool.status`, only when it says something new."""

from collections.abc import Callable
from typing import Any

import msgspec

from poolmgr import wire
from poolmgr.cluster.client import Client, ContentType
from poolmgr.cluster.fencing import Leadership, require_epoch
from poolmgr.controller.interfaces import PoolStatus
from poolmgr.domain.fleet import Pool
from poolmgr.domain.reasons import Reason
from poolmgr.kit.clock import Clock
from poolmgr.wire import gpu_pools, kinds
from poolmgr.wire.instants import to_rfc3339
from poolmgr.wire.meta import ready_condition

NOT_READY = frozenset(
    {
        Reason.NOT_IN_POOL,
        Reason.POOL_OVERLAP,
        Reason.GPU_UNHEALTHY,
        Reason.AGENT_SILENT,
        Reason.INVALID_REQUEST,
        Reason.INVARIANT_BROKEN,
    }
)
"""Reasons with which a pool needs attention: its Ready condition is False. Waiting demand is not among them."""


class KubernetesPools:
    """Implements `controller.interfaces.PoolReporter`. `current` answers a pool as the watch shows it."""

    def __init__(
        self, client: Client, leadership: Leadership, current: Callable[[str], wire.GpuPool | None]
    ) -> None:
        self._client = client
        self._clock: Clock = client.clock
        self._leadership = leadership
        self._current = current
        self._written: dict[str, tuple[str, dict[str, Any]]] = {}

    async def report(self, pool: Pool, status: PoolStatus) -> None:
        """See `PoolReporter`. A pool that is gone is left alone."""
        present = self._current(pool.name)
        if present is None:
            self._written.pop(pool.name, None)
            return
        wanted = status_of(status, present.status.conditions, to_rfc3339(self._clock.now()))
        body = msgspec.to_builtins(wanted)
        version = present.metadata.resource_version
        # Until the watch has shown our last write, the pool still looks as it did before it.
        if wanted == present.status or _same(self._written.get(pool.name), version, body):
            return
        require_epoch(self._leadership, f"The status of GPUPool {pool.name}")
        await self._client.write(
            "PATCH",
            kinds.GPU_POOLS.path(pool.name, subresource="status"),
            {"status": body},
            wire.GpuPool,
            content_type=ContentType.MERGE_PATCH,
        )
        self._written[pool.name] = (version, body)


def status_of(status: PoolStatus, conditions: tuple[wire.Condition, ...], now: str) -> gpu_pools.PoolStatus:
    """The wire form; see `ready_condition` for its condition."""
    return gpu_pools.PoolStatus(
        observed_generation=status.observed_generation,
        gpus=status.gpus,
        passthrough=status.passthrough,
        passthrough_used=status.passthrough_used,
        shared=status.shared,
        shared_used=status.shared_used,
        moving=status.moving,
        trouble=status.trouble,
        waiting_vms=status.waiting_vms,
        waiting_pods=status.waiting_pods,
        quotas=tuple(
            gpu_pools.QuotaStatus(use.namespace, use.max_gpus, round(use.used, 3), round(use.waiting, 3))
            for use in status.quotas
        ),
        resource_names=status.resource_names,
        conditions=ready_condition(
            conditions, status.reason not in NOT_READY, status.reason.value, status.message, now
        ),
    )


def _same(written: tuple[str, dict[str, Any]] | None, version: str, body: dict[str, Any]) -> bool:
    return written is not None and written[0] == version and _timeless(written[1]) == _timeless(body)


def _timeless(body: dict[str, Any]) -> dict[str, Any]:
    """Without the instant, which is taken anew at each look until the watch shows the one written."""
    conditions = [{**c, "lastTransitionTime": ""} for c in body.get("conditions", ())]
    return {**body, "conditions": conditions}
