"""The last decisions in sentences: moves begun, moves ended, and workloads told to wait. Pure."""

from collections.abc import Iterable

from poolmgr.api.ui.view import Line, line
from poolmgr.api.ui.wording import duration, plural
from poolmgr.domain.history import PastDecision, PastTransition
from poolmgr.domain.plan import Plan, Subject, SubjectKind
from poolmgr.domain.reasons import Reason

QUIET = frozenset({Reason.SERVED, Reason.FREE_CAPACITY, Reason.MOVE_UNDER_WAY})
"""Answers that say that all goes well; they would drown the others."""

WORKLOADS = {SubjectKind.VM: "VM", SubjectKind.POD: "pod"}


LIMIT = 10
"""Lines."""
FOR_WAITS = 4
"""Of them at least for who waits, however many moves there were."""


def from_ledger(
    decisions: Iterable[PastDecision], transitions: Iterable[PastTransition], limit: int = LIMIT
) -> tuple[Line, ...]:
    """Newest first. Of a workload that is told to wait again for the same reason, only the first time; workloads that are told
    the same are one line. Moves come before them: who waits fills what room they leave, and `FOR_WAITS` lines."""
    first: dict[tuple[Subject, Reason], PastDecision] = {}
    moves: list[Line] = []
    for decision in sorted(decisions, key=lambda found: found.at):
        if decision.moved:
            moves.append(line(decision.at, decision.reason.value, decision.message, "move"))
        else:
            first.setdefault((decision.subject, decision.reason), decision)
    for move in transitions:
        if move.ended_at is not None and move.steps:
            last = move.steps[-1]
            kind = "undone" if move.rolled_back else "done"
            took = duration(move.ended_at - move.started_at)
            moves.append(line(move.ended_at, last.reason, f"{last.message}, after {took}", kind))
    said: dict[str, Line] = {}
    for entry in sorted(moves, key=_age):
        said.setdefault(entry.text, entry)
    done = sorted(said.values(), key=_age, reverse=True)
    waits = _together((d.at, d.subject, d.reason, d.message) for d in first.values())
    shown = done[: limit - min(FOR_WAITS, len(waits))]
    return tuple(sorted([*shown, *waits[: limit - len(shown)]], key=_age, reverse=True))


def _age(entry: Line) -> float:
    return entry.at


def _together(waits: Iterable[tuple[float, Subject, Reason, str]]) -> list[Line]:
    """A line for all workloads of one kind that are told the same, as old as the newest of them; newest first."""
    groups: dict[tuple[SubjectKind, Reason, str], list[tuple[float, Subject]]] = {}
    for at, subject, reason, message in waits:
        groups.setdefault((subject.kind, reason, message), []).append((at, subject))
    lines = []
    for (kind, reason, message), members in groups.items():
        at, newest = max(members)
        more = f" and {plural(len(members) - 1, f'more {WORKLOADS[kind]}')}" if len(members) > 1 else ""
        who = f"{WORKLOADS[kind]} {newest.namespace}/{newest.name}{more}"
        lines.append(line(at, reason.value, f"{who}: {message}", "refused"))
    return sorted(lines, key=_age, reverse=True)


def from_plan(plan: Plan | None) -> tuple[Line, ...]:
    """Without a ledger: only the newest decision."""
    if plan is None:
        return ()
    moves = [line(plan.made_at, m.reason.value, m.message, "move") for m in plan.to_start]
    waits = _together(
        (plan.made_at, r.subject, r.reason, r.message)
        for r in plan.refusals
        if r.subject.kind in WORKLOADS and r.reason not in QUIET
    )
    return tuple(moves + waits)
