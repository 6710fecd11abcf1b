"""Reservations at admission: what is kept for others."""

from collections.abc import Iterable, Mapping
from typing import Any

from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.modes import Mode
from poolmgr.wire.annotations import RESERVATION
from webhooks.fleet_view import FleetView, Promise


def promises_of(models: Iterable[str], mode: Mode, fleet: FleetView) -> list[Promise]:
    """Reservations of one of `models` in a mode."""
    wanted = {model.casefold() for model in models}
    return [
        promise
        for promise in fleet.promises
        if promise.reservation.mode is mode and promise.reservation.model.casefold() in wanted
    ]


def held_by(promise: Promise, namespace: str, metadata: Mapping[str, Any]) -> bool:
    """Whether what is created with this metadata may use the reservation."""
    labels = metadata.get("labels") or {}
    claim = (metadata.get("annotations") or {}).get(RESERVATION, "")
    return promise.reservation.is_held_by(namespace, labels, claim)


def cards_of_others(namespace: str, metadata: Mapping[str, Any], fleet: FleetView) -> frozenset[GpuUuid]:
    """Shared cards that are kept for reservations that the pod does not hold."""
    return frozenset(
        card
        for promise in fleet.promises
        if promise.reservation.cards and not held_by(promise, namespace, metadata)
        for card in promise.reservation.cards
    )
