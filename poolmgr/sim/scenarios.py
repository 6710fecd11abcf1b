"""S1 to S8 as seeded definitions over trace files. Each says what it takes from which trace and how."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason
from poolmgr.sim.demand import Demand, FleetPlan, busy_gpus, even_fleet, presence
from poolmgr.sim.traces import DAY, WEEK, PodTable, Sessions, read_pods, read_sessions

LONGEST_POD = 2 * DAY
"""Pods that the trace shows running longer than this (0.7 % of them, many for months) are cut off there: in a
replay of a week they are no jobs but a constant, and they would only make the cluster smaller for everybody."""
POD_DAYS = 21
"""The trace's busy last weeks with times."""
HISTORY_WEEKS = 4
BIN_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    load: float
    seed: int
    fleet: FleetPlan
    demand: Demand
    note: str


def term_weeks(sessions: Sessions, split: str) -> list[int]:
    """Whole weeks with at least half the sessions of a busy week; the first half of the file's weeks is
    `develop`, the second `held-out`."""
    week = (sessions.start // WEEK).astype(int)
    counts = np.bincount(week)[: int(sessions.span // WEEK)]
    if len(counts) == 0:
        raise Rejected(Reason.NOT_FOUND, "the session files hold less than one week; give more with --data")
    busy = [int(w) for w in np.flatnonzero(counts >= 0.5 * np.percentile(counts, 90))]
    middle = len(counts) // 2
    if split == "develop":
        busy = [w for w in busy if w < middle] or busy
    elif split == "held-out":
        busy = [w for w in busy if w >= middle] or busy
    return busy


def superpose(
    pods: PodTable, wanted_gpus: float, horizon: float, chance: np.random.Generator
) -> tuple[PodTable, float]:
    """Copies of the pods' busy days, shifted by whole days and wrapped, until they offer `wanted_gpus`.

    A few copies too many are laid and thinned by chance so that the work that arrives in [0, horizon) meets the
    load. Pods that would be running at 0 begin there with what they have left. Returns the pods with starts in
    [0, horizon) and the number of copies that they amount to.
    """
    known = pods.pick((pods.gpus == 1) & np.isfinite(pods.start) & (pods.duration > 0))
    last = np.floor(known.start.max() / DAY)
    known = known.pick((known.start >= (last - POD_DAYS) * DAY) & (known.start < last * DAY))
    origin = (last - POD_DAYS) * DAY
    seconds = np.minimum(known.duration, LONGEST_POD)
    per_copy = float((seconds * known.milli / 1_000).sum() / (POD_DAYS * DAY))
    rows, starts = [], []
    for _ in range(int(np.ceil(1.3 * wanted_gpus / per_copy)) + 1):
        shift = float(chance.integers(POD_DAYS)) * DAY
        at = (known.start - origin + shift) % (POD_DAYS * DAY) - LONGEST_POD
        keep = (at < horizon) & (at + seconds > 0)
        rows.append(np.flatnonzero(keep))
        starts.append(at[keep])
    row, start = np.concatenate(rows), np.concatenate(starts)
    work = seconds[row] * known.milli[row] / 1_000
    offered = float(work[start >= 0].sum() / horizon)
    kept = min(1.0, wanted_gpus / offered) if offered else 0.0
    keep = chance.random(len(row)) < kept
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
    return table, kept * len(rows)


def campus_day(data: Path, load: float, seed: int, split: str, days: int) -> Scenario:
    """S2: 22 nodes of 8 GPUs; desktops of one week of a library's term, one GPU each, never killed; one-GPU
    pods of openb superposed to the load."""
    chance = np.random.default_rng(seed)
    fleet = even_fleet(22, 8)
    sessions = read_sessions(data)
    weeks = term_weeks(sessions, split)
    week = weeks[int(chance.integers(len(weeks)))]
    horizon = days * DAY
    lo = week * WEEK
    near = (sessions.start < lo + horizon) & (sessions.start + sessions.duration > lo)
    start = np.maximum(sessions.start[near] - lo, 0.0)
    end = sessions.start[near] + sessions.duration[near] - lo
    ones = np.ones(len(start), dtype=np.int64)
    vm_mean = busy_gpus(start, end, ones.astype(np.float64), 0.0, horizon)
    pods, copies = superpose(read_pods(data), max(0.0, load * fleet.total - vm_mean), horizon, chance)
    pod_mean = float((pods.duration * pods.milli / 1_000)[pods.start > 0].sum() / horizon)
    before = max(0.0, lo - HISTORY_WEEKS * WEEK)
    history: tuple[int, ...] = ()
    if lo - before >= DAY:
        everyone = np.ones(len(sessions.start), dtype=np.int64)
        wanted = presence(
            sessions.start, sessions.start + sessions.duration, everyone, before, lo, BIN_SECONDS
        )
        history = tuple(int(x) for x in wanted)
    zeros = np.zeros(len(start), dtype=np.int64)
    demand = Demand(
        horizon=horizon,
        vm_start=start,
        vm_end=end,
        vm_gpus=ones,
        vm_model=zeros,
        pod_start=pods.start,
        pod_seconds=pods.duration,
        pod_milli=pods.milli,
        pod_best_effort=pods.best_effort,
        pod_models=np.ones(len(pods), dtype=np.int64),
        vm_idle_after=np.full(len(start), np.inf),
        weekly_history=(history,),
        facts={
            "week": float(week),
            "copies": copies,
            "offered": (vm_mean + pod_mean) / fleet.total,
            "vm_mean": vm_mean,
        },
    )
    note = f"week {week} of the sessions, {copies:.1f} copies of openb, offered {demand.facts['offered']:.2f}"
    return Scenario("S2", load, seed, fleet, demand, note)


SCENARIOS = {"S2": campus_day}
LIMIT = "the scenarios are {}; see docs/explanation/planning.md"


def build(name: str, data: Path, load: float, seed: int, split: str, days: int) -> Scenario:
    """The scenario of that name. Raises Rejected for an unknown name or missing files."""
    maker = SCENARIOS.get(name)
    if maker is None:
        raise Rejected(
            Reason.NOT_FOUND, f"there is no scenario {name!r}; {LIMIT.format(', '.join(SCENARIOS))}"
        )
    return maker(data, load, seed, split, days)
