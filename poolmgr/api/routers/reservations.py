"""Reservations, as the manager sees them now."""

from fastapi import APIRouter

from poolmgr.api import present, schemas
from poolmgr.api.deps import CensusDep, ControlDep
from poolmgr.api.problems import documented

router = APIRouter(prefix="/reservations", tags=["reservations"])


@router.get("", summary="List reservations", responses=documented(503))
async def list_reservations(control: ControlDep, census: CensusDep) -> schemas.ReservationList:
    """Every GPUReservation with its open or next window, and how many GPUs are ready for its holders."""
    plan = control.plan
    states = {(s.namespace, s.name): s for s in plan.reservations} if plan else {}
    found = sorted(census.snapshot.reservations, key=lambda r: r.key)
    return schemas.ReservationList(
        items=[present.reservation(r, states.get((r.namespace, r.name))) for r in found]
    )
