"""The story behind the project as a scenario: one GPU for each desktop VM, in use a fifth of the time, and the same
cards afterwards with three desktops each.

Before: every desktop owns a card. After, on the same cards: three times the desktops. Of them `WHOLE_SHARE` need a
whole card and are VMs, bound only while somebody sits there; the others take a quarter of a card as containers;
batch containers take what is left. The weeks of sessions that stand for the additional desktops are laid over each
other hour by hour of the week, so their peaks coincide: the unfavourable choice.
"""

from datetime import timedelta

import numpy as np

from bench.replay.demand import Ints, busy_gpus, even_fleet, presence
from bench.scenarios.traces import WEEK, read_sessions
from bench.scenarios.workload import (
    BIN_SECONDS,
    HISTORY_WEEKS,
    Ask,
    Scenario,
    VmColumns,
    assemble,
    one_model,
    term_weeks,
    week_of,
)

NODES, PER_NODE = 22, 8
DESKTOPS_PER_CARD = 3
WHOLE_SHARE = 0.3
"""Desktops that need a whole card. An assumption: no public trace tells; the result depends on it."""
TRACE_DESKTOPS = 271
"""Desktops behind the session trace (269 to 273 in use over two terms)."""


def three_a_card(ask: Ask) -> Scenario:
    """H: 176 GPUs, 528 desktops."""
    chance = np.random.default_rng(ask.seed)
    fleet = even_fleet(NODES, PER_NODE)
    sessions = read_sessions(ask.data)
    until = sessions.start + sessions.duration
    first = week_of(ask, sessions, chance)
    weeks = term_weeks(sessions, ask.split)
    wanted = DESKTOPS_PER_CARD * fleet.total / TRACE_DESKTOPS
    vms: list[VmColumns] = []
    light: list[tuple[float, float]] = []
    history = np.zeros(int(HISTORY_WEEKS * WEEK / BIN_SECONDS), dtype=np.int64)
    logged_on = 0.0
    for layer in range(int(np.ceil(wanted))):
        week = first if layer == 0 else weeks[int(chance.integers(len(weeks)))]
        part = min(1.0, wanted - layer)
        lo = week * WEEK
        near = (sessions.start < lo + ask.horizon) & (until > lo) & (chance.random(len(until)) < part)
        start, end = np.maximum(sessions.start[near] - lo, 0.0), np.minimum(until[near] - lo, ask.horizon)
        logged_on += busy_gpus(start, end, np.ones(len(start)), 0.0, ask.horizon)
        whole = chance.random(len(start)) < WHOLE_SHARE
        vms.append(one_model(start[whole], end[whole]))
        light += zip(start[~whole].tolist(), (end - start)[~whole].tolist(), strict=True)
        history += _remembered(sessions.start, until, lo, part * WHOLE_SHARE)
    starts, seconds = (np.array([pair[n] for pair in light]) for n in (0, 1))
    desktops = DESKTOPS_PER_CARD * fleet.total
    what = f"{desktops} desktops on {fleet.total} cards, {WHOLE_SHARE:.0%} of them whole-card VMs, weeks from {first}"
    made = assemble(
        "H",
        ask,
        fleet,
        chance,
        VmColumns.joined(vms),
        history=(tuple(int(x) for x in history),),
        what=what,
        period=f"{sessions.monday + timedelta(weeks=first)}",
        light=(starts, seconds),
    )
    made.facts["desktops_per_card"] = float(DESKTOPS_PER_CARD)
    made.facts["card_per_desktop_utilisation"] = logged_on / desktops
    return made


def _remembered(start: np.ndarray, end: np.ndarray, lo: float, share: float) -> Ints:
    """What a manager would have seen of these desktops' VMs in the weeks before; nothing before the files begin."""
    everyone = np.ones(len(start), dtype=np.int64)
    levels = presence(start, end, everyone, lo - HISTORY_WEEKS * WEEK, lo, BIN_SECONDS)
    return np.round(levels * share).astype(np.int64)
