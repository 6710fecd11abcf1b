"""What a replay asks for: VMs and pods as columns on one clock."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """The GPUs of a replay: one entry a node."""

    gpus: Ints
    model: Ints
    """Index into `models`."""
    models: tuple[str, ...]
    nvswitch: Bools
    """GPUs of these nodes move together."""

    @property
    def total(self) -> int:
        return int(self.gpus.sum())


def even_fleet(nodes: int, gpus: int, model: str = "NVIDIA A10", *, nvswitch: bool = False) -> FleetPlan:
    zeros = np.zeros(nodes, dtype=np.int64)
    return FleetPlan(np.full(nodes, gpus, dtype=np.int64), zeros, (model,), np.full(nodes, nvswitch))


@dataclass(frozen=True, slots=True)
class Demand:
    """Times are seconds; the window is [0, horizon); what runs at its begin starts there."""

    horizon: float
    vm_start: Floats
    vm_end: Floats
    """A session ends then whether or not it had to wait: waiting is time lost to its user."""
    vm_gpus: Ints
    vm_model: Ints
    pod_start: Floats
    pod_seconds: Floats
    pod_milli: Ints
    pod_best_effort: Bools
    pod_models: Ints
    """Bit m is set where model m is acceptable."""
    vm_idle_after: Floats
    """Seconds of use after which a session is forgotten, inf where never."""
    weekly_history: tuple[tuple[int, ...], ...] = ()
    """Per model: the greatest number of GPUs wanted by VMs in each five minutes before the window, oldest
    first: what a manager's ledger would hold. Empty for a cold start."""
    facts: dict[str, float] = field(default_factory=dict)
    """What the scenario reports of itself: copies, offered load, …"""
    pod_urgent: Bools | None = None
    """Pods that a person waits for: a priority class puts them first in HAMi's queue. None where there are none."""

    @property
    def vm_used_until(self) -> Floats:
        """A session is worth something until then; after that nobody sits at it."""
        until: Floats = np.minimum(self.vm_end, self.vm_start + self.vm_idle_after)
        return until


def busy_gpus(start: Floats, end: Floats, weight: Floats, lo: float, hi: float) -> float:
    """Mean of `weight` present between `lo` and `hi`."""
    inside = np.clip(np.minimum(end, hi) - np.maximum(start, lo), 0.0, None)
    return float((inside * weight).sum() / (hi - lo))


def presence(
    start: Floats, end: Floats, weight: Ints, lo: float, hi: float, step: float
) -> npt.NDArray[np.int64]:
    """The greatest number present in each step of [lo, hi)."""
    times = np.concatenate([start, end])
    change = np.concatenate([weight, -weight])
    order = np.lexsort((change, times))  # leave before come at equal times
    times, level = times[order], np.cumsum(change[order])
    edges = np.arange(lo, hi, step)
    before = np.searchsorted(times, edges, side="right") - 1
    top = np.where(before >= 0, level[np.maximum(before, 0)], 0)
    bins = np.floor((times - lo) / step).astype(np.int64)
    inside = (bins >= 0) & (bins < len(edges))
    np.maximum.at(top, bins[inside], level[inside])
    return top.astype(np.int64)
