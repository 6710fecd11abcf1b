"""Shared cards that are kept for containers of a reservation's holders: chosen, kept in their mode, and closed to others.

HAMi puts containers of anybody on one card, so certain cards have to be kept. Those that were kept before stay, unless
another is emptier.
"""

from dataclasses import replace

from poolmgr.domain.demand import SharedPod
from poolmgr.domain.denials import Denial, name_of
from poolmgr.domain.fleet import Gpu
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.domain.usage import is_open
from poolmgr.planner.inventory.inventory import Inventory
from poolmgr.planner.inventory.node import ExplanationCache, IneligibleGpu
from poolmgr.planner.sizing.reservations import Due, Reserved, is_holder


def keep_cards(snapshot: ClusterSnapshot, inventory: Inventory, reserved: Reserved) -> ClusterSnapshot:
    """Choose the cards of `reserved`, take them out of what `inventory` may move, and exclude them for waiting pods of
    others; the snapshot with that said of these."""
    dues = reserved.of(Mode.SHARED)
    if not dues:
        return snapshot
    taken: set[GpuUuid] = set()
    for due in dues:
        _choose(snapshot, inventory, due, taken)
        taken.update(card.uuid for card in due.cards)
    _keep(inventory, dues)

    def seen(pod: SharedPod) -> SharedPod:
        others = reserved.cards_of_others(pod) if pod.node is None else frozenset[GpuUuid]()
        if not others:
            return pod
        return replace(pod, excluded_uuids=tuple(sorted({*pod.excluded_uuids, *others})))

    return replace(snapshot, pods=tuple(map(seen, snapshot.pods)))


def _choose(snapshot: ClusterSnapshot, inventory: Inventory, due: Due, taken: set[GpuUuid]) -> None:
    """Those that nobody else has, then those that were kept before."""
    offers: list[tuple[int, bool, str, str, Gpu, bool]] = []
    for node in snapshot.nodes:
        if not is_open(node):
            continue
        for gpu in node.gpus:
            if (str(gpu.pool), gpu.model) not in due.groups or gpu.uuid in taken or not _is_shared(gpu):
                continue
            pods = inventory.usage.pods_on(gpu)
            others = sum(not is_holder(due.reservation, pod) for pod in pods)
            before = gpu.uuid in due.reservation.cards
            offers.append((others, not before, str(node.name), str(gpu.pci_address), gpu, bool(pods)))
    chosen = sorted(offers, key=lambda offer: offer[:4])[: due.reservation.gpus]
    due.cards = tuple(offer[4] for offer in chosen)
    due.ready_cards = sum(not others for others, *_ in chosen)
    due.used = sum(busy and not others for others, _, _, _, _, busy in chosen)


def _is_shared(gpu: Gpu) -> bool:
    return (
        gpu.phase is DevicePhase.READY
        and gpu.closed is None
        and bool(gpu.uuid)
        and gpu.observed_mode is Mode.SHARED
        and gpu.desired_mode in (None, Mode.SHARED)
    )


def _keep(inventory: Inventory, dues: list[Due]) -> None:
    """Idle ones are no longer among those that may move."""
    for due in dues:
        kept = {(card.node, card.pci_address) for card in due.cards}
        for key in due.groups:
            group = inventory.groups[key]
            for name in {card.node for card in due.cards} & group.nodes.keys():
                at = group.nodes[name]
                stays = [u for u in at.to_passthrough if any((g.node, g.pci_address) in kept for g in u.gpus)]
                if not stays:
                    continue
                moves = [unit for unit in at.to_passthrough if unit not in stays]
                # Its sentences are of this decision: what was said of idle GPUs before is not so now.
                group.nodes[name] = replace(at, to_passthrough=moves, explanations=ExplanationCache())
                inventory.ineligible += [
                    IneligibleGpu(gpu, at.node, group.pool, denial=_denial(gpu, due))
                    for unit in stays
                    for gpu in unit.gpus
                ]


def _denial(gpu: Gpu, due: Due) -> Denial:
    return Reason.RESERVED, f"{name_of(gpu)} is kept for reservation {due.reservation.key}"
