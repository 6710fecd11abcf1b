"""poolmgr.io/v1alpha1 GPUReservation. The chart's CRD describes every field."""

from poolmgr.domain.demand import Reservation
from poolmgr.domain.modes import Mode
from poolmgr.wire.instants import unix_or_zero
from poolmgr.wire.meta import ObjectMeta, Wire


class ReservationSpec(Wire, frozen=True):
    model: str
    gpus: int
    start: str
    end: str
    mode: str = "Passthrough"


class GpuReservation(Wire, frozen=True):
    spec: ReservationSpec
    metadata: ObjectMeta = ObjectMeta()


def mode_of(spec: ReservationSpec) -> Mode | None:
    """None for a mode of a newer release."""
    return Mode(spec.mode) if spec.mode in tuple(Mode) else None


def reservation_from(reservation: GpuReservation) -> Reservation | None:
    """None for a mode of a newer release: nothing is kept for it."""
    spec, mode = reservation.spec, mode_of(reservation.spec)
    if mode is None:
        return None
    return Reservation(
        namespace=reservation.metadata.namespace,
        name=reservation.metadata.name,
        model=spec.model,
        gpus=spec.gpus,
        mode=mode,
        starts_at=unix_or_zero(spec.start),
        ends_at=unix_or_zero(spec.end),
    )
