"""Writes `GPUReservation.status`, only when it says something new."""

from collections.abc import Callable

import msgspec

from poolmgr import wire
from poolmgr.cluster.client import Client, ContentType
from poolmgr.cluster.fencing import Leadership, require_epoch
from poolmgr.domain.plan import ReservationState
from poolmgr.wire import kinds
from poolmgr.wire.instants import to_rfc3339
from poolmgr.wire.meta import ready_condition
from poolmgr.wire.reservations import KeptCard, ReservationStatus, WindowStatus


class KubernetesReservations:
    """Implements `controller.interfaces.ReservationReporter`. `current` answers a reservation as the watch shows it."""

    def __init__(
        self,
        client: Client,
        leadership: Leadership,
        current: Callable[[str], wire.GpuReservation | None],
    ) -> None:
        self._client = client
        self._leadership = leadership
        self._current = current
        self._written: dict[str, tuple[str, ReservationStatus]] = {}

    async def report(self, state: ReservationState) -> None:
        """See `ReservationReporter`. One that is gone is left alone."""
        key = f"{state.namespace}/{state.name}"
        present = self._current(key)
        if present is None:
            self._written.pop(key, None)
            return
        version = present.metadata.resource_version
        # Until the watch has shown our last write, the reservation still looks as it did before it.
        written = self._written.get(key)
        seen = written[1] if written is not None and written[0] == version else present.status
        wanted = status_of(state, seen.conditions, to_rfc3339(self._client.clock.now()))
        if wanted == seen:
            return
        require_epoch(self._leadership, f"The status of GPUReservation {key}")
        path = kinds.GPU_RESERVATIONS.path(state.name, namespace=state.namespace, subresource="status")
        body = {"status": msgspec.to_builtins(wanted)}
        await self._client.write(
            "PATCH", path, body, wire.GpuReservation, content_type=ContentType.MERGE_PATCH
        )
        self._written[key] = (version, wanted)


def status_of(state: ReservationState, conditions: tuple[wire.Condition, ...], now: str) -> ReservationStatus:
    """The wire form; see `ready_condition` for its condition."""
    window = state.window
    return ReservationStatus(
        observed_generation=state.generation,
        phase=state.phase.value,
        window=WindowStatus(to_rfc3339(window[0]), to_rfc3339(window[1])) if window else None,
        ready=state.ready,
        used=state.used,
        kept=state.kept,
        cards=tuple(KeptCard(node, uuid) for node, uuid in state.cards),
        conditions=ready_condition(conditions, state.ok, state.reason.value, state.message, now),
    )
