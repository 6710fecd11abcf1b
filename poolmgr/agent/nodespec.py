"""`GPUNode.spec` as the agent reads it: tolerant, because a spec it cannot read must not stop it."""

from dataclasses import dataclass, field
from typing import Any

from poolmgr.domain.fleet import Transition
from poolmgr.domain.identifiers import LeaseEpoch, NodeName, PciAddress, PlanId
from poolmgr.domain.modes import Mode, Step
from poolmgr.wire.instants import from_rfc3339


@dataclass(frozen=True, slots=True)
class Desired:
    mode: Mode
    plan_id: PlanId


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What the manager wants of this node."""

    generation: int = 0
    desired: dict[PciAddress, Desired] = field(default_factory=dict)
    transition: Transition | None = None
    complaint: str = ""
    """What could not be understood; nothing is moved then."""

    def transition_of(self, address: PciAddress) -> Transition | None:
        moving = self.transition
        return moving if moving is not None and address in moving.devices else None


def decode_spec(node: NodeName, body: dict[str, Any]) -> NodeSpec:
    """From a GPUNode's JSON. Never raises: an unreadable spec comes back empty with a complaint."""
    generation = int(body.get("metadata", {}).get("generation", 0))
    spec = body.get("spec") or {}
    try:
        desired = {
            PciAddress(d["pciAddress"]): Desired(Mode(d["mode"]), PlanId(d.get("planId", "")))
            for d in spec.get("devices") or []
        }
        raw = spec.get("transition")
        transition = _decode_transition(node, raw) if raw else None
    except (KeyError, TypeError, ValueError) as error:
        return NodeSpec(generation, complaint=f"GPUNode {node}: spec cannot be read ({error!r})")
    return NodeSpec(generation, desired, transition)


def _decode_transition(node: NodeName, raw: dict[str, Any]) -> Transition:
    def instant(name: str) -> float:
        return from_rfc3339(raw[name]) if raw.get(name) else 0.0

    return Transition(
        node=node,
        plan_id=PlanId(raw["planId"]),
        epoch=LeaseEpoch(int(raw["epoch"])),
        to_mode=Mode(raw["toMode"]),
        devices=tuple(PciAddress(d) for d in raw["devices"]),
        step=Step(raw["step"]),
        started_at=instant("startedAt"),
        step_started_at=instant("stepStartedAt"),
        reason=raw.get("reason", ""),
        message=raw.get("message", ""),
        rollback=bool(raw.get("rollback", False)),
    )
