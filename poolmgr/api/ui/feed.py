"""The last decisions in sentences: moves begun, moves ended, and workloads told to wait. Pure."""

from collections.abc import Iterable

from poolmgr.api.ui.view import Line, line
from poolmgr.api.ui.wording import duration
from poolmgr.domain.history import PastDecision, PastTransition
from poolmgr.domain.plan import Plan, Subject, SubjectKind
from poolmgr.domain.reasons import Reason

QUIET = frozenset({Reason.SERVED, Reason.FREE_CAPACITY, Reason.MOVE_UNDER_WAY})
"""Answers that say that all goes well; they would drown the others."""

WORKLOADS = {SubjectKind.VM: "VM", SubjectKind.POD: "pod"}


def from_ledger(
    decisions: Iterable[PastDecision], transitions: Iterable[PastTransition], limit: int = 10
) -> tuple[Line, ...]:
    """Newest first. Of a workload that is told to wait again for the same reason, only the first time."""
    latest: dict[tuple[Subject, Reason], Line] = {}
    lines: list[Line] = []
    for decision in sorted(decisions, key=lambda found: found.at):
        entry = _line_of(
            decision.at, decision.subject, decision.reason, decision.message, moved=decision.moved
        )
        if decision.moved:
            lines.append(entry)
        else:
            latest.setdefault((decision.subject, decision.reason), entry)
    lines += latest.values()
    for move in transitions:
        if move.ended_at is not None and move.steps:
            last = move.steps[-1]
            kind = "undone" if move.rolled_back else "done"
            took = duration(move.ended_at - move.started_at)
            lines.append(line(move.ended_at, last.reason, f"{last.message}, after {took}", kind))
    said: dict[str, Line] = {}
    for entry in sorted(lines, key=lambda found: found.at):
        said.setdefault(entry.text, entry)
    return tuple(sorted(said.values(), key=lambda found: found.at, reverse=True)[:limit])


def from_plan(plan: Plan | None) -> tuple[Line, ...]:
    """Without a ledger: only the newest decision."""
    if plan is None:
        return ()
    moves = [
        _line_of(
            plan.made_at, Subject(SubjectKind.GPU, m.node, m.pci_address), m.reason, m.message, moved=True
        )
        for m in plan.to_start
    ]
    return tuple(
        moves
        + [
            _line_of(plan.made_at, r.subject, r.reason, r.message, moved=False)
            for r in plan.refusals
            if r.subject.kind in WORKLOADS and r.reason not in QUIET
        ]
    )


def _line_of(at: float, subject: Subject, reason: Reason, message: str, *, moved: bool) -> Line:
    who = "" if moved else f"{WORKLOADS[subject.kind]} {subject.namespace}/{subject.name}: "
    return line(at, reason.value, who + message, "move" if moved else "refused")
