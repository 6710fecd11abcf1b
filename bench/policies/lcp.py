"""Lazy capacity provisioning: sizing with a price on changing, never worse than three times the best.

Lin, Wierman, Andrew and Thereska (INFOCOM 2011) for the continuous problem; Albers and Quedenfeld (SPAA 2018)
for integers, where 3 is the best that a deterministic algorithm can have. The problem per group: choose x GPUs
for passthrough each step; pay `weight_vm` for each GPU that VMs lack and `weight_shared` for each that pods
lack, and `beta` for each GPU moved either way. The guarantee is for this desired size: VMs that may not be
disturbed make the realised size follow later.

W(x) is the least cost of all histories that end with x. Reading it with the price of moving charged once on
the way up and once on the way down gives a lower and an upper limit for x; being lazy is to move only when
the present size lies outside them, and then only to the nearer limit.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.inventory import Inventory
from poolmgr.planner.inventory.node import GroupKey
from poolmgr.planner.sizing.headroom import Headroom, wanted_by_vms

Costs = npt.NDArray[np.float64]


def step_cost(
    gpus: int, vms: float, pods: float, seconds: float, weight_vm: float, weight_shared: float
) -> Costs:
    """Cost of every size 0..gpus over `seconds` with `vms` and `pods` GPUs wanted."""
    size = np.arange(gpus + 1, dtype=np.float64)
    lacking = weight_vm * np.maximum(vms - size, 0.0) + weight_shared * np.maximum(pods - (gpus - size), 0.0)
    cost: Costs = seconds * lacking
    return cost


def advance(work: Costs, cost: Costs, beta: float) -> Costs:
    """W_t(x) = f_t(x) + min_y [W_{t-1}(y) + beta |x - y|], two running minima instead of a square."""
    size = np.arange(len(work), dtype=np.float64)
    from_below = np.minimum.accumulate(work - beta * size) + beta * size
    from_above = np.minimum.accumulate((work + beta * size)[::-1])[::-1] - beta * size
    following: Costs = cost + np.minimum(from_below, from_above)
    return following


def limits(work: Costs, beta: float) -> tuple[int, int]:
    """The least and the greatest size that a lazy provider stays at."""
    size = np.arange(len(work), dtype=np.float64)
    low = int(np.argmin(work + beta * size))
    reach = work - beta * size
    high = len(work) - 1 - int(np.argmin(reach[::-1]))
    return min(low, high), max(low, high)


@dataclass(frozen=True, slots=True)
class LcpSettings:
    beta_seconds: float = 120.0
    """What moving one GPU costs, in GPU-seconds: two flips of a minute, there and back, halved."""
    weight_vm: float = 4.0
    """A person who waits is worth four containers that wait."""
    weight_shared: float = 1.0


class LcpSizer:
    """B10: the size that lazy capacity provisioning holds, from demand seen so far alone."""

    def __init__(self, settings: LcpSettings | None = None) -> None:
        self._settings = settings or LcpSettings()

    def size(
        self, snapshot: ClusterSnapshot, inventory: Inventory, learned: Any
    ) -> tuple[dict[GroupKey, Headroom], Any]:
        s, now = self._settings, snapshot.taken_at
        known: dict[str, Any] = (learned or {}).get("lcp", {})
        vms, pods = wanted_by_vms(snapshot, inventory), _wanted_by_pods(snapshot, inventory)
        found: dict[GroupKey, Headroom] = {}
        remembered: dict[str, Any] = {}
        for key, group in inventory.groups.items():
            entry = known.get("/".join(key))
            size = group.passthrough if entry is None else min(int(entry["size"]), group.gpus)
            work = np.zeros(group.gpus + 1)
            seconds = 10.0
            if entry is not None and len(entry["work"]) == group.gpus + 1:
                work, seconds = np.asarray(entry["work"]), min(now - float(entry["at"]), 600.0)
            cost = step_cost(group.gpus, vms[key], pods[key], seconds, s.weight_vm, s.weight_shared)
            work = advance(work, cost, s.beta_seconds)
            work -= work.min()
            low, high = limits(work, s.beta_seconds)
            size = min(max(size, low), high)
            remembered["/".join(key)] = {"size": size, "work": work.tolist(), "at": now}
            free = max(0, size - group.vm_busy)
            text = f"lazy capacity provisioning holds {size} GPU(s) (between {low} and {high})"
            found[key] = Headroom(free, free, Reason.HEADROOM, text)
        return found, {"lcp": remembered}


def _wanted_by_pods(snapshot: ClusterSnapshot, inventory: Inventory) -> dict[GroupKey, float]:
    """GPUs' worth of pods that run or wait, by group; a waiting pod counts for the first group it accepts."""
    wanted: dict[GroupKey, float] = {key: float(group.shared_busy) for key, group in inventory.groups.items()}
    if not inventory.groups:
        return wanted
    first = next(iter(inventory.groups))
    card = inventory.groups[first].memory_mib
    for pod in snapshot.pods:
        if pod.node is None:
            key = first
            if pod.models:
                key = next((k for k in inventory.groups if pod.accepts(k[1], GpuUuid(""))), first)
            wanted[key] += pod.worth(card)
    return wanted
