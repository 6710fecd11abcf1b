"""The next action for a node with a transition: the recipe's answer, held against the step's deadline."""

from dataclasses import dataclass

from poolmgr.domain.fleet import Node, Pool, Transition
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot

from . import conditions, to_passthrough, to_shared
from .actions import Action, Advance, Cordon, Effect, FenceGpus, Finish, Perform, Rollback, Wait


@dataclass(frozen=True, slots=True)
class StepDeadlines:
    """Seconds that a step may wait before the move is undone. Drain has the pool's own."""

    fence: float = 90.0
    detach: float = 240.0
    rebind: float = 180.0
    """Covers the agent's own unbind deadline and one retry."""
    attach: float = 300.0
    """HAMi's plugin start, NVML and one 15 s scheduler round, with room for a slow node."""
    release: float = 90.0

    def of(self, step: Step, drain: float) -> float:
        return {
            Step.FENCE: self.fence,
            Step.DRAIN: drain,
            Step.DETACH: self.detach,
            Step.REBIND: self.rebind,
            Step.ATTACH: self.attach,
            Step.RELEASE: self.release,
        }.get(step, self.fence)


def next_action(node: Node, snapshot: ClusterSnapshot, deadlines: StepDeadlines) -> Action:
    """What to do now for `node.transition` (which must be there).

    A step past its deadline is undone; while undoing, it is passed over instead, so that the node is never
    left cordoned: what then is not where it should be shows as trouble on the device.

    Until the GPUs are rebound nothing goes on while the agent is silent, and no deadline runs: it may be at work on them.
    After that HAMi and the node are given back whether it is heard or not.
    """
    transition = node.transition
    assert transition is not None
    if not node.agent.heard and transition.step.order <= Step.REBIND.order:
        silent = node.agent.verdict(node.name)
        return Wait(silent.reason, f"{transition.step.value} waits: {silent.message}")
    pools: dict[str, Pool] = {pool.name: pool for pool in snapshot.pools}
    action = _recipe(node, transition, snapshot, pools)
    if not isinstance(action, Wait | Perform):
        return action
    limit = deadlines.of(transition.step, _drain_timeout(node, transition, pools))
    heard_since = node.agent.since if node.agent.heard else snapshot.taken_at
    waited = snapshot.taken_at - max(transition.step_started_at, heard_since)
    if waited <= limit:
        return action
    late = f"{transition.step.value} on {node.name} took over {limit:.0f} s ({action.message})"
    if transition.step is Step.RELEASE:
        return action  # nothing left to undo; keep trying to open the node
    if transition.rollback:
        following = tuple(Step)[transition.step.order + 1]
        if transition.step is Step.DRAIN:
            following = Step.ATTACH  # never detach what is in use
        return Advance(following, Reason.STEP_TIMED_OUT, f"{late}; going on without it")
    return Rollback(Reason.STEP_TIMED_OUT, late)


def first_step_back(node: Node, transition: Transition) -> Step:
    """Where the undoing starts: at Fence if a device has to be rebound, else where HAMi gets its own back."""
    origin = transition.to_mode.other
    back = any(g.observed_mode is not origin for g in conditions.moving(node, transition))
    back = back or not node.reported  # what was last reported may be of before the rebind
    return Step.FENCE if back else Step.ATTACH


def _recipe(node: Node, transition: Transition, snapshot: ClusterSnapshot, pools: dict[str, Pool]) -> Action:
    taking = transition.to_mode is Mode.PASSTHROUGH
    match transition.step:
        case Step.INTEND:
            return Advance(Step.FENCE, Reason.STEP_DONE, f"the move on {node.name} is recorded")
        case Step.FENCE:
            return to_passthrough.fence(node, transition) if taking else to_shared.fence(node, transition)
        case Step.DRAIN if taking:
            return to_passthrough.drain(node, transition, snapshot, pools)
        case Step.DRAIN:
            return to_shared.drain(node, transition, snapshot)
        case Step.DETACH if taking:
            return to_passthrough.detach(node, transition, snapshot)
        case Step.DETACH:
            return to_shared.detach(node, transition, snapshot)
        case Step.REBIND:
            return _rebind(node, transition)
        case Step.ATTACH:
            if (stray := conditions.strayed(node, transition)) and not transition.rollback:
                return Advance(
                    Step.FENCE,
                    Reason.DRIFTED,
                    f"{conditions.names(stray)} on {node.name} went back meanwhile (a reboot?); starting over",
                )
            attach = to_passthrough.attach if taking else to_shared.attach
            return attach(node, transition, snapshot)
        case Step.RELEASE:
            return _release(node)
        case Step.DONE:
            return _finish(node, transition)


def _rebind(node: Node, transition: Transition) -> Action:
    """The agent's turn. A device that it has quarantined is not waited for."""
    gpus = conditions.moving(node, transition)
    if not gpus:
        return Advance(Step.ATTACH, Reason.DEVICE_GONE, f"the GPUs of this move left {node.name}")
    arrived = [
        g
        for g in gpus
        if g.observed_mode is transition.to_mode
        and g.phase is DevicePhase.READY
        and g.plan_id == transition.plan_id
    ]
    broken = [g for g in gpus if g.phase is DevicePhase.QUARANTINED]
    if len(arrived) + len(broken) == len(gpus) and node.reported:
        if broken and not arrived and not transition.rollback:
            return Rollback(
                Reason.BIND_FAILED,
                f"{conditions.names(broken)} on {node.name} could not be rebound: {broken[0].message}",
            )
        return Advance(
            Step.ATTACH,
            Reason.STEP_DONE,
            f"{conditions.names(arrived)} on {node.name} now on the driver for {transition.to_mode.value}",
        )
    pending = next((g for g in gpus if g not in arrived and g.message), None)
    detail = f": {pending.message}" if pending else ""
    return Wait(
        Reason.STEP_WAITING,
        f"the agent of {node.name} rebinds {conditions.names(g for g in gpus if g not in arrived)}{detail}",
    )


def _release(node: Node) -> Action:
    effects: list[Effect] = []
    if node.sharing is not None and node.sharing.fenced:
        effects.append(FenceGpus(frozenset()))
    if node.cordoned_by_us:
        effects.append(Cordon(False))
    if effects:
        return Perform(tuple(effects), Reason.STEP_STARTED, f"opening {node.name} to new workloads again")
    return Advance(Step.DONE, Reason.STEP_DONE, f"{node.name} is open to new workloads")


def _finish(node: Node, transition: Transition) -> Finish:
    gpus = conditions.names(conditions.moving(node, transition))
    if transition.rollback:
        return Finish(Reason.ROLLED_BACK, f"{gpus} on {node.name} stays {transition.to_mode.value}: undone")
    return Finish(Reason.MOVE_COMPLETED, f"{gpus} on {node.name} is {transition.to_mode.value} now")


def _drain_timeout(node: Node, transition: Transition, pools: dict[str, Pool]) -> float:
    limits = [
        pools[g.pool].drain_timeout_seconds for g in conditions.moving(node, transition) if g.pool in pools
    ]
    return float(min(limits, default=600))
