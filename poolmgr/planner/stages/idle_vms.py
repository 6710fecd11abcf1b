"""VMs that hold GPUs and do not use them: found, and their owners told. Nothing here stops a VM.

Whether a VM is idle cannot be seen from the node, since its GPU belongs to the guest: something that knows the
session says so (annotation `poolmgr.io/idle-since` on the instance). Sentences carry no running numbers, so that
each is told once and not at every look.
"""

from poolmgr.domain.demand import Vm
from poolmgr.domain.fleet import IdleVmAction, Pool
from poolmgr.domain.plan import Refusal, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.planner.inventory.node import GroupKey
from poolmgr.planner.stages.state import PlanState


def pool_of_vm(state: PlanState, vm: Vm) -> Pool | None:
    keys = state.inventory.groups_by_resource.get(vm.claims[0].resource_name) if vm.claims else None
    return state.inventory.groups[keys[0]].pool if keys else None


def idle_for(state: PlanState, vm: Vm) -> float:
    """Seconds beyond the pool's `idleAfterSeconds`; negative while it is in use or not idle for long enough."""
    if vm.idle_since is None or vm.node is None:
        return -1.0
    pool = pool_of_vm(state, vm)
    if pool is None:
        return -1.0
    return state.snapshot.taken_at - vm.idle_since - pool.idle_vm.idle_after_seconds


def explain_idle_vms(state: PlanState) -> list[Refusal]:
    """Tell the owner of each idle VM what its pool's policy says."""
    found: list[Refusal] = []
    for vm in state.snapshot.vms:
        if vm.idle_since is None:
            continue
        pool, over = pool_of_vm(state, vm), idle_for(state, vm)
        if pool is None or over < 0 or pool.idle_vm.action is IdleVmAction.IGNORE:
            continue
        minutes = pool.idle_vm.idle_after_seconds // 60
        text = f"it holds {vm.gpus} GPU(s) and has not been used for over {minutes} minutes"
        reason, advice = Reason.VM_IDLE, "stop it if you no longer need it"
        if pool.idle_vm.action is IdleVmAction.STOP:
            if over < pool.idle_vm.notice_seconds:
                reason = Reason.VM_IDLE_NOTICE
                advice = f"by the policy of pool {pool.name} it is to be stopped; use it or save your work"
            else:
                advice = (
                    f"its notice is over and pool {pool.name} wants it stopped; poolmgr stops no VM: its owner or an "
                    "administrator has to"
                )
        subject = Subject(SubjectKind.VM, vm.namespace, vm.name)
        found.append(Refusal(subject, reason, f"{text}: {advice}"))
    return found


def idle_holders(state: PlanState, keys: list[GroupKey]) -> str:
    """The end of a sentence to somebody who waits: which VMs hold these groups' GPUs unused. Empty if none."""
    idle = [
        vm
        for vm in state.snapshot.vms
        if idle_for(state, vm) >= 0
        and state.inventory.groups_by_resource.get(vm.claims[0].resource_name, [None])[0] in keys
    ]
    if not idle:
        return ""
    first = min(idle, key=lambda vm: (vm.idle_since or 0.0, vm.uid))
    gpus = sum(vm.gpus for vm in idle)
    return f"; {gpus} are held by VMs that nobody uses, longest by {first.namespace}/{first.name}"
