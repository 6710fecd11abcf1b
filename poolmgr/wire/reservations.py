"""poolmgr.io/v1alpha1 GPUReservation. The chart's CRD describes every field."""

from poolmgr.domain.demand import Reservation
from poolmgr.wire.instants import unix_or_zero
from poolmgr.wire.meta import ObjectMeta, Wire


class ReservationSpec(Wire, frozen=True):
    model: str
    mode: str
    gpus: int
    start: str
    end: str


class GpuReservation(Wire, frozen=True):
    spec: ReservationSpec
    metadata: ObjectMeta = ObjectMeta()


def reservation_from(reservation: GpuReservation) -> Reservation:
    return Reservation(
        namespace=reservation.metadata.namespace,
        name=reservation.metadata.name,
        model=reservation.spec.model,
        gpus=reservation.spec.gpus,
        mode=reservation.spec.mode,
        starts_at=unix_or_zero(reservation.spec.start),
        ends_at=unix_or_zero(reservation.spec.end),
    )
