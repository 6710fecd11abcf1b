"""Machines that free GPUs do not help: what is free for them for two minutes and is not taken goes to others.

The planner says of such a machine that the scheduler will bind it. Where that does not come true, something keeps it that
nobody here knows: the scheduler is not there, a rule that it has and we do not, a node that refuses. It then counts as
one that no GPU can serve, and nothing is kept or moved for it, until its launcher is another one or half an hour is over.
"""

from dataclasses import dataclass, replace

from poolmgr.domain.demand import Vm
from poolmgr.domain.identifiers import WorkloadUid
from poolmgr.domain.plan import Plan, SubjectKind, Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot

TAKEN_WITHIN_SECONDS = 120.0
"""kube-scheduler looks again at what it could not place after at most 5 minutes, but at once when a resource that it lacked
turns up; binding takes seconds."""
TRIED_AGAIN_AFTER_SECONDS = 1_800.0


@dataclass(frozen=True, slots=True)
class _GivenUp:
    launcher_uid: str
    until: float


class Unserved:
    """What is remembered from look to look; a new manager begins anew."""

    def __init__(self) -> None:
        self._free_since: dict[WorkloadUid, float] = {}
        self._given_up: dict[WorkloadUid, _GivenUp] = {}

    def follow(self, plan: Plan, snapshot: ClusterSnapshot) -> None:
        """Note for whom the plan says that GPUs are free; `snapshot` is what it was made of."""
        served = {
            (refusal.subject.namespace, refusal.subject.name)
            for refusal in plan.refusals
            if refusal.reason is Reason.FREE_CAPACITY and refusal.subject.kind is SubjectKind.VM
        }
        now, before = snapshot.taken_at, self._free_since
        waiting = {vm.uid: vm for vm in snapshot.vms if vm.node is None}
        self._free_since = {
            uid: before.get(uid, now) for uid, vm in waiting.items() if (vm.namespace, vm.name) in served
        }
        for uid, since in self._free_since.items():
            if now - since >= TAKEN_WITHIN_SECONDS:
                launcher = waiting[uid].launcher_uid
                self._given_up[uid] = _GivenUp(launcher, now + TRIED_AGAIN_AFTER_SECONDS)
        self._given_up = {
            uid: entry
            for uid, entry in self._given_up.items()
            if uid in waiting and entry.until > now and entry.launcher_uid == waiting[uid].launcher_uid
        }

    def applied(self, snapshot: ClusterSnapshot) -> ClusterSnapshot:
        """The snapshot with these machines marked; the same one where there are none."""
        if not self._given_up:
            return snapshot
        return replace(snapshot, vms=tuple(self._marked(vm, snapshot.taken_at) for vm in snapshot.vms))

    def _marked(self, vm: Vm, now: float) -> Vm:
        entry = self._given_up.get(vm.uid)
        if (
            entry is None
            or vm.node is not None
            or entry.launcher_uid != vm.launcher_uid
            or entry.until <= now
        ):
            return vm
        said = f"; the scheduler says: {vm.scheduler_message}" if vm.scheduler_message else ""
        message = (
            f"GPUs were free for it for {TAKEN_WITHIN_SECONDS / 60:.0f} minutes and it did not start on them, so others get "
            f"them{said}"
        )
        return replace(vm, servable=Verdict(False, Reason.NOT_TAKEN, message))
