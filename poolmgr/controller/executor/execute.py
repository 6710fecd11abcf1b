"""The executor's only IO: carries one action out and says what happened.

Every write is checked against the lease first. A write that fails leaves the world as some prefix of the
step; since each effect is an `ensure`, the next tick repeats it.
"""

from dataclasses import dataclass

from poolmgr.controller import intents, lessons
from poolmgr.controller.executor.actions import (
    Action,
    Advance,
    AskScheduler,
    Cordon,
    Effect,
    Evict,
    FenceGpus,
    Finish,
    HoldUpgrades,
    Park,
    PauseServices,
    Perform,
    Plugin,
    ResumeServices,
    Rollback,
    Shrink,
    Unregister,
    Wait,
)
from poolmgr.controller.executor.advance import first_step_back
from poolmgr.controller.interfaces import (
    Evictor,
    FleetActuator,
    Leadership,
    ServiceActuator,
    SharingActuator,
)
from poolmgr.domain.errors import Stale
from poolmgr.domain.fleet import Node
from poolmgr.domain.identifiers import LeaseEpoch
from poolmgr.domain.node_spec import NodeIntent
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one action came to."""

    reason: Reason
    message: str
    changed: bool
    """False for a Wait."""
    wrote_intent: bool = False
    """True when `GPUNode.spec` was written: the view is behind until it shows that."""
    finished: bool = False
    action: Action | None = None
    """What was carried out."""
    refused: int = 0
    """Evictions that a budget denied."""


@dataclass(frozen=True, slots=True)
class Executor:
    fleet: FleetActuator
    sharing: SharingActuator
    services: ServiceActuator
    evictor: Evictor
    leadership: Leadership

    def epoch(self) -> LeaseEpoch:
        """This leader's epoch. Raises Stale when the lease is not surely held."""
        epoch = self.leadership.epoch
        if epoch is None:
            raise Stale(
                Reason.NOT_LEADER, "this manager no longer holds the lease; the next leader continues"
            )
        return epoch

    async def carry_out(self, node: Node, action: Action, now: float) -> Outcome:
        """Do `action` for `node`. Raises Stale or Unavailable; then nothing or a repeatable part is done."""
        epoch = self.epoch()
        wrote, said = True, action.message
        match action:
            case Wait():
                return Outcome(action.reason, action.message, changed=False)
            case Perform(effects):
                refusals: list[Verdict] = []
                for effect in effects:
                    self.epoch()
                    refusal = await self._bring_about(node, effect)
                    if refusal is not None:
                        refusals.append(refusal)  # the other pods may leave meanwhile
                if refusals:
                    changed = len(refusals) < len(effects)
                    return Outcome(
                        refusals[0].reason,
                        refusals[0].message,
                        changed=changed,
                        action=action,
                        refused=len(refusals),
                    )
                wrote = False
            case Advance(to):
                await self.write(node, intents.at_step(node, to, epoch, now))
            case Rollback(reason, message):
                assert node.transition is not None
                step = first_step_back(node, node.transition)
                intent = intents.rolled_back(node, step, reason, message, epoch, now)
                await self.write(node, intent)
                said += f"; undoing the move{lessons.rest_words(node, intent.backoffs)}"
            case Shrink(devices, reason, message):
                smaller = intents.shrunk(node, devices, epoch, now)
                if reason is Reason.STEP_TIMED_OUT:
                    smaller = intents.with_failure(smaller, node, reason, message, now)
                    said += lessons.rest_words(node, smaller.backoffs)
                await self.write(node, smaller)
            case Park(reason, message):
                parked = intents.parked(node, message, epoch, now)
                await self.write(node, parked)
                said += lessons.rest_words(node, parked.backoffs)
            case Finish():
                await self.write(node, intents.ended(node, now))
        return Outcome(
            action.reason,
            said,
            changed=True,
            wrote_intent=wrote,
            finished=isinstance(action, Finish),
            action=action,
        )

    async def take_over(self, node: Node) -> Outcome:
        """Put this leader's epoch on a transition that an earlier one left."""
        return await self.write(node, intents.with_epoch(node, self.epoch()))

    async def write(self, node: Node, intent: NodeIntent) -> Outcome:
        """Compare-and-swap the node's spec. Raises Stale when the lease or the object moved on."""
        self.epoch()
        await self.fleet.write_intent(node.name, intent, node.revision)
        return Outcome(Reason.STEP_DONE, "written", changed=True, wrote_intent=True)

    async def _bring_about(self, node: Node, effect: Effect) -> Verdict | None:
        """Returns the refusal of an eviction, where there is one."""
        match effect:
            case FenceGpus(uuids):
                await self.sharing.ensure_gpus_fenced(node.name, uuids)
            case Cordon(on):
                await self.sharing.ensure_cordoned(node.name, on)
            case Plugin(wanted):
                await self.sharing.ensure_plugin(node.name, wanted)
            case Unregister():
                await self.sharing.ensure_unregistered(node.name)
            case AskScheduler(plan, at):
                await self.sharing.ensure_scheduler_asked(node.name, plan, at)
            case PauseServices(labels):
                await self.services.ensure_paused(node.name, labels)
            case ResumeServices(labels):
                await self.services.ensure_resumed(node.name, labels)
            case HoldUpgrades(on):
                await self.services.ensure_upgrades_held(node.name, on)
            case Evict(pod, namespace, name):
                verdict = await self.evictor.evict(pod, namespace, name)
                return None if verdict else verdict
        return None
