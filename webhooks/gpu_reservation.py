"""GPUReservations: refuse what the fleet can never give or what is over already."""

import msgspec

from poolmgr.domain.reasons import Reason
from poolmgr.wire.instants import from_rfc3339
from poolmgr.wire.reservations import GpuReservation, mode_of
from webhooks.fleet_view import FleetView
from webhooks.review import AdmissionRequest, Answer, admitted, refused
from webhooks.virtual_machine import UnknownResources
from webhooks.wording import gpus_word, listing

KEEPS_NOBODY_OUT = "poolmgr moves GPUs for this window, but keeps nobody else from using them"


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
    start, end = from_rfc3339(spec.start), from_rfc3339(spec.end)
    if end <= now:
        return refused(Reason.INVALID_REQUEST, f"The window ended at {spec.end}: give an end in the future.")
    warnings: tuple[str, ...] = (KEEPS_NOBODY_OUT,)
    if start < now:
        warnings = (*warnings, "start is in the past: the window begins at once")
    if fleet is None:
        return admitted(Reason.FLEET_UNKNOWN, warnings=warnings)
    model, gpus, mode = spec.model, spec.gpus, mode_of(spec)
    view = fleet.named(model)
    if view is None:
        message = (
            f"No GPU of this cluster is a {model}. There are: {listing(fleet.model_names) or 'none yet'}."
        )
        if unknown is UnknownResources.REFUSE:
            return refused(Reason.UNKNOWN_RESOURCE, message)
        return admitted(warnings=(*warnings, message))
    if mode is None:
        return admitted(
            warnings=(
                *warnings,
                f"this release does not know the mode {spec.mode}: the reservation is not checked",
            )
        )
    if gpus > view.limits[mode]:
        return refused(
            Reason.AT_MAXIMUM,
            f"The reservation asks for {gpus} {view.model} in {mode}, but the cluster has {view.gpus} "
            f"{gpus_word(view.gpus)} of this model and its pools allow {view.limits[mode]} of them in {mode}. "
            f"Ask for at most {view.limits[mode]}.",
        )
    return admitted(warnings=warnings)
