"""Which GPUs of one node a container gets, and why none: pure.

A `Card` is a registered GPU with what is used of it; the caller owns the cards and lets `fit` change none of them.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cmp_to_key

from e2e.hami.standin import mig
from e2e.hami.standin.asks import Ask
from e2e.hami.standin.devices import CORDON, MIG, Gpu, Share
from e2e.hami.standin.release import Release

USE_TYPE, NOUSE_TYPE = "nvidia.com/use-gputype", "nvidia.com/nouse-gputype"
USE_UUID, NOUSE_UUID = "nvidia.com/use-gpuuuid", "nvidia.com/nouse-gpuuuid"
VGPU_MODE, NUMA_BIND = "nvidia.com/vgpu-mode", "nvidia.com/numa-bind"
GPU_POLICY = "hami.io/gpu-scheduler-policy"
SCORE_WEIGHT = 10


@dataclass
class Card:
    gpu: Gpu
    used: int = 0
    """Containers on it."""
    memory: int = 0
    cores: int = 0
    healthy: bool = True
    migs: list[mig.Instance] = field(default_factory=list)

    def copy(self) -> "Card":
        return replace(self, migs=list(self.migs))

    def score(self) -> float:
        """How full it is: slots, compute and memory count alike."""
        gpu = self.gpu
        if not (gpu.count and gpu.cores and gpu.memory):
            return 0.0
        return SCORE_WEIGHT * (self.used / gpu.count + self.cores / gpu.cores + self.memory / gpu.memory)


@dataclass(frozen=True)
class Pod:
    """What of a pod decides which GPUs fit."""

    annotations: Mapping[str, str]
    policy: str
    """`spread`, `binpack`, `mutex`, …: the pod's own, else the scheduler's."""
    quota_allows: Callable[[int, int], bool]
    """Memory and cores of the whole pod so far, this share included."""


@dataclass(frozen=True)
class Outcome:
    shares: list[Share]
    reason: str = ""

    @property
    def fits(self) -> bool:
        return not self.reason


def fit(
    cards: Sequence[Card],
    ask: Ask,
    pod: Pod,
    node_annotations: Mapping[str, str],
    taken: Sequence[Share],
    release: Release,
) -> Outcome:
    """The shares for one container. `taken` are those of the pod's earlier containers."""
    needs_many = ask.count > len(cards) and not any(card.gpu.mode == MIG for card in cards)
    if needs_many:
        return Outcome([], "NodeInsufficientDevice")
    reasons: Counter[str] = Counter()
    cordoned = _listed(node_annotations.get(CORDON, "")) if release.knows_cordon else set()
    binds_numa = pod.annotations.get(NUMA_BIND, "").lower() in ("1", "t", "true")
    chosen: list[Share] = []
    numa = -1
    order = list(reversed(_sorted(cards, pod.policy, binds_numa, release)))
    for card in order:
        # A MIG card is looked at again as long as it has room.
        while True:
            why = _static_refusal(card, pod, cordoned, release)
            if not why and binds_numa and numa != card.gpu.numa:
                if chosen:
                    reasons["NumaNotFit"] += len(chosen)
                numa, chosen = card.gpu.numa, []
            why = why or _refusal(card, ask, pod, [*taken, *chosen], chosen, release)
            if why:
                reasons[why] += 1
                break
            chosen.append(Share(card.gpu.uuid, ask.memory_on(card.gpu.memory), min(ask.cores, 100)))
            if len(chosen) == ask.count:
                return Outcome(chosen)
            if card.gpu.mode != MIG:
                break
    if chosen:
        reasons["AllocatedCardsInsufficientRequest"] = len(chosen)
    text = ", ".join(sorted(f"{count}/{len(cards)} {reason}" for reason, count in reasons.items()))
    return Outcome([], text or "NodeInsufficientDevice")


def _static_refusal(card: Card, pod: Pod, cordoned: set[str], release: Release) -> str:
    """What no amount of free memory changes."""
    if not (card.gpu.healthy and card.healthy):
        return "CardNotHealth"
    if card.gpu.uuid in cordoned:
        return "CardCordoned"
    if not _type_allowed(card.gpu, pod.annotations, release):
        return "CardTypeMismatch"
    return ""


def _refusal(
    card: Card, ask: Ask, pod: Pod, pods_shares: Sequence[Share], chosen: Sequence[Share], release: Release
) -> str:
    gpu, cores = card.gpu, min(ask.cores, 100)
    memory = ask.memory_on(gpu.memory)
    total_memory = sum(share.memory for share in pods_shares) + memory
    total_cores = sum(share.cores for share in pods_shares) + cores
    custom = mig.fits(gpu, card.migs, [s.memory for s in chosen if s.uuid == gpu.uuid], memory, release)
    checks = (
        (not _uuid_allowed(gpu.uuid, pod.annotations, release), "CardUuidMismatch"),
        (gpu.count <= card.used, "CardTimeSlicingExhausted"),
        (
            release.knows_mutex_policy and "mutex" in _listed(pod.policy) and card.used > 0,
            "ExclusiveDeviceAllocateConflict",
        ),
        (not pod.quota_allows(total_memory, total_cores), "ResourceQuotaNotFit"),
        (gpu.memory - card.memory < memory, "CardInsufficientMemory"),
        (gpu.cores - card.cores < cores, "CardInsufficientCore"),
        (gpu.cores == 100 and cores == 100 and card.used > 0, "ExclusiveDeviceAllocateConflict"),
        (gpu.cores != 0 and card.cores == gpu.cores and cores == 0, "CardComputeUnitsExhausted"),
        (gpu.mode == MIG and not custom, mig.refusal(release)),
    )
    return next((reason for refused, reason in checks if refused), "")


def _type_allowed(gpu: Gpu, annotations: Mapping[str, str], release: Release) -> bool:
    """Models are matched as parts of the name, whatever the case; the mode must be named if any is."""
    if VGPU_MODE in annotations and gpu.mode not in annotations[VGPU_MODE]:
        return False
    model = gpu.model.upper()

    def matches(key: str) -> bool:
        parts = annotations[key].upper().split(",")
        if release.trims_type_lists:
            parts = [part.strip() for part in parts if part.strip()]
        return any(part in model for part in parts)

    def constrains(key: str) -> bool:
        return key in annotations and (bool(annotations[key].strip()) or not release.trims_type_lists)

    if constrains(USE_TYPE) and not matches(USE_TYPE):
        return False
    return not (constrains(NOUSE_TYPE) and matches(NOUSE_TYPE))


def _uuid_allowed(uuid: str, annotations: Mapping[str, str], release: Release) -> bool:
    if release.use_hides_nouse:
        if USE_UUID in annotations:
            return uuid in annotations[USE_UUID].split(",")
        return uuid not in annotations.get(NOUSE_UUID, "").split(",")
    use = _listed(annotations.get(USE_UUID, ""))
    return (not use or uuid in use) and uuid not in _listed(annotations.get(NOUSE_UUID, ""))


def _listed(text: str) -> set[str]:
    return {part.strip() for part in text.split(",") if part.strip()}


def _sorted(cards: Sequence[Card], policy: str, binds_numa: bool, release: Release) -> list[Card]:
    """In the order in which HAMi sorts them; it takes from the end."""
    scores = {card.gpu.uuid: card.score() for card in cards}
    numa_first = binds_numa or not release.knows_mutex_policy

    def compare(one: Card, other: Card) -> int:
        by_score = _sign(scores[one.gpu.uuid] - scores[other.gpu.uuid])
        by_numa = _sign(one.gpu.numa - other.gpu.numa)
        if policy == "mutex" and release.knows_mutex_policy:
            return _sign(other.used - one.used) or by_numa
        if policy == "binpack":
            return (-by_numa or by_score) if numa_first else (by_score or by_numa)
        return (by_numa or -by_score) if numa_first else (-by_score or by_numa)

    return sorted(cards, key=cmp_to_key(compare))


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)
