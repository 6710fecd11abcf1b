"""`GPUNode.spec` both ways: written and read by the manager, obeyed by the node's agent, looked at by the webhook."""

from typing import Any

import msgspec

from poolmgr.domain.backoff import Backoff, Disturbance
from poolmgr.domain.fleet import Transition
from poolmgr.domain.identifiers import GpuUuid, LeaseEpoch, NodeName, PciAddress, PlanId
from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.node_spec import Desired, GpuNodeSpec, NodeIntent
from poolmgr.domain.usage import is_closed_to_pods
from poolmgr.wire.directives import directives_of
from poolmgr.wire.enums import known
from poolmgr.wire.gpu_nodes import (
    BackoffSpec,
    DesiredDevice,
    DisturbanceSpec,
    GpuNode,
    TransitionSpec,
    WireSpec,
    gpus_of,
)
from poolmgr.wire.instants import to_rfc3339, unix_or_zero
from poolmgr.wire.meta import Wire


def transition_of(node: GpuNode) -> Transition | None:
    """The move under way. One that is not understood (written by a newer manager) still shows as a move, at its first
    step; see `complaint_of`."""
    spec = node.spec.transition
    return None if spec is None else _transition(NodeName(node.metadata.name), spec)


def _transition(node: NodeName, spec: TransitionSpec) -> Transition:
    return Transition(
        node=node,
        plan_id=PlanId(spec.plan_id),
        epoch=LeaseEpoch(spec.epoch),
        to_mode=known(Mode, spec.to_mode, Mode.SHARED),
        devices=tuple(PciAddress(address) for address in spec.devices),
        step=known(Step, spec.step, Step.INTEND),
        started_at=unix_or_zero(spec.started_at),
        step_started_at=unix_or_zero(spec.step_started_at),
        reason=spec.reason,
        message=spec.message,
        rollback=spec.rollback,
    )


def backoffs_of(node: GpuNode) -> tuple[Backoff, ...]:
    """Who rests on the node since moves failed."""
    return tuple(
        Backoff(
            PciAddress(spec.pci_address),
            spec.reason,
            spec.message,
            spec.failures,
            unix_or_zero(spec.failed_at),
            unix_or_zero(spec.until),
        )
        for spec in node.spec.backoffs
    )


def disturbances_of(node: GpuNode) -> tuple[Disturbance, ...]:
    """What moves cost its pods lately."""
    return tuple(
        Disturbance(unix_or_zero(spec.started_at), spec.plugin_stops, float(spec.closed_seconds))
        for spec in node.spec.disturbances
    )


MOST_DISTURBANCES = 32
"""As the CRD has it; an hour's worth never comes near it."""
LONGEST_MESSAGE = 1024


class _Said(Wire, frozen=True):
    generation: int = 0
    annotations: dict[str, str] = {}


class _Meta(Wire, frozen=True):
    metadata: _Said = _Said()


class _Spec(Wire, frozen=True):
    spec: WireSpec = WireSpec()
    """As of a GpuNode; read by itself, as the agent writes the rest."""


def read_spec(node: NodeName, body: object) -> GpuNodeSpec:
    """What the agent of `node` is to obey, from its GPUNode as decoded JSON.

    Never raises. Of a spec that is not understood in every word nothing is obeyed: it comes back empty, with a
    complaint.
    """
    generation, annotations = 0, dict[str, str]()
    try:
        meta = msgspec.convert(body, _Meta).metadata
        generation, annotations = meta.generation, meta.annotations
        spec = msgspec.convert(body, _Spec).spec
    except msgspec.ValidationError as error:
        return GpuNodeSpec(generation, complaint=f"GPUNode {node}: spec cannot be read ({error})")
    if word := _unknown_in(spec):
        return GpuNodeSpec(generation, complaint=_complaint(node, word, "this agent"))
    desired = {PciAddress(d.pci_address): Desired(Mode(d.mode), PlanId(d.plan_id)) for d in spec.devices}
    transition = _transition(node, spec.transition) if spec.transition else None
    return GpuNodeSpec(generation, desired, transition, directives=directives_of(annotations))


def complaint_of(node: GpuNode) -> str:
    """What of the spec a newer manager wrote that this release does not know; empty where there is nothing. Rewriting
    such a spec would lose it."""
    word = _unknown_in(node.spec)
    return _complaint(node.metadata.name, word, "this manager") if word else ""


def _unknown_in(spec: WireSpec) -> str:
    """The first mode or step that this release does not know; empty where there is none."""
    modes, transition = tuple(Mode), spec.transition
    said: list[tuple[str, tuple[str, ...]]] = [(device.mode, modes) for device in spec.devices]
    if transition is not None:
        said += [(transition.to_mode, modes), (transition.step, tuple(Step))]
    return next((word or "an empty word" for word, known_words in said if word not in known_words), "")


def _complaint(node: str, word: str, reader: str) -> str:
    return (
        f"the spec of GPUNode {node} says {word!r}, which this release does not know: its GPUs stay as they are until "
        f"{reader} is updated"
    )


def closed_to_pods(node: GpuNode) -> frozenset[GpuUuid]:
    """GPUs of a node that no new pod may get (`domain.usage.is_closed_to_pods`)."""
    transition = transition_of(node)
    return frozenset(gpu.uuid for gpu in gpus_of(node, {}) if gpu.uuid and is_closed_to_pods(gpu, transition))


def spec_of(intent: NodeIntent, epoch: LeaseEpoch) -> dict[str, Any]:
    """`GPUNode.spec` as JSON values, the transition in the writer's own `epoch`.

    Every field is named, also the empty ones: in a merge patch an absent field would keep its old value.
    """
    devices = [
        msgspec.to_builtins(DesiredDevice(pci_address=address, mode=mode.value, plan_id=plan_id))
        for address, mode, plan_id in intent.desired
    ]
    without_transition = {
        "devices": devices,
        "backoffs": [msgspec.to_builtins(_backoff(b)) for b in intent.backoffs],
        "disturbances": [
            msgspec.to_builtins(
                DisturbanceSpec(to_rfc3339(d.started_at), d.plugin_stops, round(d.closed_seconds))
            )
            for d in intent.disturbances[-MOST_DISTURBANCES:]
        ],
    }
    transition = intent.transition
    if transition is None:
        return {**without_transition, "transition": None}
    spec = TransitionSpec(
        plan_id=transition.plan_id,
        epoch=epoch,
        to_mode=transition.to_mode.value,
        devices=tuple(transition.devices),
        step=transition.step.value,
        started_at=to_rfc3339(transition.started_at),
        step_started_at=to_rfc3339(transition.step_started_at),
    )
    written = {
        **msgspec.to_builtins(spec),
        "reason": transition.reason,
        "message": transition.message,
        "rollback": transition.rollback,
    }
    return {**without_transition, "transition": written}


def _backoff(found: Backoff) -> BackoffSpec:
    return BackoffSpec(
        found.pci_address,
        found.reason,
        found.message[:LONGEST_MESSAGE],
        found.failures,
        to_rfc3339(found.failed_at),
        to_rfc3339(found.until),
    )
