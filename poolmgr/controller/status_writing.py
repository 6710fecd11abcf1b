"""What is said of pools and reservations in their status. One that cannot be written is said in the log, and keeps no other
from being written."""

from collections.abc import Iterable, Mapping

import structlog

from poolmgr.controller.interfaces import PoolReporter, PoolStatus, ReservationReporter
from poolmgr.domain.errors import PoolError
from poolmgr.domain.fleet import Pool
from poolmgr.domain.identifiers import PoolName
from poolmgr.domain.plan import ReservationState

log = structlog.get_logger()


async def write_pools(
    reporter: PoolReporter, pools: Iterable[Pool], statuses: Mapping[PoolName, PoolStatus]
) -> None:
    for pool in pools:
        try:
            await reporter.report(pool, statuses[pool.name])
        except PoolError as error:
            log.warning("pool_status_not_written", pool=pool.name, message=error.message)


async def write_reservations(reporter: ReservationReporter, states: Iterable[ReservationState]) -> None:
    for state in states:
        try:
            await reporter.report(state)
        except PoolError as error:
            key = f"{state.namespace}/{state.name}"
            log.warning("reservation_status_not_written", reservation=key, message=error.message)
