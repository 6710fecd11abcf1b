"""Fencing of writes: only the leader writes, and what it writes names its epoch.

Every object that the manager changes carries the epoch of the last writer in an annotation. A writer that
finds a higher one there than its own is a leader of the past and stops.
"""

from typing import Protocol

from poolmgr.domain.errors import Stale
from poolmgr.domain.identifiers import LeaseEpoch
from poolmgr.domain.reasons import Reason
from poolmgr.wire.lease import epoch_of


class Leadership(Protocol):
    @property
    def epoch(self) -> LeaseEpoch | None: ...


def require_epoch(leadership: Leadership, what: str) -> LeaseEpoch:
    """The epoch to write in. Raises Stale when the lease is not surely held."""
    epoch = leadership.epoch
    if epoch is None:
        raise Stale(Reason.NOT_LEADER, f"{what} was not written: this manager does not hold the lease now.")
    return epoch


def refuse_older(written: str, epoch: LeaseEpoch, what: str) -> None:
    """Raises Stale when `written`, the annotation found, is of a later leader than `epoch`."""
    if epoch_of(written) > epoch:
        raise Stale(
            Reason.STALE_EPOCH,
            f"{what} was not written: it was last written in lease epoch {written}, ours is {epoch}.",
        )
