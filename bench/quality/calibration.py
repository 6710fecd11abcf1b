"""Do estimates come true? A planner that is asked as always, and whose every first estimate is held against what happened.

An estimate counts once for each workload and situation, when it is first given: what users see at that moment. It came true
if the workload started within the range. What had not started when the replay ended counts as missed if the range had
ended by then, and is left out if not.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from bench.policies.baselines import Policy
from poolmgr.domain.estimates import Estimate, Situation
from poolmgr.domain.identifiers import WorkloadUid
from poolmgr.domain.plan import Subject, SubjectKind
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.interfaces import Decision, Planner
from poolmgr.planner.waiting_times import WaitingTimes


@dataclass(frozen=True, slots=True)
class Claim:
    """An estimate, and what became of it."""

    kind: SubjectKind
    estimate: Estimate
    seconds: float | None
    """Until it started; None where it did not."""

    @property
    def came_true(self) -> bool:
        found = self.estimate
        return (
            self.seconds is not None
            and found.low is not None
            and found.high is not None
            and found.low <= self.seconds <= found.high
        )


class Judged:
    """A planner beside which `WaitingTimes` estimates."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._times = WaitingTimes()
        self._given: dict[WorkloadUid, dict[Situation, tuple[float, SubjectKind, Estimate]]] = {}
        self._now = 0.0
        self._claims: list[Claim] = []

    @property
    def name(self) -> str:
        return self._planner.name

    def decide(self, snapshot: ClusterSnapshot, learned: Any) -> Decision:
        decision = self._planner.decide(snapshot, learned)
        self._now = snapshot.taken_at
        waiting = {
            Subject(SubjectKind.VM, vm.namespace, vm.name): vm.uid for vm in snapshot.vms if vm.node is None
        }
        waiting |= {
            Subject(SubjectKind.POD, pod.namespace, pod.name): pod.uid
            for pod in snapshot.pods
            if pod.node is None
        }
        started = {vm.uid for vm in snapshot.vms if vm.node is not None}
        started |= {pod.uid for pod in snapshot.pods if pod.node is not None}
        for uid in self._given.keys() - set(waiting.values()):
            self._judge(uid, started=uid in started)
        estimates = self._times.follow(decision.plan, snapshot)
        on_arrival = self._times.on_arrival(self._now)
        resources = {
            vm.uid: vm.claims[0].resource_name for vm in snapshot.vms if vm.node is None and vm.gpus == 1
        }
        for subject, estimate in estimates.items():
            uid = waiting[subject]
            if uid not in self._given and estimate.situation is not Situation.FREE:
                estimate_on_arrival = on_arrival.get(resources.get(uid, ""))
                if estimate_on_arrival is not None:
                    self._given[uid] = {Situation.NEW: (self._now, subject.kind, estimate_on_arrival)}
            given = self._given.setdefault(uid, {})
            given.setdefault(estimate.situation, (self._now, subject.kind, estimate))
        return decision

    def claims(self) -> list[Claim]:
        """All of them, now that the replay is over."""
        for uid in list(self._given):
            self._judge(uid, started=False)
        return self._claims

    def _judge(self, uid: WorkloadUid, *, started: bool) -> None:
        for at, kind, estimate in self._given.pop(uid).values():
            seconds = self._now - at
            if started or estimate.high is None or seconds > estimate.high:
                self._claims.append(Claim(kind, estimate, seconds if started else None))


def judged(policy: Policy) -> tuple[Policy, list[Judged]]:
    """The policy with its planners judged, and these as they are made."""
    made: list[Judged] = []

    def make() -> Planner:
        made.append(Judged(policy.make()))
        return made[-1]

    return replace(policy, make=make), made


COLUMNS = (
    "who",
    "told when",
    "told",
    "with a range",
    "came true",
    "within the median",
    "median of the low ends s",
    "of the medians s",
    "of the high ends s",
    "of what came s",
)


def rows_of(claims: Iterable[Claim]) -> list[tuple[str, ...]]:
    """A row for each kind of workload and situation: estimates given, nothing said, came true, and how wide they were."""
    groups: dict[tuple[SubjectKind, Situation], list[Claim]] = {}
    for claim in claims:
        groups.setdefault((claim.kind, claim.estimate.situation), []).append(claim)
    rows: list[tuple[str, ...]] = []
    for (kind, situation), found in sorted(groups.items()):
        known = [claim for claim in found if claim.estimate.known]
        starts = [claim.seconds for claim in known if claim.seconds is not None]
        share = sum(claim.came_true for claim in known) / len(known) if known else 0.0
        below = sum(c.seconds is not None and c.seconds <= (c.estimate.median or 0.0) for c in known)
        rows.append(
            (
                kind.value,
                situation.value,
                str(len(found)),
                str(len(known)),
                f"{share:.3f}" if known else "–",
                f"{below / len(known):.2f}" if known else "–",
                f"{median(c.estimate.low or 0.0 for c in known):.0f}" if known else "–",
                f"{median(c.estimate.median or 0.0 for c in known):.0f}" if known else "–",
                f"{median(c.estimate.high or 0.0 for c in known):.0f}" if known else "–",
                f"{median(starts):.0f}" if starts else "–",
            )
        )
    return rows
