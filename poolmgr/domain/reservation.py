"""Reservations: windows of time in which a number of GPUs of a model is kept for those who hold them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.modes import Mode

LEAD_SECONDS = 600.0
"""Before a window opens, idle GPUs are brought over for it: twice what the slowest step of a move may take."""


class Window(NamedTuple):
    """From `starts_at` to just before `ends_at`, Unix seconds."""

    starts_at: float
    ends_at: float


@dataclass(frozen=True, slots=True)
class Holders:
    """Whose workloads may use what is reserved: all that is said has to be so."""

    namespaces: frozenset[str]
    labels: tuple[tuple[str, str], ...] = ()
    """Of the pod, or of the machine's instance."""
    by_claim: bool = False
    """Only those that name the reservation."""

    def include(self, namespace: str, labels: Mapping[str, str], claimed: bool) -> bool:
        """`claimed`: the workload names the reservation."""
        return (
            namespace in self.namespaces
            and (claimed or not self.by_claim)
            and all(labels.get(key) == value for key, value in self.labels)
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """A GPUReservation: `gpus` of `model` in `mode`, in each of its windows."""

    namespace: str
    name: str
    model: str
    gpus: int
    mode: Mode
    windows: tuple[Window, ...]
    """In order; none overlaps the next."""
    holders: Holders
    created_at: float = 0.0
    lead_seconds: float = 0.0
    """So long before each window what falls free is kept for it already; never less than a move needs."""
    cards: tuple[GpuUuid, ...] = ()
    """The shared cards that were kept for it last."""
    generation: int = 0

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    def window(self, now: float) -> Window | None:
        """The one that is open, else the next one; None once all are over."""
        return next((window for window in self.windows if now < window.ends_at), None)

    def is_held_by(self, namespace: str, labels: Mapping[str, str], claim: str) -> bool:
        """Whether a workload with these labels, which names the reservation `claim` (`NAME` of its own namespace or
        `NAMESPACE/NAME`; empty: none), may use it. One that names another uses no other."""
        claimed = (claim if "/" in claim else f"{namespace}/{claim}") == self.key
        return (claimed or not claim) and self.holders.include(namespace, labels, claimed)
