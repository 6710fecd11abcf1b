"""The demo's front desk: the real webhook, asked over HTTP about each desktop that somebody starts.

The simulated fleet has no API server that would call it, so this does: it shows the fleet to the webhook as the
controller sees it, and sends each new machine as an AdmissionReview. What the webhook answers is what a user of
`kubectl apply` reads.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
from starlette.types import ASGIApp

from poolmgr.api.ui.wording import hour_and_minute
from poolmgr.cli.aside import briefly
from poolmgr.controller.loop import Controller
from poolmgr.domain.demand import Vm
from poolmgr.domain.identifiers import Generation
from poolmgr.domain.membership import by_age
from poolmgr.domain.plan import Plan, ReservationPhase
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.kit.clock import Clock
from webhooks.app import build_app
from webhooks.decide import Policy
from webhooks.fleet_view import FleetView, Promise, fleet_view_of

Json = dict[str, Any]


class SnapshotFeed:
    """The webhook's view of the fleet, made from what the controller sees; once for each generation."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._of: Generation | None = None
        self._view: FleetView | None = None

    def current(self) -> FleetView | None:
        snapshot = self._controller.snapshot
        if snapshot is not None and snapshot.generation != self._of:
            self._of = snapshot.generation
            self._view = view_of_snapshot(snapshot, self._controller.plan)
        return self._view


def view_of_snapshot(snapshot: ClusterSnapshot, plan: Plan | None) -> FleetView:
    """The view as it is made of the cluster's objects, with what the manager writes into their status."""
    uses = plan.quota_uses if plan is not None else ()
    states = {(s.namespace, s.name): s for s in plan.reservations} if plan is not None else {}
    over = (ReservationPhase.REFUSED, ReservationPhase.EXPIRED)
    promises = [
        Promise(replace(r, cards=tuple(uuid for _, uuid in state.cards)), state.kept)
        for r in sorted(snapshot.reservations, key=lambda r: (r.created_at, r.key))
        if (state := states.get((r.namespace, r.name))) is not None and state.phase not in over
    ]
    return fleet_view_of(snapshot.nodes, by_age(snapshot.pools), uses, tuple(promises), snapshot.taken_at)


def webhook(controller: Controller, clock: Clock) -> ASGIApp:
    """The webhook's application on the controller's view."""
    return build_app(Policy(), SnapshotFeed(controller), clock)


async def ask_about_machines(
    controller: Controller,
    address: str,
    wall: Clock,
    *,
    interval_seconds: float = 0.5,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[str]:
    """For each machine that appears and is warned about: one line with the warning; where it could not be asked
    about, a line with the reason. Ends when cancelled. `transport` is httpx' own unless given."""
    asked: set[str] = set()
    # A connection for each question: a kept one may be closed by the server in the moment in which it is used
    # again, and a POST that was lost so is not sent anew.
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=address, timeout=30, limits=limits, transport=transport) as http:
        while True:
            for vm in _new(controller.snapshot, asked):
                who = f"{hour_and_minute(vm.created_at)} {vm.namespace}/{vm.name}"
                try:
                    answer = await http.post("/admit/virtualmachines", json=review(vm))
                    answer.raise_for_status()
                except httpx.HTTPError as error:
                    yield f"{who} could not be told anything: the webhook did not answer ({briefly(error)})"
                    continue
                # The first says what happens next; the second how to follow it with kubectl, which is not here.
                for warning in (answer.json()["response"].get("warnings") or ())[:1]:
                    yield f"{who} was told: {warning}"
            await wall.sleep(interval_seconds)


def _new(snapshot: ClusterSnapshot | None, asked: set[str]) -> list[Vm]:
    """Machines that wait and were not asked about before; forgets those that are gone."""
    vms = snapshot.vms if snapshot else ()
    asked.intersection_update(vm.uid for vm in vms)
    fresh = [vm for vm in vms if vm.waiting and vm.uid not in asked]
    asked.update(vm.uid for vm in vms)
    return fresh


def review(vm: Vm) -> Json:
    """The AdmissionReview for creating this machine."""
    gpus = [
        {"name": f"gpu{number}", "deviceName": claim.resource_name}
        for claim in vm.claims
        for number in range(claim.count)
    ]
    template = {"spec": {"domain": {"devices": {"gpus": gpus}}}}
    machine = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": vm.name, "namespace": vm.namespace},
        "spec": {"runStrategy": "Always", "template": template},
    }
    request = {
        "uid": vm.uid,
        "operation": "CREATE",
        "namespace": vm.namespace,
        "name": vm.name,
        "object": machine,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


async def tell(lines: AsyncIterator[str], say: Callable[[str], None]) -> None:
    """Say each line; lines stop when the demo does."""
    async for line in lines:
        say(line)
