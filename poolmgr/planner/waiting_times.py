"""Who waits in which case, how long such waits were, and so what each is told of how long it will wait.

It follows plan after plan: a plan says of each workload whether GPUs are free, on their way or not there, and in which
order they are served; a later snapshot says who has started. It holds nothing but what it saw, and alters no plan.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

from poolmgr.domain.demand import SharedPod, Vm
from poolmgr.domain.estimates import CONTAINERS, WINDOW, Case, Curve, Estimate, Situation, Wait, place_of
from poolmgr.domain.identifiers import WorkloadUid
from poolmgr.domain.occupancy import unbound_pods, unbound_vms
from poolmgr.domain.plan import Plan, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot

SITUATIONS: Mapping[Reason, Situation] = {
    Reason.FREE_CAPACITY: Situation.FREE,
    Reason.MOVE_UNDER_WAY: Situation.MOVING,
    **dict.fromkeys(
        (
            Reason.NO_CANDIDATE,
            Reason.GPU_BUSY,
            Reason.GPU_MOVING,
            Reason.COOLDOWN,
            Reason.HEADROOM,
            Reason.BUDGET_SPENT,
            Reason.EVICTION_NOT_YET,
            Reason.NODE_IN_TRANSITION,
            Reason.DISTURBANCE_SPENT,
            Reason.RECENTLY_FAILED,
            Reason.LENT_TO_BEST_EFFORT,
            Reason.NODE_FULL,
            Reason.AT_MAXIMUM,
            Reason.AT_MINIMUM,
        ),
        Situation.QUEUED,
    ),
}
"""Whoever is told something else does not wait for GPUs to fall free or to move, and the sentence says what for."""

LONGEST_SECONDS = 30 * 86_400.0
"""Waits that are read back and longer than this are no waits."""


class WaitingTimes:
    """What was seen. Not thread-safe: one plan after the other is followed."""

    def __init__(self) -> None:
        self._waits: dict[Case, deque[Wait]] = {}
        self._open: dict[WorkloadUid, dict[Case, float]] = {}
        """Who waits → each case that it was in → since when."""

    def follow(self, plan: Plan, snapshot: ClusterSnapshot) -> dict[Subject, Estimate]:
        """Learn of who has started since, and estimate for everybody who waits. `plan` was made of `snapshot`."""
        now = snapshot.taken_at
        waiting: dict[Subject, Vm | SharedPod] = {
            Subject(SubjectKind.VM, vm.namespace, vm.name): vm for vm in unbound_vms(snapshot.vms)
        }
        waiting.update(
            (Subject(SubjectKind.POD, pod.namespace, pod.name), pod) for pod in unbound_pods(snapshot.pods)
        )
        self._end(snapshot, {workload.uid for workload in waiting.values()})
        standing = _cases(plan, waiting)
        for subject, (case, _) in standing.items():
            uid = waiting[subject].uid
            if uid not in self._open:
                self._open[uid] = {}
                if case.situation is not Situation.FREE:
                    self._open[uid][_on_arrival(case)] = now
            self._open[uid].setdefault(case, now)
        curves = self._curves({case for case, _ in standing.values()}, now)
        return {
            subject: curves[case].estimate(now - self._open[waiting[subject].uid][case], position)
            for subject, (case, position) in standing.items()
        }

    def _end(self, snapshot: ClusterSnapshot, waiting: set[WorkloadUid]) -> None:
        over = self._open.keys() - waiting
        if not over:
            return
        now = snapshot.taken_at
        started = {vm.uid for vm in snapshot.vms if vm.node is not None}
        started |= {pod.uid for pod in snapshot.pods if pod.node is not None}
        for uid in over:
            for case, since in self._open.pop(uid).items():
                self._waits_of(case).append(Wait(now - since, uid in started, since))

    def _waits_of(self, case: Case) -> "deque[Wait]":
        return self._waits.setdefault(case, deque(maxlen=WINDOW))

    def _curves(self, cases: Iterable[Case], now: float) -> dict[Case, Curve]:
        going_on: dict[Case, list[Wait]] = {case: [] for case in cases}
        for cases_of_one in self._open.values():
            for case, since in cases_of_one.items():
                if case in going_on and now > since:
                    going_on[case].append(Wait(now - since, False, since))
        return {
            case: Curve(case.situation, [*self._waits.get(case, ()), *open_[:WINDOW]])
            for case, open_ in going_on.items()
        }

    def on_arrival(self, now: float) -> dict[str, Estimate]:
        """Resource name → what holds for one that comes, wants one GPU and finds none free."""
        cases = [case for case in self._waits if case.situation is Situation.NEW and not case.several]
        return {case.resource: curve.estimate(0.0) for case, curve in self._curves(cases, now).items()}

    def learned(self) -> Any:
        """What `recall` takes, in values that JSON has."""
        return [
            [
                case.resource,
                case.situation.value,
                case.several,
                case.place,
                [list(wait) for wait in waits],
            ]
            for case, waits in sorted(self._waits.items())
        ]

    def recall(self, learned: Any) -> None:
        """Know again what `learned` told. What cannot be read is left out: it is measured anew."""
        for entry in learned if isinstance(learned, list) else ():
            try:
                resource, situation, several, place, waits = entry
                case = Case(str(resource), Situation(situation), bool(several), int(place))
                found = [Wait(float(seconds), bool(ended), float(at)) for seconds, ended, at in waits]
            except (TypeError, ValueError):
                continue
            before = (
                wait for wait in found if 0.0 <= wait.seconds <= LONGEST_SECONDS and isfinite(wait.begun_at)
            )
            self._waits[case] = deque((*before, *self._waits_of(case)), maxlen=WINDOW)


def _on_arrival(case: Case) -> Case:
    return Case(case.resource, Situation.NEW, case.several, 0)


def _cases(plan: Plan, waiting: Mapping[Subject, Vm | SharedPod]) -> dict[Subject, tuple[Case, int]]:
    """The case of everybody who waits for GPUs, and the position of those who stand in line."""
    lines: dict[str, int] = {}
    found: dict[Subject, tuple[Case, int]] = {}
    for subject, reason, _ in plan.refusals:
        situation = SITUATIONS.get(reason)
        workload = waiting.get(subject)
        if situation is None or workload is None:
            continue
        if isinstance(workload, Vm):
            resource, several = workload.claims[0].resource_name, workload.gpus > 1
        else:
            resource = CONTAINERS
            several = workload.gpus > 1 or not (workload.memory_mib or workload.memory_percent)
        position = 0
        if situation is Situation.QUEUED:
            position = lines[resource] = lines.get(resource, 0) + 1
        place = place_of(position) if position else 0
        found[subject] = Case(resource, situation, several, place), position
    return found
