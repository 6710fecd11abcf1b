"""What a replay counts, inside its measured window [0, horizon) only."""

from dataclasses import dataclass, field

import numpy as np

from bench.replay.demand import Demand, Floats

WITHIN_SECONDS = 60.0
"""w60: the share of VMs that have a GPU within a minute."""


@dataclass(slots=True)
class Figures:
    """Shares are of GPUs × time unless said otherwise."""

    vm_served: float
    """Seconds of VM sessions served / asked for, in GPU-seconds."""
    vm_within_60s: float
    """Of all VMs that asked."""
    vm_wait_p99_s: float
    """Of all VMs that asked; one that gave up counts with its whole patience."""
    vm_lost: int
    goodput: float
    """VM seconds served and pod seconds that were not thrown away."""
    allocation: float
    flips_per_gpu_day: float
    flip_loss: float
    evictions: int
    evicted_gpu_hours: float
    pod_wait_mean_s: float
    pod_wait_p90_s: float
    weighted_wait: float
    """GPU-seconds that pods waited / GPU-seconds that they asked for."""
    rollbacks: int
    failed_flips: int
    vm_kills: int
    """VMs that a plan would have taken a GPU from."""
    pdb_violations: int
    """Pods evicted although their owner did not allow it."""
    idle_stops: int
    """Forgotten VMs stopped by the pool's idle policy."""
    idle_held: float
    """GPUs that forgotten VMs held."""
    outages: int
    """Nodes that went away."""
    vms_cut: int
    """VMs that went with them; `vm_kills` are a planner's."""
    cut_gpu_hours: float
    """Work of pods that was lost with them."""
    light_within_60s: float
    """The same as `vm_within_60s` for desktops that run as containers; 1 where there are none."""


@dataclass(slots=True)
class Tally:
    """Counts events as they happen. GPU-seconds are clipped to the window."""

    demand: Demand
    gpus: int
    flip_seconds: float
    patience_seconds: float
    asked: dict[int, float] = field(default_factory=dict)
    bound: dict[int, float] = field(default_factory=dict)
    vm_seconds: float = 0.0
    pod_seconds: float = 0.0
    """Work that counts: finished, or still going on at the end."""
    lost_seconds: float = 0.0
    pod_began: dict[int, float] = field(default_factory=dict)
    pod_waits: dict[int, tuple[float, float]] = field(default_factory=dict)
    """pod → (asked at, waited so far)."""
    flips: int = 0
    evictions: int = 0
    evicted_seconds: float = 0.0
    rollbacks: int = 0
    failed_flips: int = 0
    moves: int = 0
    kills: int = 0
    stops: int = 0
    violations: int = 0
    idle_seconds: float = 0.0
    outages: int = 0
    cut: int = 0
    cut_seconds: float = 0.0
    end: float = 0.0
    _since: dict[int, float] = field(default_factory=dict)
    """VMs that run, and since when."""
    _used_until: Floats = field(init=False)

    def __post_init__(self) -> None:
        self._used_until = self.demand.vm_used_until

    def _clip(self, begin: float, end: float) -> float:
        return max(0.0, min(end, self.demand.horizon) - max(begin, 0.0))

    def vm_asked(self, vm: int, at: float) -> None:
        self.asked.setdefault(vm, at)

    def vm_bound(self, vm: int, at: float) -> None:
        """Waiting is counted the first time; time without a VM after an outage is session time not served."""
        self.bound.setdefault(vm, at)
        self._since[vm] = at

    def vm_ended(self, vm: int, at: float) -> None:
        begun = self._since.pop(vm, None)
        if begun is not None:
            used, gpus = float(self._used_until[vm]), int(self.demand.vm_gpus[vm])
            self.vm_seconds += self._clip(begun, min(at, used)) * gpus
            self.idle_seconds += self._clip(max(begun, used), at) * gpus

    def vm_stopped(self, at: float) -> None:
        self.stops += at >= 0

    def vm_killed(self, at: float) -> None:
        self.kills += at >= 0

    def node_away(self, at: float) -> None:
        self.outages += at >= 0

    def vm_cut(self, vm: int, at: float) -> None:
        self.cut += at >= 0
        self.vm_ended(vm, at)

    def pod_cut(self, pod: int, at: float, began: float) -> None:
        self.pod_began.pop(pod, None)
        lost = self._clip(began, at) * self._share(pod)
        self.cut_seconds += lost
        self.lost_seconds += lost

    def pod_asked(self, pod: int, at: float) -> None:
        self.pod_waits[pod] = (at, -1.0)

    def pod_started(self, pod: int, at: float) -> None:
        self.pod_began[pod] = at
        asked, waited = self.pod_waits[pod]
        if waited < 0:
            self.pod_waits[pod] = (asked, at - asked)

    def _share(self, pod: int) -> float:
        return float(self.demand.pod_milli[pod]) / 1_000

    def pod_ended(self, pod: int, at: float, *, unfinished: bool = False) -> None:
        self.pod_seconds += self._clip(self.pod_began.pop(pod), at) * self._share(pod)

    def pod_evicted(self, pod: int, at: float, began: float, *, allowed: bool) -> None:
        self.violations += not allowed
        self.pod_began.pop(pod, None)
        lost = self._clip(began, at) * self._share(pod)
        if at >= 0:
            self.evictions += 1
            self.evicted_seconds += lost
            self.lost_seconds += lost

    def move_begun(self, gpus: int, at: float) -> None:
        self.moves += gpus if at >= 0 else 0

    def flipped(self, at: float) -> None:
        self.flips += at >= 0

    def flip_failed(self, at: float) -> None:
        self.failed_flips += at >= 0

    def rolled_back(self, at: float) -> None:
        self.rollbacks += at >= 0

    def close(self, at: float) -> None:
        self.end = at

    def figures(self) -> Figures:
        horizon, demand = self.demand.horizon, self.demand
        total = self.gpus * horizon
        asked = [vm for vm, at in self.asked.items() if at >= 0]
        waits = np.array(
            [min(self.bound.get(vm, np.inf) - self.asked[vm], self.patience_seconds) for vm in asked] or [0.0]
        )
        asked_seconds = sum(
            self._clip(float(demand.vm_start[vm]), float(self._used_until[vm])) * int(demand.vm_gpus[vm])
            for vm in self.asked
        )
        pods = [(at, w if w >= 0 else self.end - at) for at, w in self.pod_waits.values() if at >= 0]
        pod_waits = np.array([w for _, w in pods] or [0.0])
        rows = [p for p, (at, _) in self.pod_waits.items() if at >= 0]
        asked_work = sum(float(demand.pod_seconds[p]) * self._share(p) for p in rows)
        waiting_work = sum(
            (w if w >= 0 else self.end - at) * self._share(p)
            for p, (at, w) in self.pod_waits.items()
            if at >= 0
        )
        return Figures(
            vm_served=self.vm_seconds / asked_seconds if asked_seconds else 1.0,
            vm_within_60s=float((waits <= WITHIN_SECONDS).mean()),
            vm_wait_p99_s=float(np.percentile(waits, 99)),
            vm_lost=sum(1 for vm in asked if vm not in self.bound and self._gave_up(vm)),
            goodput=(self.vm_seconds + self.pod_seconds) / total,
            allocation=(self.vm_seconds + self.idle_seconds + self.pod_seconds + self.lost_seconds) / total,
            flips_per_gpu_day=self.flips / self.gpus / (horizon / 86_400),
            flip_loss=self.flips * self.flip_seconds / total,
            evictions=self.evictions,
            evicted_gpu_hours=self.evicted_seconds / 3_600,
            pod_wait_mean_s=float(pod_waits.mean()),
            pod_wait_p90_s=float(np.percentile(pod_waits, 90)),
            weighted_wait=waiting_work / asked_work if asked_work else 0.0,
            rollbacks=self.rollbacks,
            failed_flips=self.failed_flips,
            vm_kills=self.kills,
            pdb_violations=self.violations,
            idle_stops=self.stops,
            idle_held=self.idle_seconds / total,
            outages=self.outages,
            vms_cut=self.cut,
            cut_gpu_hours=self.cut_seconds / 3_600,
            light_within_60s=self._light_within(rows),
        )

    def _light_within(self, rows: list[int]) -> float:
        urgent = self.demand.pod_urgent
        waits = [self.pod_waits[p][1] for p in rows if urgent is not None and urgent[p]]
        return sum(0 <= w <= WITHIN_SECONDS for w in waits) / len(waits) if waits else 1.0

    def _gave_up(self, vm: int) -> bool:
        return self.asked[vm] + self.patience_seconds <= self.end
