"""GPUReservations as stored, and as the planner sees them."""

from poolmgr.cluster.observe.sorted_values import SortedValues
from poolmgr.domain.reservation import Reservation
from poolmgr.wire import GpuReservation
from poolmgr.wire.reservations import reservation_from


class Reservations:
    """By `NAMESPACE/NAME`."""

    def __init__(self) -> None:
        self._stored: dict[str, GpuReservation] = {}
        self._values: SortedValues[Reservation] = SortedValues()

    def apply(self, key: str, reservation: GpuReservation | None) -> bool:
        """One changed object (None: it is gone). True where that is another reservation to a planner."""
        if reservation is None:
            self._stored.pop(key, None)
            return self._values.put(key, None)
        self._stored[key] = reservation
        return self._values.put(key, reservation_from(reservation))

    def stored(self, key: str) -> GpuReservation | None:
        return self._stored.get(key)

    def tuple(self) -> "tuple[Reservation, ...]":
        return self._values.tuple()
