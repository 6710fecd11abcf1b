"""What the scheduler believes: its own view of nodes with GPUs, what pods hold of them, and quotas."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from e2e.hami.standin import mig
from e2e.hami.standin.devices import (
    ALLOCATED,
    ASSIGNED_NODE,
    HAMI_CORE,
    MIG,
    MIG_ALLOCATIONS,
    Gpu,
    Slots,
    decode_shares,
)
from e2e.hami.standin.fit import Card
from e2e.hami.standin.placing import collapse
from e2e.hami.standin.release import Release

Json = dict[str, Any]


@dataclass(frozen=True)
class NodeView:
    """A node as it was when the scheduler last took it in: later annotations are not seen."""

    annotations: Mapping[str, str]
    gpus: tuple[Gpu, ...]


@dataclass
class Held:
    """What a pod holds on a node."""

    namespace: str
    name: str
    node: str
    slots: Slots
    annotations: Mapping[str, str] = field(default_factory=dict)
    shrunk: bool = False
    """Its init containers have ended, and what they needed beyond the others is free again."""


class Books:
    """Not safe for threads by itself: the scheduler holds one lock around every use."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self.nodes: dict[str, NodeView] = {}
        self.pods: dict[str, Held] = {}
        """By UID."""
        self.used: dict[str, tuple[int, int]] = {}
        """Namespace → memory and cores that its pods hold."""

    # --- nodes ----------------------------------------------------------------------------------------------

    def take_node(self, node: Json, gpus: Iterable[Gpu]) -> None:
        annotations = dict(node["metadata"].get("annotations") or {})
        self.nodes[node["metadata"]["name"]] = NodeView(annotations, tuple(gpus))

    def forget_node(self, name: str) -> bool:
        """Answers whether it was known."""
        return self.nodes.pop(name, None) is not None

    def cards(self) -> dict[str, list[Card]]:
        """Every known node's GPUs with what pods hold of them."""
        cards = {name: [Card(gpu) for gpu in view.gpus] for name, view in self.nodes.items()}
        for held in self.pods.values():
            by_uuid = {card.gpu.uuid: card for card in cards.get(held.node, ())}
            reserved = mig.decode(held.annotations.get(MIG_ALLOCATIONS, "[]"))
            for share in (share for slot in held.slots for share in slot):
                uuid, instance = mig.parse_name(share.uuid)
                if card := by_uuid.get(uuid):
                    card.used += max(share.slots, 1)
                    card.memory += share.memory
                    card.cores += share.cores
                    reserved += [(uuid, instance)] if instance else []
            for uuid, card in by_uuid.items():
                instances = [instance for gpu, instance in reserved if gpu == uuid]
                holds = any(share.uuid == uuid for slot in held.slots for share in slot)
                card.migs += instances
                # HAMi marks a GPU whose mode and whose pods' reservations contradict each other.
                if (instances and card.gpu.mode == HAMI_CORE) or (
                    holds and not instances and card.gpu.mode == MIG and self._release.mig_by_placement
                ):
                    card.healthy = False
        return cards

    # --- pods -----------------------------------------------------------------------------------------------

    def see_pod(self, kind: str, pod: Json) -> None:
        """A pod was added, changed or deleted in the cluster."""
        meta, status = pod["metadata"], pod.get("status") or {}
        annotations = meta.get("annotations") or {}
        if ASSIGNED_NODE not in annotations:
            return
        if kind == "DELETED" or status.get("phase") in ("Succeeded", "Failed"):
            self.release(meta["uid"])
            return
        if meta.get("deletionTimestamp") and not self._release.rereads_assignments:
            return  # it holds what it holds until it is gone
        held = self.pods.get(meta["uid"])
        if held is None or self._release.rereads_assignments:
            self._read_pod(pod, annotations)
            return
        held.annotations = annotations
        if not held.shrunk and _init_containers_ended(status):
            slots = self._decode(annotations)
            if slots is not None:
                init = len(pod["spec"].get("initContainers") or [])
                self.release(meta["uid"])
                self.hold(
                    meta["uid"], Held(held.namespace, held.name, held.node, slots[init:], annotations, True)
                )

    def hold(self, uid: str, held: Held) -> None:
        """Counts a pod's shares; what it held before is replaced."""
        self.release(uid)
        self.pods[uid] = held
        self._count(held, 1)

    def release(self, uid: str) -> None:
        if held := self.pods.pop(uid, None):
            self._count(held, -1)

    def _read_pod(self, pod: Json, annotations: Mapping[str, str]) -> None:
        meta = pod["metadata"]
        slots = self._decode(annotations)
        if slots is None:
            return
        if self._release.counts_init_containers:
            slots = collapse(slots, len(pod["spec"].get("initContainers") or []))
        self.hold(
            meta["uid"],
            Held(meta["namespace"], meta["name"], annotations[ASSIGNED_NODE], slots, annotations),
        )

    def _decode(self, annotations: Mapping[str, str]) -> Slots | None:
        try:
            return decode_shares(
                annotations.get(ALLOCATED, ""), keep_empty=self._release.keeps_empty_slots_when_read
            )
        except ValueError:
            return [] if self._release.rereads_assignments else None

    def _count(self, held: Held, sign: int) -> None:
        memory = sum(share.memory for slot in held.slots for share in slot)
        cores = sum(share.cores for slot in held.slots for share in slot)
        before = self.used.get(held.namespace, (0, 0))
        self.used[held.namespace] = max(before[0] + sign * memory, 0), max(before[1] + sign * cores, 0)

    # --- quotas ---------------------------------------------------------------------------------------------

    def quota_check(
        self, namespace: str, limits: tuple[int | None, int | None]
    ) -> Callable[[int, int], bool]:
        """A question "may the namespace have that much more?"; a limit of None is none."""
        used = self.used.get(namespace, (0, 0))

        def allows(memory: int, cores: int) -> bool:
            wanted = (used[0] + memory, used[1] + cores)
            return all(limit is None or want <= limit for want, limit in zip(wanted, limits, strict=True))

        return allows


def _init_containers_ended(status: Json) -> bool:
    states = [item.get("state") or {} for item in status.get("initContainerStatuses") or []]
    return bool(states) and all(
        (state.get("terminated") or {"exitCode": 1})["exitCode"] == 0 for state in states
    )
