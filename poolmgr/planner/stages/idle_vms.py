"""VMs that hold GPUs and do not use them: found, and their owners told. Nothing here stops a VM.

Whether a VM is idle cannot be seen from the node, since its GPU belongs to the guest: something that knows the
session says so (annotation `poolmgr.io/idle-since` on the instance). Sentences carry no running numbers, so that
each is told once and not at every look.
"""

from poolmgr.domain.demand import DeviceClaim, Vm
from poolmgr.domain.fleet import IdleVmAction, Pool
from poolmgr.domain.plan import Refusal, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.planner.inventory.node import GroupKey
from poolmgr.planner.stages.state import PlanState

_STRICTNESS = tuple(IdleVmAction)
"""Mildest first."""


def pool_of_vm(state: PlanState, vm: Vm) -> Pool | None:
    """Whose policy is asked of one that runs: of the pools of its GPUs, the one that asks least of it."""
    pools = [state.inventory.groups[key].pool for claim in vm.claims for key in _groups_of(state, vm, claim)]
    return min(
        pools,
        key=lambda p: (_STRICTNESS.index(p.idle_vm.action), -p.idle_vm.idle_after_seconds),
        default=None,
    )


def _groups_of(state: PlanState, vm: Vm, claim: DeviceClaim) -> list[GroupKey]:
    """The groups of its node that have such GPUs."""
    groups = state.inventory.groups
    known = state.inventory.groups_by_resource.get(claim.resource_name, ())
    return [key for key in known if vm.node in groups[key].nodes]


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
                advice = (
                    f"the policy of pool {pool.name} asks for it to be stopped; use it, or save your work"
                )
            else:
                advice = (
                    f"its notice has ended, and the policy of pool {pool.name} asks for it to be stopped; poolmgr never stops "
                    "a VM: its owner or an administrator must"
                )
        subject = Subject(SubjectKind.VM, vm.namespace, vm.name)
        found.append(Refusal(subject, reason, f"{text}: {advice}"))
    return found


def idle_holders(state: PlanState, keys: list[GroupKey]) -> str:
    """The end of a sentence to somebody who waits: which VMs hold these groups' GPUs unused. Empty if none."""
    held = [
        (vm, claim.count)
        for vm in state.snapshot.vms
        if vm.idle_since is not None and idle_for(state, vm) >= 0
        for claim in vm.claims
        if not set(keys).isdisjoint(_groups_of(state, vm, claim))
    ]
    if not held:
        return ""
    first = min((vm for vm, _ in held), key=lambda vm: (vm.idle_since or 0.0, vm.uid))
    gpus = sum(count for _, count in held)
    return f"; idle VMs hold {gpus} of them, {first.namespace}/{first.name} for the longest time"
