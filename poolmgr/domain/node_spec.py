"""`GPUNode.spec` in the domain's terms: what the manager writes, and what the agent of the node obeys."""

from dataclasses import dataclass, field

from poolmgr.domain.backoff import Backoff, Disturbance
from poolmgr.domain.directives import NO_DIRECTIVES, Directives
from poolmgr.domain.fleet import Transition
from poolmgr.domain.identifiers import PciAddress, PlanId
from poolmgr.domain.modes import Mode


@dataclass(frozen=True, slots=True)
class NodeIntent:
    """All of `GPUNode.spec`: written as a whole, so that mode and transition never disagree."""

    desired: tuple[tuple[PciAddress, Mode, PlanId], ...]
    transition: Transition | None
    backoffs: tuple[Backoff, ...] = ()
    disturbances: tuple[Disturbance, ...] = ()
    retry_heeded: bool = False
    """What `Node.retry` asked for is done with this; the annotation goes."""


@dataclass(frozen=True, slots=True)
class Desired:
    mode: Mode
    plan_id: PlanId


@dataclass(frozen=True, slots=True)
class GpuNodeSpec:
    """What the manager wants of this node, as its agent reads it."""

    generation: int = 0
    desired: dict[PciAddress, Desired] = field(default_factory=dict)
    transition: Transition | None = None
    complaint: str = ""
    """What could not be understood; nothing is moved then."""
    directives: Directives = NO_DIRECTIVES

    def transition_of(self, address: PciAddress) -> Transition | None:
        moving = self.transition
        return moving if moving is not None and address in moving.devices else None
