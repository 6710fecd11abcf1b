"""Who waits behind our gate and may go on.

Where only a limit is asked, a workload is admitted as soon as its namespace is within it, and waits for its GPU in the
open. Where it matters who is next, it is admitted once there is room for it: what is in the open takes whatever falls free.
What no GPU of ours would let run is not ours to hold for want of room.
"""

from poolmgr.domain.demand import Gate, SharedPod, Vm
from poolmgr.domain.identifiers import WorkloadUid
from poolmgr.domain.occupancy import unbound_pods, unbound_vms
from poolmgr.domain.plan import Admission, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.planner.charges import Workload
from poolmgr.planner.stages.state import PlanState, StageResult

ADMITTED = "it fits within the quota of its namespace now, so the scheduler may place it"


def admit_waiting(state: PlanState) -> StageResult:
    """In their turn, those that quotas admit and that need not wait for room or have it."""
    gated: list[Workload] = [vm for vm in unbound_vms(state.snapshot.vms) if vm.gate is Gate.OURS]
    unbound = unbound_pods(state.snapshot.pods)
    gated += [pod for pod in unbound if pod.gate is Gate.OURS and not pod.terminating]
    if not gated:
        return StageResult()
    quotas = state.quotas
    room: set[WorkloadUid] | None = None
    found: list[Admission] = []
    for workload in sorted(gated, key=quotas.turn):
        if not quotas.admits(workload):
            continue
        if state.is_queued(workload) and workload.servable:
            room = _with_room(state) if room is None else room
            if workload.uid not in room:
                continue
        found.append(_admission(workload))
    return StageResult(admissions=tuple(found))


def _with_room(state: PlanState) -> set[WorkloadUid]:
    """Those that GPUs are free for, so that the scheduler would place them now."""
    free = {r.subject for r in state.refusals if r.reason is Reason.FREE_CAPACITY}
    found = {vm.uid for vm in state.snapshot.vms if _subject(vm) in free}
    for fit in state.waiting_pods:
        found.update(pod.uid for pod in fit.pods[: fit.fits_now])
    return found


def _admission(workload: Workload) -> Admission:
    if isinstance(workload, Vm):
        pod, name = WorkloadUid(workload.launcher_uid), workload.launcher_name
    else:
        pod, name = workload.uid, workload.name
    return Admission(_subject(workload), pod, name, ADMITTED)


def _subject(workload: Workload) -> Subject:
    kind = SubjectKind.POD if isinstance(workload, SharedPod) else SubjectKind.VM
    return Subject(kind, workload.namespace, workload.name)
