"""Which node a pod goes to, and which shares it gets there: pure, over the cards of each node."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from e2e.hami.standin import mig
from e2e.hami.standin.asks import Ask
from e2e.hami.standin.devices import MIG, Share, Slots
from e2e.hami.standin.fit import SCORE_WEIGHT, Card, Pod, fit
from e2e.hami.standin.release import Release

Json = dict[str, Any]
NODE_POLICY = "hami.io/node-scheduler-policy"


@dataclass
class Candidate:
    """A node with cards. `annotations` are those of the scheduler's own, possibly old, view of it."""

    name: str
    cards: list[Card]
    annotations: Mapping[str, str]


@dataclass(frozen=True)
class Placement:
    node: str
    slots: Slots
    score: float
    migs: list[tuple[int, int, str, mig.Instance]] = field(default_factory=list)
    """(container, device of the container, GPU, reserved instance) where GPUs are in MIG mode."""


def place(
    candidates: Sequence[Candidate],
    asks: Sequence[Ask | None],
    init_containers: int,
    pod: Pod,
    node_policy: str,
    release: Release,
) -> tuple[Placement | None, list[Placement], dict[str, str]]:
    """The best placement, all that fit, and for every other node the reason."""
    fitting: list[Placement] = []
    refused: dict[str, str] = {}
    for candidate in candidates:
        found = _on_node(candidate, asks, init_containers, pod, release)
        if isinstance(found, str):
            refused[candidate.name] = found
        else:
            fitting.append(found)
    policy = pod.annotations.get(NODE_POLICY, node_policy)
    order = sorted(fitting, key=lambda p: p.score, reverse=policy == "spread")
    return (order[-1] if order else None), order, refused


def collapse(slots: Slots, init_containers: int) -> Slots:
    """What a pod uses at most: of init containers the largest, of the others the sum; one slot for all."""
    peak: dict[str, Share] = {}
    total: dict[str, Share] = {}
    for number, slot in enumerate(slots):
        for share in slot:
            if number < init_containers:
                peak[share.uuid] = _merge(peak.get(share.uuid), share, max)
            else:
                total[share.uuid] = _merge(total.get(share.uuid), share, int.__add__)
    return [[_merge(peak.get(u), total.get(u) or peak[u], max) for u in sorted(peak | total)]]


def _merge(one: Share | None, other: Share, by: Callable[[int, int], int]) -> Share:
    if one is None:
        return other
    return Share(
        one.uuid,
        by(one.memory, other.memory),
        by(one.cores, other.cores),
        one.vendor,
        by(one.slots, other.slots),
    )


def _on_node(
    candidate: Candidate, asks: Sequence[Ask | None], init_containers: int, pod: Pod, release: Release
) -> Placement | str:
    fresh = [card.copy() for card in candidate.cards]
    used = [(c.used, c.cores, c.memory) for c in fresh]
    total = [(c.gpu.count, c.gpu.cores, c.gpu.memory) for c in fresh]
    sums = [(sum(u), sum(t)) for u, t in zip(zip(*used, strict=True), zip(*total, strict=True), strict=True)]
    score = SCORE_WEIGHT * sum(u / t for u, t in sums) if sums and all(t for _, t in sums) else 0.0
    first: Slots = []
    for ask in asks[:init_containers]:
        # Init containers run one after the other: each may have what the one before it had.
        outcome = _containers([card.copy() for card in fresh], [ask], first, candidate, pod, release)
        if isinstance(outcome, str):
            return outcome
        first += outcome[0]
    outcome = _containers(fresh, asks[init_containers:], [], candidate, pod, release)
    if isinstance(outcome, str):
        return outcome
    slots, migs = outcome
    return Placement(candidate.name, [*first, *slots], score, migs)


def _containers(
    cards: list[Card],
    asks: Sequence[Ask | None],
    before: Slots,
    candidate: Candidate,
    pod: Pod,
    release: Release,
) -> tuple[Slots, list[tuple[int, int, str, mig.Instance]]] | str:
    """Shares for containers that run at once, taken from `cards`; or why not."""
    slots: Slots = []
    migs: list[tuple[int, int, str, mig.Instance]] = []
    for ask in asks:
        if ask is None:
            slots.append([])
            continue
        taken = [share for slot in [*before, *slots] for share in slot]
        outcome = fit(cards, ask, pod, candidate.annotations, taken, release)
        if not outcome.fits:
            return outcome.reason
        slot = []
        for device, share in enumerate(outcome.shares):
            card = next(card for card in cards if card.gpu.uuid == share.uuid)
            if card.gpu.mode == MIG:
                reservation = mig.reserve(card.gpu, card.migs, share.memory, release)
                if reservation is None:
                    return "AddResourceUsage failed"
                card.migs.append(reservation.instance)
                if release.mig_by_placement:
                    migs.append((len(slots), device, share.uuid, reservation.instance))
                named = mig.name(share.uuid, reservation.instance, release)
                share = Share(named, reservation.memory, reservation.cores)  # noqa: PLW2901
            card.used += 1
            card.memory += share.memory
            card.cores += share.cores
            slot.append(share)
        slots.append(slot)
    return slots, migs


def written(slots: Slots, release: Release) -> Slots:
    """The slots as the assignment annotation has them.

    2.10 files the empty slot of a container that asks for nothing under the model's name in place of the vendor's,
    so that only those of containers with a GPU are written; 2.8 keeps them.
    """
    return slots if release.keeps_slot_before else [slot for slot in slots if slot]
