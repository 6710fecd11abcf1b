"""The agent's heartbeat: a Lease of its node, renewed for as long as passes of the agent are completed.

Beside the passes, since one that rebinds GPUs may take minutes; and only while they go on, since an agent whose every pass
fails says nothing new of its GPUs.
"""

from typing import Protocol

import structlog

from poolmgr.domain.errors import PoolError
from poolmgr.domain.liveness import BEAT_SECONDS
from poolmgr.kit.clock import Clock

STUCK_SECONDS = 600.0
"""Without a pass that was completed. One that unbinds eight GPUs, each of which takes its minute, is within it."""

log = structlog.get_logger()


class HeartbeatApi(Protocol):
    async def beat(self) -> None:
        """Renew the Lease of this node's agent. Raises PoolError."""
        ...


class Heartbeat:
    def __init__(self, api: HeartbeatApi, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._pass_at = clock.monotonic()

    def pass_completed(self) -> None:
        self._pass_at = self._clock.monotonic()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.beat()
            await self._clock.sleep(BEAT_SECONDS)

    async def beat(self) -> None:
        stuck = self._clock.monotonic() - self._pass_at
        if stuck > STUCK_SECONDS:
            log.error("heartbeat_withheld", reason=f"no pass was completed for {stuck:.0f} s")
            return
        try:
            await self._api.beat()
        except (PoolError, OSError) as error:
            log.warning("heartbeat_failed", error=str(error))
        except Exception:  # the next one may do
            log.exception("heartbeat_failed")
