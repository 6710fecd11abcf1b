"""The scenarios as seeded definitions over trace files. Each says what it takes from which trace and how."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason
from poolmgr.sim.demand import Demand, FleetPlan, Floats, Ints, busy_gpus, even_fleet, presence
from poolmgr.sim.traces import (
    DAY,
    WEEK,
    PodTable,
    Sessions,
    read_azure_vms,
    read_dlrm_instances,
    read_openb_nodes,
    read_pods,
    read_sessions,
)

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


@dataclass(frozen=True, slots=True)
class Ask:
    """What a scenario is asked to be."""

    data: Path
    load: float
    seed: int
    split: str
    days: int

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


def desktops_of(ask: Ask, chance: np.random.Generator) -> Desktops:
    """One week of a library's term, drawn by the seed from the split; sessions under way at 0 begin there."""
    sessions = read_sessions(ask.data)
    weeks = term_weeks(sessions, ask.split)
    week = weeks[int(chance.integers(len(weeks)))]
    lo = week * WEEK
    until = sessions.start + sessions.duration
    near = (sessions.start < lo + ask.horizon) & (until > lo)
    before = max(0.0, lo - HISTORY_WEEKS * WEEK)
    history: tuple[int, ...] = ()
    if lo - before >= DAY:
        everyone = np.ones(len(sessions.start), dtype=np.int64)
        levels = presence(sessions.start, until, everyone, before, lo, BIN_SECONDS)
        history = tuple(int(x) for x in levels)
    return Desktops(np.maximum(sessions.start[near] - lo, 0.0), until[near] - lo, history, week)


def assemble(
    name: str,
    ask: Ask,
    fleet: FleetPlan,
    chance: np.random.Generator,
    vms: tuple[Floats, Floats, Ints, Ints],
    *,
    history: tuple[tuple[int, ...], ...] = (),
    pods: str = "default",
    what: str,
) -> Scenario:
    """`vms` are (start, end, GPUs, model); one-GPU pods of openb are laid on top until the load is met."""
    start, end, gpus, model = vms
    order = np.argsort(start, kind="stable")
    start, end, gpus, model = start[order], end[order], gpus[order], model[order]
    vm_mean = busy_gpus(start, end, gpus.astype(np.float64), 0.0, ask.horizon)
    wanted = max(0.0, ask.load * fleet.total - vm_mean)
    table, copies = superpose(read_pods(ask.data, pods), wanted, ask.horizon, chance)
    pod_mean = float((table.duration * table.milli / 1_000)[table.start > 0].sum() / ask.horizon)
    offered = (vm_mean + pod_mean) / fleet.total
    demand = Demand(
        horizon=ask.horizon,
        vm_start=start,
        vm_end=end,
        vm_gpus=gpus,
        vm_model=model,
        pod_start=table.start,
        pod_seconds=table.duration,
        pod_milli=table.milli,
        pod_best_effort=table.best_effort,
        pod_models=np.array([_mask(text, fleet.models) for text in table.models], dtype=np.int64),
        vm_idle_after=np.full(len(start), np.inf),
        weekly_history=history,
        facts={"copies": copies, "offered": offered, "vm_mean": vm_mean},
    )
    note = f"{what}, {copies:.1f} copies of openb, offered {offered:.2f}"
    return Scenario(name, ask.load, ask.seed, fleet, demand, note)


def _mask(spec: str, models: tuple[str, ...]) -> int:
    """Acceptable models as bits; all of them where none is named or none of the named is there."""
    wanted = [n for n, model in enumerate(models) if model in spec.split("|")]
    return sum(1 << n for n in wanted) if wanted else (1 << len(models)) - 1


def _ones(vms: Desktops) -> Ints:
    return np.ones(len(vms.start), dtype=np.int64)


def _first_model(vms: Desktops) -> Ints:
    return np.zeros(len(vms.start), dtype=np.int64)


def campus_day(ask: Ask) -> Scenario:
    """S2: 22 nodes of 8 GPUs, a desktop a GPU."""
    chance = np.random.default_rng(ask.seed)
    vms = desktops_of(ask, chance)
    what = f"week {vms.week} of the sessions"
    columns = (vms.start, vms.end, _ones(vms), _first_model(vms))
    return assemble("S2", ask, even_fleet(22, 8), chance, columns, history=(vms.history,), what=what)


def steady(ask: Ask) -> Scenario:
    """S1: 32 nodes of 8 GPUs; long-lived serving instances as VMs, thinned to 60 % of the load."""
    chance = np.random.default_rng(ask.seed)
    fleet = even_fleet(32, 8)
    start, end = read_dlrm_instances(ask.data)
    last = float(end[np.isfinite(end)].max())
    lo = float(chance.random()) * max(0.0, last - ask.horizon)
    near = (start < lo + ask.horizon) & (end > lo)
    start, end = np.maximum(start[near] - lo, 0.0), np.minimum(end[near] - lo, ask.horizon + DAY)
    mean = busy_gpus(start, end, np.ones(len(start)), 0.0, ask.horizon)
    keep = chance.random(len(start)) < min(1.0, 0.6 * ask.load * fleet.total / mean)
    count = int(keep.sum())
    columns = (start[keep], end[keep], np.ones(count, dtype=np.int64), np.zeros(count, dtype=np.int64))
    return assemble("S1", ask, fleet, chance, columns, what=f"instances from day {lo / DAY:.1f}")


def burst(ask: Ask) -> Scenario:
    """S3: 32 nodes of 8 GPUs; VMs of at least eight cores in the tenants' own batches, thinned batch by batch
    is not possible without breaking them, so whole VMs are thinned to 45 % of the load. No history."""
    chance = np.random.default_rng(ask.seed)
    fleet = even_fleet(32, 8)
    start, seconds = read_azure_vms(ask.data)
    horizon = min(ask.horizon, float(start.max()))
    end = start + np.maximum(seconds, 300.0)
    mean = busy_gpus(start, end, np.ones(len(start)), 0.0, horizon)
    keep = (chance.random(len(start)) < min(1.0, 0.45 * ask.load * fleet.total / mean)) & (start < horizon)
    count = int(keep.sum())
    columns = (start[keep], end[keep], np.ones(count, dtype=np.int64), np.zeros(count, dtype=np.int64))
    shorter = replace(ask, days=max(1, int(horizon // DAY)))
    return assemble("S3", shorter, fleet, chance, columns, what="batches of large VMs")


def mixed_models(ask: Ask) -> Scenario:
    """S5: every twentieth node of openb; each desktop wants one model, in proportion to the GPUs there are."""
    chance = np.random.default_rng(ask.seed)
    nodes = [n for n in read_openb_nodes(ask.data) if n.gpus > 0][ask.seed % 20 :: 20]
    models = tuple(sorted({n.model for n in nodes}))
    gpus = np.array([n.gpus for n in nodes], dtype=np.int64)
    model = np.array([models.index(n.model) for n in nodes], dtype=np.int64)
    fleet = FleetPlan(gpus, model, models, np.zeros(len(nodes), dtype=bool))
    share = np.bincount(model, weights=gpus, minlength=len(models)) / gpus.sum()
    vms = desktops_of(ask, chance)
    wanted = chance.choice(len(models), size=len(vms.start), p=share).astype(np.int64)
    history = tuple(tuple(int(x * part) for x in vms.history) for part in share)
    columns = (vms.start, vms.end, _ones(vms), wanted)
    what = f"{len(models)} models on {fleet.total} GPUs, week {vms.week}"
    return assemble("S5", ask, fleet, chance, columns, history=history, pods="gpuspec33", what=what)


def nvswitch(ask: Ask) -> Scenario:
    """S6: 30 nodes whose 8 GPUs change mode together; VMs of 1, 2, 4 and 8 GPUs as in openb's multi-GPU list."""
    chance = np.random.default_rng(ask.seed)
    vms = desktops_of(ask, chance)
    shapes = read_pods(ask.data, "multigpu50").gpus
    shapes = shapes[np.isin(shapes, (1, 2, 4, 8))]
    gpus = chance.choice(shapes, size=len(vms.start)).astype(np.int64)
    keep = chance.random(len(gpus)) < min(1.0, 0.5 * ask.load * 240 / (120.0 * float(gpus.mean())))
    columns = (vms.start[keep], vms.end[keep], gpus[keep], np.zeros(int(keep.sum()), dtype=np.int64))
    fleet = even_fleet(30, 8, nvswitch=True)
    return assemble("S6", ask, fleet, chance, columns, what=f"VMs of several GPUs, week {vms.week}")


WRONG = ("shifted by six hours", "three times too high", "absent", "a third of what comes")


def false_forecast(ask: Ask) -> Scenario:
    """S8: S2 whose remembered weeks are wrong; the seed says how."""
    chance = np.random.default_rng(ask.seed)
    vms = desktops_of(ask, chance)
    how = WRONG[ask.seed % len(WRONG)]
    six_hours = int(6 * 3_600 / BIN_SECONDS)
    history = {
        WRONG[0]: vms.history[six_hours:] + vms.history[:six_hours],
        WRONG[1]: tuple(3 * x for x in vms.history),
        WRONG[2]: (),
        WRONG[3]: tuple(x // 3 for x in vms.history),
    }[how]
    columns = (vms.start, vms.end, _ones(vms), _first_model(vms))
    what = f"week {vms.week} of the sessions, what the forecast knows is {how}"
    return assemble("S8", ask, even_fleet(22, 8), chance, columns, history=(history,), what=what)


SCENARIOS: dict[str, Callable[[Ask], Scenario]] = {
    "S1": steady,
    "S2": campus_day,
    "S3": burst,
    "S5": mixed_models,
    "S6": nvswitch,
    "S8": false_forecast,
}


def build(name: str, ask: Ask) -> Scenario:
    """The scenario of that name. Raises Rejected for an unknown name or missing files."""
    maker = SCENARIOS.get(name)
    if maker is None:
        raise Rejected(
            Reason.NOT_FOUND, f"there is no scenario {name!r}; the scenarios are {', '.join(SCENARIOS)}"
        )
    return maker(ask)
