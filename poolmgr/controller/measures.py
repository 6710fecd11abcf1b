"""What this manager has done and waited for since it began, as numbers that only grow: for Prometheus.

Plain values, kept by who does the work; `api.metrics` writes them out. A new leader begins at 0, as Prometheus expects.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from poolmgr.controller.executor.actions import Advance, Evict, Perform, Rollback
from poolmgr.controller.executor.execute import Outcome
from poolmgr.domain.fleet import Node, Transition
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.plan import Move
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot

MOVE_BUCKETS = (30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1_800.0, 3_600.0, 14_400.0)
"""Seconds. A move without pods to wait for takes about a minute; a drain may take hours."""
STEP_BUCKETS = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 3_600.0)
WAIT_BUCKETS = (5.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1_800.0, 3_600.0, 14_400.0)
WORK_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Of plans and ticks. A plan of 10,000 GPUs takes about a second."""

KINDS = ("VM", "Pod")
RESULTS = ("started", "completed", "rolled_back", "failed")
"""Failed: it came to its end, and none of its GPUs serves where it was wanted, or HAMi does not list one."""


@dataclass(slots=True)
class Histogram:
    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    """By bucket, the last one without a bound; not cumulative."""
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self.counts)


def _each(names: Iterable[str], bounds: tuple[float, ...]) -> dict[str, Histogram]:
    return {name: Histogram(bounds) for name in names}


@dataclass(slots=True)
class Measures:
    moves: Counter[tuple[str, Mode]] = field(
        default_factory=lambda: Counter({(result, mode): 0 for result in RESULTS for mode in Mode})
    )
    """(one of RESULTS, the mode that the move was begun for)."""
    undone: Counter[tuple[Step, str]] = field(
        default_factory=lambda: Counter({(step, Reason.STEP_TIMED_OUT.value): 0 for step in Step})
    )
    """(step at which a move was undone, reason code)."""
    move_seconds: dict[str, Histogram] = field(default_factory=lambda: _each(Mode, MOVE_BUCKETS))
    step_seconds: dict[str, Histogram] = field(default_factory=lambda: _each(Step, STEP_BUCKETS))
    wait_seconds: dict[str, Histogram] = field(default_factory=lambda: _each(KINDS, WAIT_BUCKETS))
    evictions: Counter[str] = field(default_factory=lambda: Counter(asked=0, denied=0))
    plan_seconds: Histogram = field(default_factory=lambda: Histogram(WORK_BUCKETS))
    tick_seconds: Histogram = field(default_factory=lambda: Histogram(WORK_BUCKETS))
    ticks_failed: int = 0
    plugin_stops: int = 0
    closed_seconds: float = 0.0
    ledger_failures: int = 0
    ledger_up: bool = True
    _waiting: dict[str, tuple[str, float]] = field(default_factory=dict)
    _disturbed: dict[tuple[NodeName, float], tuple[int, float]] | None = None

    def started(self, moves: Iterable[Move]) -> None:
        """GPUs of one node that go one way together are one move."""
        for _, mode in {(move.node, move.to_mode) for move in moves}:
            self.moves["started", mode] += 1

    def step(self, transition: Transition, outcome: Outcome, at: float) -> None:
        """One action of the executor."""
        wanted = transition.to_mode.other if transition.rollback else transition.to_mode
        match outcome.action:
            case Advance():
                self.step_seconds[transition.step].observe(max(0.0, at - transition.step_started_at))
            case Rollback(reason):
                self.undone[transition.step, reason.value] += 1
            case Perform(effects):
                asked = sum(isinstance(effect, Evict) for effect in effects)
                denied = min(asked, outcome.refused)
                self.evictions["asked"] += asked
                self.evictions["denied"] += denied
        if outcome.finished:
            completed = "completed" if outcome.reason is Reason.MOVE_COMPLETED else "failed"
            self.moves["rolled_back" if transition.rollback else completed, wanted] += 1
            self.move_seconds[wanted].observe(max(0.0, at - transition.started_at))

    def seen(self, snapshot: ClusterSnapshot) -> None:
        """Who waited and waits no more, and what moves cost since the last look."""
        if not snapshot.synced:
            return
        waiting, running = {}, set()
        for kind, workloads in (("VM", snapshot.vms), ("Pod", snapshot.pods)):
            for each in workloads:
                if each.waiting:
                    waiting[str(each.uid)] = (kind, each.waiting_since or each.created_at)
                elif str(each.uid) in self._waiting:
                    running.add(str(each.uid))
        for uid in running:
            kind, since = self._waiting[uid]
            self.wait_seconds[kind].observe(max(0.0, snapshot.taken_at - since))
        self._waiting = waiting
        self._count_disturbances(snapshot.nodes)

    def _count_disturbances(self, nodes: Iterable[Node]) -> None:
        found = {
            (node.name, d.started_at): (d.plugin_stops, d.closed_seconds)
            for node in nodes
            for d in node.disturbances
        }
        # What was there before this manager began has been counted by another.
        before = found if self._disturbed is None else self._disturbed
        for key, (stops, seconds) in found.items():
            known_stops, known_seconds = before.get(key, (0, 0.0))
            self.plugin_stops += max(0, stops - known_stops)
            self.closed_seconds += max(0.0, seconds - known_seconds)
        self._disturbed = found

    def ledger(self, *, worked: bool) -> None:
        self.ledger_failures += not worked
        self.ledger_up = worked
