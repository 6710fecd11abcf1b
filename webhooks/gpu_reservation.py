"""GPUReservations: refuse what the fleet can never give, what is over already, and what others were promised first."""

import msgspec

from poolmgr.domain.calendar import Calendar, window_text
from poolmgr.domain.reasons import Reason
from poolmgr.wire.meta import ObjectMeta
from poolmgr.wire.reservations import GpuReservation, mode_of, reservation_from, windows_of
from webhooks.fleet_view import FleetView
from webhooks.review import AdmissionRequest, Answer, admitted, refused
from webhooks.virtual_machine import UnknownResources
from webhooks.wording import listing


def decide_gpu_reservation(
    request: AdmissionRequest, fleet: FleetView | None, unknown: UnknownResources, now: float
) -> Answer:
    """The answer for a GPUReservation being created or changed. `now` in Unix seconds."""
    object_ = request.object or {}
    if (object_.get("metadata") or {}).get("deletionTimestamp"):
        return admitted()
    spec = msgspec.convert(object_, GpuReservation).spec
    if request.old_object and msgspec.convert(request.old_object, GpuReservation).spec == spec:
        return admitted()
    try:
        windows = windows_of(spec)
    except ValueError as error:
        return refused(Reason.INVALID_REQUEST, f"The reservation has no window: {error}.")
    if windows[-1].ends_at <= now:
        return refused(
            Reason.INVALID_REQUEST,
            f"Its last window, {window_text(windows[-1])}, is over: specify one in the future.",
        )
    warnings: tuple[str, ...] = ()
    if windows[0].starts_at < now < windows[0].ends_at:
        warnings = ("start is in the past: the window begins at once",)
    if mode_of(spec) is None:
        said = f"this release does not know the mode {spec.mode}: the reservation is not checked"
        return admitted(warnings=(*warnings, said))
    if fleet is None:
        return admitted(Reason.FLEET_UNKNOWN, warnings=warnings)
    view = fleet.named(spec.model)
    if view is None:
        message = (
            f"No GPU of this cluster is a {spec.model}. It has: {listing(fleet.model_names) or 'none yet'}."
        )
        if unknown is UnknownResources.REFUSE:
            return refused(Reason.UNKNOWN_RESOURCE, message)
        return admitted(warnings=(*warnings, message))
    named = ObjectMeta(name=request.name, namespace=request.namespace)
    wanted = reservation_from(GpuReservation(spec, named))
    assert wanted is not None  # it has windows and a mode that is known
    calendar = Calendar(view.capacity)
    for promise in fleet.promises:
        other = promise.reservation
        if other.key != wanted.key and other.model.casefold() == view.model.casefold():
            calendar.add(other)
    verdict = calendar.verdict(wanted, now)
    if not verdict:
        return refused(verdict.reason, f"{verdict.message[0].upper()}{verdict.message[1:]}.")
    return admitted(warnings=warnings)
