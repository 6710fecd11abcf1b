"""What scenarios are made of: weeks of desktop sessions, and copies of openb's pods laid over each other."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np

from bench.replay.demand import Bools, Demand, FleetPlan, Floats, Ints, busy_gpus, presence
from bench.scenarios.traces import DAY, WEEK, PodTable, Sessions, read_pods, read_sessions
from poolmgr.domain.errors import Rejected
from poolmgr.domain.fleet import IdleVmPolicy
from poolmgr.domain.reasons import Reason

LONGEST_POD = 2 * DAY
"""Pods that the trace shows running longer than this (0.7 % of them, many for months) are cut off there: in a
replay of a week they are no jobs but a constant, and they would only make the cluster smaller for everybody."""
POD_DAYS = 21
"""The trace's busy last weeks with times."""
HISTORY_WEEKS = 4
BIN_SECONDS = 300.0


LIGHT_MILLI = 250
"""A desktop that needs no whole card takes a quarter: the first decile of openb's fractions is 258 thousandths."""


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    load: float
    seed: int
    fleet: FleetPlan
    demand: Demand
    note: str
    period: str = ""
    """First day of the week that its sessions are from; empty where there are none."""
    idle_vm: IdleVmPolicy = IdleVmPolicy()
    """What the pool's policy says of forgotten desktops."""
    facts: dict[str, float] = field(default_factory=dict)
    """Figures that belong to the scenario and not to a policy."""


@dataclass(frozen=True, slots=True)
class VmColumns:
    """VMs of a scenario; seconds."""

    start: Floats
    end: Floats
    gpus: Ints
    model: Ints
    idle_after: Floats
    """Seconds after `start` from which nobody sits at it, inf where somebody does to its end."""

    def sorted(self) -> "VmColumns":
        return self.pick(np.argsort(self.start, kind="stable"))

    def pick(self, rows: Ints | Bools) -> "VmColumns":
        return VmColumns(
            self.start[rows], self.end[rows], self.gpus[rows], self.model[rows], self.idle_after[rows]
        )

    @staticmethod
    def joined(parts: "list[VmColumns]") -> "VmColumns":
        return VmColumns(
            np.concatenate([p.start for p in parts]),
            np.concatenate([p.end for p in parts]),
            np.concatenate([p.gpus for p in parts]),
            np.concatenate([p.model for p in parts]),
            np.concatenate([p.idle_after for p in parts]),
        )


def one_model(start: Floats, end: Floats, gpus: Ints | None = None) -> VmColumns:
    """VMs of the first model, of one GPU unless said otherwise, used to their end."""
    count = len(start)
    wanted = np.ones(count, dtype=np.int64) if gpus is None else gpus
    return VmColumns(start, end, wanted, np.zeros(count, dtype=np.int64), np.full(count, np.inf))


def term_weeks(sessions: Sessions, split: str) -> list[int]:
    """Whole weeks with at least half the sessions of a busy week; the first half of the file's weeks is
    `develop`, the second `held-out`."""
    week = (sessions.start // WEEK).astype(int)
    counts = np.bincount(week)[: int(sessions.span // WEEK)]
    if not counts.any():
        raise Rejected(
            Reason.NOT_FOUND,
            "the session files hold less than one whole week from Monday to Sunday; give more with --data",
        )
    busiest = float(np.percentile(counts, 90)) or float(np.percentile(counts[counts > 0], 90))
    busy = [int(w) for w in np.flatnonzero(counts >= max(0.5 * busiest, 1.0))]
    # The week in which the files begin lacks its first days, where there are others.
    begun = float(sessions.start[0]) // DAY * DAY
    busy = [w for w in busy if w * WEEK >= begun] or busy
    middle = len(counts) // 2
    if split == "develop":
        busy = [w for w in busy if w < middle] or busy
    elif split == "held-out":
        busy = [w for w in busy if w >= middle] or busy
    return busy


def superpose(
    pods: PodTable, wanted_gpus: float, horizon: float, chance: np.random.Generator, *, strict: bool = False
) -> tuple[PodTable, float]:
    """Copies of the pods' busy days, shifted by whole days and wrapped, until they offer `wanted_gpus`.

    A few copies too many are laid and thinned by chance so that the work that arrives in [0, horizon) meets the
    load. Pods that would be running at 0 begin there with what they have left. Returns the pods with starts in
    [0, horizon) and the number of copies that they amount to.
    """
    shaped = pods.gpus >= 1 if strict else pods.gpus == 1
    known = pods.pick(shaped & np.isfinite(pods.start) & (pods.duration > 0))
    if not len(known):
        raise Rejected(
            Reason.INVALID_BODY,
            "the pod list of openb has no GPU pod with times; a replay needs some that have",
        )
    last = np.ceil((known.start.max() + 1.0) / DAY)
    # The last day is a part of one where the trace ends in it: leave it out where there are others.
    last -= 1 if known.start.min() < (last - 1) * DAY else 0
    known = known.pick((known.start >= (last - POD_DAYS) * DAY) & (known.start < last * DAY))
    origin = (last - POD_DAYS) * DAY
    seconds = np.minimum(known.duration, LONGEST_POD)
    per_copy = float((seconds * known.gpus * known.milli / 1_000).sum() / (POD_DAYS * DAY))
    rows, starts = [], []
    for _ in range(int(np.ceil(1.3 * wanted_gpus / per_copy)) + 1):
        shift = float(chance.integers(POD_DAYS)) * DAY
        at = (known.start - origin + shift) % (POD_DAYS * DAY) - LONGEST_POD
        keep = (at < horizon) & (at + seconds > 0)
        rows.append(np.flatnonzero(keep))
        starts.append(at[keep])
    row, start = np.concatenate(rows), np.concatenate(starts)
    work = seconds[row] * known.gpus[row] * known.milli[row] / 1_000
    offered = float(work[start >= 0].sum() / horizon)
    share = min(1.0, wanted_gpus / offered) if offered else 0.0
    keep = chance.random(len(row)) < share
    row, start = row[keep], start[keep]
    order = np.argsort(start, kind="stable")
    row, start = row[order], start[order]
    left = np.minimum(seconds[row] + start, seconds[row])
    table = PodTable(
        np.maximum(start, 0.0),
        left,
        known.gpus[row],
        known.milli[row],
        known.best_effort[row],
        known.cpu_milli[row],
        known.memory_mib[row],
        tuple(known.models[r] for r in row),
    )
    return table, share * len(rows)


RULES = ("desktop", "strict")
"""R1: which shapes of openb are VMs. `desktop`: none; VMs come from another trace, and openb's one-GPU pods are
containers. `strict`: pods of several GPUs and latency-sensitive ones of a whole GPU are VMs, the rest containers."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a scenario is asked to be."""

    data: Path
    load: float
    seed: int
    split: str
    days: float
    week: int | None = None
    """This week of the session files instead of one that the seed draws from the split."""
    rule: str = "desktop"

    @property
    def horizon(self) -> float:
        return self.days * DAY


@dataclass(frozen=True, slots=True)
class Desktops:
    """VM sessions in the window, and what was wanted in the weeks before."""

    start: Floats
    end: Floats
    history: tuple[int, ...]
    week: int
    period: str
    """Its first day."""


def week_of(ask: Ask, sessions: Sessions, chance: np.random.Generator) -> int:
    """The week asked for, or one drawn from the split."""
    weeks = term_weeks(sessions, ask.split)
    if ask.week is None:
        return weeks[int(chance.integers(len(weeks)))]
    last = int(sessions.span // WEEK)
    if not 0 <= ask.week <= last:
        raise Rejected(
            Reason.NOT_FOUND, f"week {ask.week} is not in the session files; they hold 0 to {last}"
        )
    return ask.week


def desktops_of(ask: Ask, chance: np.random.Generator) -> Desktops:
    """One week of a library's term, drawn by the seed from the split; sessions under way at 0 begin there."""
    sessions = read_sessions(ask.data)
    week = week_of(ask, sessions, chance)
    lo = week * WEEK
    until = sessions.start + sessions.duration
    near = (sessions.start < lo + ask.horizon) & (until > lo)
    before = max(0.0, lo - HISTORY_WEEKS * WEEK)
    history: tuple[int, ...] = ()
    if lo - before >= DAY:
        everyone = np.ones(len(sessions.start), dtype=np.int64)
        levels = presence(sessions.start, until, everyone, before, lo, BIN_SECONDS)
        history = tuple(int(x) for x in levels)
    start, end = np.maximum(sessions.start[near] - lo, 0.0), until[near] - lo
    return Desktops(start, end, history, week, f"{sessions.monday + timedelta(weeks=week)}")


def assemble(
    name: str,
    ask: Ask,
    fleet: FleetPlan,
    chance: np.random.Generator,
    vms: VmColumns,
    *,
    history: tuple[tuple[int, ...], ...] = (),
    pods: str = "default",
    what: str,
    period: str = "",
    light: tuple[Floats, Floats] | None = None,
) -> Scenario:
    """One-GPU pods of openb are laid on top of the VMs until the load is met; so are `light` desktops (start,
    seconds): pods of `LIGHT_MILLI` that go first in HAMi's queue and are never evicted."""
    vms = vms.sorted()
    used = np.minimum(vms.end, vms.start + vms.idle_after)
    vm_mean = busy_gpus(vms.start, used, vms.gpus.astype(np.float64), 0.0, ask.horizon)
    urgent = light or (np.zeros(0), np.zeros(0))
    light_mean = float((urgent[1] * LIGHT_MILLI / 1_000).sum() / ask.horizon)
    wanted = max(0.0, ask.load * fleet.total - vm_mean - light_mean)
    if ask.rule == "strict":
        wanted = ask.load * fleet.total
    table, copies = superpose(
        read_pods(ask.data, pods), wanted, ask.horizon, chance, strict=ask.rule == "strict"
    )
    if ask.rule == "strict":
        vms, table = split_strictly(table)
        vm_mean = busy_gpus(vms.start, vms.end, vms.gpus.astype(np.float64), 0.0, ask.horizon)
        history, what = (), "openb alone: VMs of several GPUs and latency-sensitive whole GPUs"
    late = table.start > 0
    pod_mean = light_mean + float((table.duration * table.milli / 1_000)[late].sum() / ask.horizon)
    offered = (vm_mean + pod_mean) / fleet.total
    extra = len(urgent[0])
    start = np.concatenate([table.start, urgent[0]])
    order = np.argsort(start, kind="stable")
    masks = [_mask(text, fleet.models) for text in table.models] + [(1 << len(fleet.models)) - 1] * extra
    demand = Demand(
        horizon=ask.horizon,
        vm_start=vms.start,
        vm_end=vms.end,
        vm_gpus=vms.gpus,
        vm_model=vms.model,
        pod_start=start[order],
        pod_seconds=np.concatenate([table.duration, urgent[1]])[order],
        pod_milli=np.concatenate([table.milli, np.full(extra, LIGHT_MILLI)])[order],
        pod_best_effort=np.concatenate([table.best_effort, np.zeros(extra, dtype=np.bool_)])[order],
        pod_models=np.array(masks, dtype=np.int64)[order],
        vm_idle_after=vms.idle_after,
        weekly_history=history,
        facts={"copies": copies, "offered": offered, "vm_mean": vm_mean},
        pod_urgent=np.concatenate([np.zeros(len(table), dtype=np.bool_), np.ones(extra, dtype=np.bool_)])[
            order
        ],
    )
    note = f"{what}, {copies:.1f} copies of openb, offered {offered:.2f}"
    return Scenario(name, ask.load, ask.seed, fleet, demand, note, period)


def split_strictly(table: PodTable) -> tuple[VmColumns, PodTable]:
    """R1 strict: VMs and containers of one superposition."""
    whole = (table.gpus == 1) & (table.milli == 1_000) & ~table.best_effort
    is_vm = (table.gpus > 1) | whole
    vms = table.pick(is_vm)
    return one_model(vms.start, vms.start + vms.duration, vms.gpus), table.pick(~is_vm)


def _mask(spec: str, models: tuple[str, ...]) -> int:
    """Acceptable models as bits; all of them where none is named or none of the named is there."""
    wanted = [n for n, model in enumerate(models) if model in spec.split("|")]
    return sum(1 << n for n in wanted) if wanted else (1 << len(models)) - 1
