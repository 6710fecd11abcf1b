"""The next action for a node with a transition: the recipe's answer, held against the step's deadline."""

from dataclasses import dataclass

from poolmgr.domain.fleet import Node, Pool, Transition
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.domain.usage import has_said, is_parked, not_listed

from . import conditions, services, silent_agent, to_passthrough, to_shared
from .actions import Action, Advance, Cordon, Effect, FenceGpus, Finish, Perform, Rollback, Shrink, Wait


@dataclass(frozen=True, slots=True)
class StepDeadlines:
    """Seconds that a step may wait before the move is undone. Drain has the pool's own; Release, after which nothing is
    left to undo, has none."""

    fence: float = 90.0
    detach: float = 240.0
    rebind: float = 180.0
    """Covers the agent's own unbind deadline and one retry."""
    attach: float = 300.0
    """HAMi's plugin start, NVML and one 15 s scheduler round, with room for a slow node."""
    silence: float = 240.0
    """How long an agent that falls silent is waited for, and what such silences may add to a step in all. Its pod has been
    replaced by then; a node that reboots may not be back."""

    def of(self, step: Step, drain: float) -> float:
        return {
            Step.FENCE: self.fence,
            Step.DRAIN: drain,
            Step.DETACH: self.detach,
            Step.REBIND: self.rebind,
            Step.ATTACH: self.attach,
        }.get(step, self.fence)


def next_action(node: Node, snapshot: ClusterSnapshot, deadlines: StepDeadlines) -> Action:
    """What to do now for `node.transition` (which must be there).

    A step past its deadline is undone; while undoing, it is passed over instead, so that the node is never
    left cordoned: what then is not where it should be shows as trouble on the device.

    Where the driver's keeper begins to change it, or takes the node over, what is not rebound yet is undone.

    Until the GPUs are rebound nothing goes on while the agent is silent, and it has `silence` to be heard again. After that
    HAMi and the node are given back whether it is heard or not (`silent_agent`). Where only the agent can bring on what has been
    rebound, the move waits for it and is not undone: that would take the agent as well.
    """
    transition = node.transition
    assert transition is not None
    pools: dict[str, Pool] = {pool.name: pool for pool in snapshot.pools}
    limit = deadlines.of(transition.step, _drain_timeout(node, transition, pools))
    now = snapshot.taken_at
    if not node.agent.heard and transition.step.order <= Step.REBIND.order:
        return silent_agent.wait_or_give_up(node, transition, now, deadlines.silence, limit)
    others = node.neighbours.verdict
    if not others and transition.step.order < Step.REBIND.order and not transition.rollback:
        return Rollback(others.reason, others.message)
    parked = is_parked(node)
    action = silent_agent.while_parked(node, transition, snapshot) if parked else None
    action = action or _recipe(node, transition, snapshot, pools)
    endless = transition.step is Step.RELEASE or (parked and not has_said(node))
    if not isinstance(action, Wait | Perform) or endless:
        return action
    if action.reason is Reason.AGENT_SILENT and silent_agent.has_waited_enough(
        node, transition, now, deadlines.silence, limit
    ):
        late = f"{transition.step.value} has waited long enough"
        return _finish_for_new_users(node, transition, snapshot, late) or silent_agent.park_arrived(
            node, transition
        )
    heard_since = node.agent.since if node.agent.heard else now
    waited = now - max(transition.step_started_at, heard_since)
    in_all = 0.0 if parked else now - transition.step_started_at
    if waited <= limit and in_all <= limit + deadlines.silence:
        return action
    late = f"{transition.step.value} on {node.name} took over {limit:.0f} s ({action.message})"
    if transition.rollback:
        following = tuple(Step)[transition.step.order + 1]
        if transition.step is Step.DRAIN:
            following = Step.ATTACH  # never detach what is in use
        return Advance(following, Reason.STEP_TIMED_OUT, f"{late}; continuing without it")
    if finish := _finish_for_new_users(node, transition, snapshot, late):
        return finish
    if node.agent.silent and first_step_back(node, transition) is Step.FENCE:
        return silent_agent.park_arrived(node, transition)  # nobody is there to take them back
    return Rollback(Reason.STEP_TIMED_OUT, late)


def waits_for(node: Node, snapshot: ClusterSnapshot) -> Wait | None:
    """What the move of `node` waits for at this moment, for people to read; None where there is no move, or something is to
    be done now."""
    if node.transition is None:
        return None
    action = next_action(node, snapshot, StepDeadlines())
    return action if isinstance(action, Wait) else None


def _finish_for_new_users(
    node: Node, transition: Transition, snapshot: ClusterSnapshot, late: str
) -> Action | None:
    """Instead of undoing a move that is late: nothing keeps VMs off a GPU that is ready for them, so one may be on it."""
    arrived = [g for g in conditions.moving(node, transition) if g.observed_mode is transition.to_mode]
    users = conditions.users_of(snapshot, arrived)
    if not users:
        return None
    said = f"{late}; {conditions.user_names(users)} has its GPU already and keeps it"
    if transition.step is Step.REBIND and len(arrived) < len(transition.devices):
        return Shrink(tuple(g.pci_address for g in arrived), Reason.STEP_TIMED_OUT, said)
    return Advance(Step.RELEASE, Reason.STEP_TIMED_OUT, said) if transition.step is Step.ATTACH else None


def first_step_back(node: Node, transition: Transition) -> Step:
    """Where the undoing starts: at Fence if a device has to be rebound, else where HAMi gets its own back. Before Rebind the
    agent has no order to rebind anything."""
    origin = transition.to_mode.other
    back = any(g.observed_mode is not origin for g in conditions.moving(node, transition))
    ordered = transition.step.order >= Step.REBIND.order
    back = back or (ordered and not node.reported)  # what was last reported may be of before the rebind
    return Step.FENCE if back else Step.ATTACH


def _recipe(node: Node, transition: Transition, snapshot: ClusterSnapshot, pools: dict[str, Pool]) -> Action:
    taking = transition.to_mode is Mode.PASSTHROUGH
    match transition.step:
        case Step.INTEND:
            return Advance(Step.FENCE, Reason.STEP_DONE, f"the move on {node.name} is recorded")
        case Step.FENCE:
            if taking:
                return to_passthrough.fence(node, transition, snapshot)
            return to_shared.fence(node, transition)
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
                    f"{conditions.names(stray)} on {node.name} went back to the other mode (a reboot?); starting over",
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
        return Advance(Step.ATTACH, Reason.DEVICE_GONE, f"the GPUs of this move are no longer on {node.name}")
    arrived = [
        g
        for g in gpus
        if g.observed_mode is transition.to_mode
        and g.phase is DevicePhase.READY
        and g.plan_id == transition.plan_id
    ]
    broken = [g for g in gpus if g.phase is DevicePhase.QUARANTINED]
    if len(arrived) + len(broken) == len(gpus) and node.reported:
        if not arrived and not transition.rollback:
            return Rollback(
                Reason.BIND_FAILED,
                f"{conditions.names(broken)} on {node.name} could not be rebound: {broken[0].message}",
            )
        return Advance(
            Step.ATTACH,
            Reason.STEP_DONE,
            f"{conditions.names(arrived)} on {node.name} now bound to the driver for {transition.to_mode.value}",
        )
    if transition.to_mode is Mode.PASSTHROUGH and isinstance(again := services.pause(node, gpus), Perform):
        return again  # somebody let it run meanwhile
    pending = next((g for g in gpus if g not in arrived and g.message), None)
    detail = f": {pending.message}" if pending else ""
    return Wait(
        Reason.STEP_WAITING,
        f"the agent of {node.name} is rebinding {conditions.names(g for g in gpus if g not in arrived)}{detail}",
    )


def _release(node: Node) -> Action:
    if back := services.resume(node):
        return back
    effects: list[Effect] = []
    withdrawn, sharing = conditions.withdrawn(node), node.sharing
    if sharing is not None and sharing.closing - withdrawn:
        effects.append(FenceGpus(withdrawn))
    if node.cordoned_by_us or (sharing is not None and sharing.asked_for):
        effects.append(Cordon(False))  # has the pods that HAMi turned away tried again, too
    if effects:
        return Perform(tuple(effects), Reason.STEP_STARTED, f"reopening {node.name} to new workloads")
    return Advance(Step.DONE, Reason.STEP_DONE, f"{node.name} is open to new workloads")


def _finish(node: Node, transition: Transition) -> Finish:
    moving, mode = conditions.moving(node, transition), transition.to_mode
    there = [g for g in moving if g.observed_mode is mode]
    elsewhere = "".join(
        f"; {conditions.names([g])} is {f'still {g.observed_mode.value}' if g.observed_mode else 'on no driver of its modes'}"
        for g in moving
        if g not in there
    )
    if missing := [(g, said) for g in there if (said := not_listed(g, node)) is not None]:
        undone = "the move was undone, but " if transition.rollback else ""
        gpus = conditions.names(g for g, _ in missing)
        return Finish(
            Reason.NOT_LISTED,
            f"{undone}{gpus} on {node.name} is on its driver and serves nobody: {missing[0][1].message}{elsewhere}",
        )
    if transition.rollback:
        stays = f"{conditions.names(there)} on {node.name} stays {mode.value}: " if there else ""
        where = "" if there else f" on {node.name}"
        return Finish(Reason.ROLLED_BACK, f"{stays}the move{where} was undone{elsewhere}")
    if not there:
        return Finish(Reason.DEVICE_GONE, f"no GPU of the move on {node.name} is {mode.value}{elsewhere}")
    return Finish(
        Reason.MOVE_COMPLETED, f"{conditions.names(there)} on {node.name} is now {mode.value}{elsewhere}"
    )


def _drain_timeout(node: Node, transition: Transition, pools: dict[str, Pool]) -> float:
    limits = [
        pools[g.pool].drain_timeout_seconds for g in conditions.moving(node, transition) if g.pool in pools
    ]
    return float(min(limits, default=600))
