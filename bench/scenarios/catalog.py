"""The scenarios as seeded definitions over trace files. Each says what it takes from which trace and how."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bench.replay.demand import FleetPlan, busy_gpus, even_fleet
from bench.scenarios.headline import three_a_card
from bench.scenarios.traces import (
    DAY,
    WEEK,
    read_azure_vms,
    read_dlrm_instances,
    read_openb_nodes,
    read_pods,
    read_sessions,
    read_spot_nodes,
)
from bench.scenarios.workload import (
    BIN_SECONDS,
    Ask,
    Scenario,
    VmColumns,
    assemble,
    desktops_of,
    one_model,
    term_weeks,
)
from poolmgr.domain.errors import Rejected
from poolmgr.domain.fleet import IdleVmAction, IdleVmPolicy
from poolmgr.domain.reasons import Reason


def campus_day(ask: Ask) -> Scenario:
    """S2: 22 nodes of 8 GPUs, a desktop a GPU."""
    chance = np.random.default_rng(ask.seed)
    vms = desktops_of(ask, chance)
    what = f"week {vms.week} of the sessions"
    columns = one_model(vms.start, vms.end)
    return assemble(
        "S2", ask, even_fleet(22, 8), chance, columns, history=(vms.history,), what=what, period=vms.period
    )


def steady(ask: Ask) -> Scenario:
    """S1: 32 nodes of 8 GPUs; long-lived serving instances as VMs, thinned to 60 % of the load."""
    chance = np.random.default_rng(ask.seed)
    fleet = even_fleet(32, 8)
    start, end = read_dlrm_instances(ask.data)
    known = end[np.isfinite(end)]
    last = float(known.max()) if len(known) else 0.0
    lo = float(chance.random()) * max(0.0, last - ask.horizon)
    near = (start < lo + ask.horizon) & (end > lo)
    start, end = np.maximum(start[near] - lo, 0.0), np.minimum(end[near] - lo, ask.horizon + DAY)
    mean = busy_gpus(start, end, np.ones(len(start)), 0.0, ask.horizon)
    keep = chance.random(len(start)) < min(1.0, 0.6 * ask.load * fleet.total / max(mean, 1e-9))
    columns = one_model(start[keep], end[keep])
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
    keep = (chance.random(len(start)) < min(1.0, 0.45 * ask.load * fleet.total / max(mean, 1e-9))) & (
        start < horizon
    )
    columns = one_model(start[keep], end[keep])
    shorter = replace(ask, days=max(1, int(horizon // DAY)))
    return assemble("S3", shorter, fleet, chance, columns, what="batches of large VMs")


LEAST_NODES = 100
"""A shorter list of nodes is taken whole."""


def mixed_models(ask: Ask) -> Scenario:
    """S5: every twentieth node of openb (all of a list of less than a hundred); each desktop wants one model, in proportion to the GPUs there are."""
    chance = np.random.default_rng(ask.seed)
    known = [n for n in read_openb_nodes(ask.data) if n.gpus > 0]
    every = 20 if len(known) >= LEAST_NODES else 1
    nodes = known[ask.seed % every :: every]
    if not nodes:
        raise Rejected(Reason.INVALID_BODY, "openb's node list holds no node with a GPU; S5 needs some")
    models = tuple(sorted({n.model for n in nodes}))
    gpus = np.array([n.gpus for n in nodes], dtype=np.int64)
    model = np.array([models.index(n.model) for n in nodes], dtype=np.int64)
    fleet = FleetPlan(gpus, model, models, np.zeros(len(nodes), dtype=bool))
    share = np.bincount(model, weights=gpus, minlength=len(models)) / gpus.sum()
    vms = desktops_of(ask, chance)
    wanted = chance.choice(len(models), size=len(vms.start), p=share).astype(np.int64)
    history = tuple(tuple(int(x * part) for x in vms.history) for part in share)
    columns = replace(one_model(vms.start, vms.end), model=wanted)
    what = f"{len(models)} models on {fleet.total} GPUs, week {vms.week}"
    return assemble(
        "S5", ask, fleet, chance, columns, history=history, pods="gpuspec33", what=what, period=vms.period
    )


def nvswitch(ask: Ask) -> Scenario:
    """S6: 30 nodes whose 8 GPUs change mode together; VMs of 1, 2, 4 and 8 GPUs as in openb's multi-GPU list."""
    chance = np.random.default_rng(ask.seed)
    vms = desktops_of(ask, chance)
    shapes = read_pods(ask.data, "multigpu50").gpus
    shapes = shapes[np.isin(shapes, (1, 2, 4, 8))]
    if not len(shapes):
        raise Rejected(
            Reason.INVALID_BODY, "openb's multi-GPU list has no pod of 1, 2, 4 or 8 GPUs; S6 needs some"
        )
    gpus = chance.choice(shapes, size=len(vms.start)).astype(np.int64)
    each = float(gpus.mean()) if len(gpus) else 1.0
    keep = chance.random(len(gpus)) < min(1.0, 0.5 * ask.load * 240 / (120.0 * each))
    columns = one_model(vms.start[keep], vms.end[keep], gpus[keep])
    fleet = even_fleet(30, 8, nvswitch=True)
    return assemble(
        "S6", ask, fleet, chance, columns, what=f"VMs of several GPUs, week {vms.week}", period=vms.period
    )


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
    columns = one_model(vms.start, vms.end)
    what = f"week {vms.week} of the sessions, what the forecast knows is {how}"
    return assemble(
        "S8", ask, even_fleet(22, 8), chance, columns, history=(history,), what=what, period=vms.period
    )


IDLE_AFTER = 12 * 3_600.0
"""A session longer than that is a forgotten log-on; what its user did is taken from the shorter ones."""
IDLE_VM = IdleVmPolicy(IdleVmAction.STOP, idle_after_seconds=3_600, notice_seconds=900)


def idle_holders(ask: Ask) -> Scenario:
    """S4: 8 nodes of 8 GPUs; forgotten log-ons of so many weeks on top of each other that they want every GPU,
    and a full queue of containers. Nothing but the pool's policy for idle VMs can end it."""
    chance = np.random.default_rng(ask.seed)
    fleet = even_fleet(8, 8)
    sessions = read_sessions(ask.data)
    weeks = term_weeks(sessions, ask.split)
    forgotten = sessions.duration > IDLE_AFTER
    if not forgotten.any():
        raise Rejected(
            Reason.INVALID_BODY,
            "the session files hold no log-on of more than twelve hours; S4 is about forgotten ones and needs some",
        )
    start, end = sessions.start[forgotten], (sessions.start + sessions.duration)[forgotten]
    starts, ends, held, layers = [], [], 0.0, 0
    while held < 1.2 * fleet.total and layers < 200:
        lo = weeks[int(chance.integers(len(weeks)))] * WEEK
        near = (start < lo + ask.horizon) & (end > lo)
        starts.append(np.maximum(start[near] - lo, 0.0))
        ends.append(end[near] - lo)
        held += busy_gpus(starts[-1], ends[-1], np.ones(int(near.sum())), 0.0, ask.horizon)
        layers += 1
    vms = one_model(np.concatenate(starts), np.concatenate(ends))
    vms = replace(vms, idle_after=chance.choice(sessions.duration[~forgotten], len(vms.start)))
    what = f"forgotten log-ons of {layers} weeks, which would hold {held:.0f} GPUs"
    made = assemble("S4", ask, fleet, chance, vms, what=what)
    return replace(made, idle_vm=IDLE_VM)


NVSWITCH_MODELS = ("A100-SXM4-80GB", "A800-SXM4-80GB", "H800")
FLEET_HOURS = 2.0
FLEET_BEGIN = 9 * 3_600.0
"""S7 is about size: two hours of Monday morning, when demand rises most."""


def whole_fleet(ask: Ask) -> Scenario:
    """S7: the spot fleet's nodes (about 10,000 GPUs of seven kinds) under S2's demand as many times as it takes:
    VMs ask for 30 % of the GPUs; on models whose GPUs move together a VM takes all eight."""
    chance = np.random.default_rng(ask.seed)
    nodes = read_spot_nodes(ask.data)
    models = tuple(sorted({n.model for n in nodes}))
    gpus = np.array([n.gpus for n in nodes], dtype=np.int64)
    model = np.array([models.index(n.model) for n in nodes], dtype=np.int64)
    together = np.array([m in NVSWITCH_MODELS for m in models])
    fleet = FleetPlan(gpus, model, models, together[model])
    short = replace(ask, days=FLEET_HOURS / 24)
    share = np.bincount(model, weights=gpus, minlength=len(models)) / gpus.sum()
    size = np.where(together, 8, 1)
    sessions = read_sessions(ask.data)
    weeks, until = term_weeks(sessions, ask.split), sessions.start + sessions.duration
    parts: list[VmColumns] = []
    wanted = 0.3 * ask.load * fleet.total
    while wanted > 0:
        lo = weeks[int(chance.integers(len(weeks)))] * WEEK + FLEET_BEGIN
        near = (sessions.start < lo + short.horizon) & (until > lo)
        count = int(near.sum())
        kinds = chance.choice(len(models), size=count, p=(share / size) / (share / size).sum())
        start = np.maximum(sessions.start[near] - lo, 0.0)
        parts.append(replace(one_model(start, until[near] - lo, size[kinds]), model=kinds))
        there = busy_gpus(start, parts[-1].end, size[kinds].astype(np.float64), 0.0, short.horizon)
        wanted -= max(there, 1.0)
    what = f"{len(nodes)} nodes, {len(models)} models, {len(parts)} weeks of sessions on top of each other"
    return assemble("S7", short, fleet, chance, VmColumns.joined(parts), what=what)


SCENARIOS: dict[str, Callable[[Ask], Scenario]] = {
    "S1": steady,
    "S2": campus_day,
    "S3": burst,
    "S4": idle_holders,
    "S5": mixed_models,
    "S6": nvswitch,
    "S7": whole_fleet,
    "S8": false_forecast,
    "H": three_a_card,
}


def build(name: str, ask: Ask) -> Scenario:
    """The scenario of that name. Raises Rejected for an unknown name or missing files."""
    maker = SCENARIOS.get(name)
    if maker is None:
        raise Rejected(
            Reason.NOT_FOUND, f"there is no scenario {name!r}; the scenarios are {', '.join(SCENARIOS)}"
        )
    return maker(ask)
