"""What a tenant says of times far away ends nobody's plan."""

from typing import Any

import pytest

from poolmgr import wire
from poolmgr.cluster.observe.assembly import Assembly
from poolmgr.planner.plan import PoolPlanner
from tests.unit.cluster.builders import as_wire, reservation, vmi
from tests.unit.cluster.planned import host, observed

FAR = (
    "9999-12-31T23:59:59-23:59",
    "8999-12-31T23:59:59Z",
    "0001-01-01T00:00:00+23:59",
    "0002-01-01T00:00:00Z",
)


@pytest.mark.parametrize("start", FAR)
@pytest.mark.parametrize("end", FAR)
def test_reservation_of_any_time_is_planned_for_or_left_out(start: str, end: str) -> None:
    cluster: Any = Assembly()
    asked = reservation("far", "ml", start=start, end=end, leadSeconds=86_400)
    cluster.apply_reservation("ml/far", as_wire(asked, wire.GpuReservation))
    snapshot = observed(host("n1", "ss"), assembly=cluster)
    assert PoolPlanner().decide(snapshot, None).plan.plan_id


@pytest.mark.parametrize("since", FAR)
def test_machine_idle_since_any_time_is_planned_for(since: str) -> None:
    idle = vmi(node="n1", phase="Running")
    idle["metadata"].setdefault("annotations", {})["poolmgr.io/idle-since"] = since
    snapshot = observed(host("n1", "sv"), idle)
    assert PoolPlanner().decide(snapshot, None).plan.plan_id
