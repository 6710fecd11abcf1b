"""Why a GPU stays, or why a workload waits: since when, and until when. Pure.

Judged anew from the cluster's objects by the planner that the manager runs, without what the manager has learned of
demand. Nothing is judged on an incomplete reading: "cannot tell" is an answer.
"""

from dataclasses import dataclass
from typing import Any

from poolmgr.api import present
from poolmgr.cli.daily.listing import age, aligned
from poolmgr.cli.daily.rows import asked, gpu_state, since_of
from poolmgr.cli.fates import Fates
from poolmgr.cluster.look import Look
from poolmgr.controller.executor.advance import waits_for
from poolmgr.domain.backoff import WHOLE_NODE
from poolmgr.domain.census import Census, GpuUse
from poolmgr.domain.demand import SharedPod, Vm
from poolmgr.domain.errors import Rejected
from poolmgr.domain.fleet import Gpu, Node, Pool, Transition
from poolmgr.domain.modes import Step
from poolmgr.domain.plan import Plan, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.wire.instants import to_rfc3339


@dataclass(frozen=True, slots=True)
class Explanation:
    """What there is to say of one thing, in the order of a person's questions."""

    subject: str
    facts: tuple[tuple[str, str], ...]
    value: dict[str, Any]

    def text(self) -> str:
        return f"{self.subject}\n{aligned([(f'  {name}', text) for name, text in self.facts if text])}"


def judge(look: Look) -> Plan | None:
    """What the planner makes of the reading; None where it is incomplete."""
    from poolmgr.planner.plan import PoolPlanner
    from poolmgr.planner.sizing.learning import LearningSizer

    return PoolPlanner(LearningSizer()).decide(look.snapshot, None).plan if look.snapshot.synced else None


def of_gpu(look: Look, census: Census, plan: Plan | None, gpu: Gpu) -> Explanation:
    """`gpu` is one of the reading's."""
    now = look.snapshot.taken_at
    part = next(part for part in census.nodes if part.node.name == gpu.node)
    use = next(use for use in part.uses if use.gpu.pci_address == gpu.pci_address)
    pool = next((pool for pool in look.snapshot.pools if pool.name == gpu.pool), None)
    fate, reason, message = _fate(look, part.node, gpu, plan)
    until = _until(use, part.node, pool, reason)
    users = present.users(use)
    since = to_rfc3339(gpu.mode_since) if gpu.mode_since else ""
    facts = (
        ("model", f"{gpu.model}, {gpu.memory_mib} MiB, UUID {gpu.uuid or 'not known'}"),
        ("pool", str(gpu.pool or "none: no GPUPool selects it")),
        ("mode", _mode(gpu, now)),
        ("state", f"{gpu_state(use, part.node, look)}{', by ' + ', '.join(users) if users else ''}"),
        (fate, f"{reason}: {message}"),
        ("waits for", _waits(look, part.node, gpu)),
        ("until", until),
        ("agent", _agent(part.node, now)),
    )
    value = {
        "gpu": f"{gpu.node}/{gpu.pci_address}",
        "uuid": gpu.uuid,
        "mode": gpu.observed_mode,
        "since": since or None,
        "state": gpu_state(use, part.node, look),
        "users": users,
        "fate": fate,
        "reason": str(reason),
        "message": message,
        "until": until,
    }
    return Explanation(f"GPU {gpu.node}/{gpu.pci_address}", facts, value)


def _waits(look: Look, node: Node, gpu: Gpu) -> str:
    """Of a GPU that moves: what its step waits for."""
    moves = node.transition is not None and gpu.pci_address in node.transition.devices
    waits = waits_for(node, look.snapshot) if moves and look.snapshot.synced else None
    return waits.message if waits is not None else ""


def _mode(gpu: Gpu, now: float) -> str:
    said = gpu.observed_mode.value if gpu.observed_mode else f"none (driver: {gpu.phase.value})"
    if gpu.mode_since:
        said += f" since {to_rfc3339(gpu.mode_since)} ({age(now - gpu.mode_since)})"
    if gpu.desired_mode not in (None, gpu.observed_mode):
        said += f", wanted in {gpu.desired_mode}"
    return said


def _agent(node: Node, now: float) -> str:
    if not node.agent.heard:
        return node.agent.verdict(node.name).message
    if not node.ready:
        return f"node {node.name} or its agent is not ready, so this cannot be confirmed"
    if not node.reported:
        return f"the agent of {node.name} has not yet answered to the last change of its desired modes"
    return f"heard {age(now - node.agent.since)} ago" if node.agent.since else ""


def _fate(look: Look, node: Node, gpu: Gpu, plan: Plan | None) -> tuple[str, str, str]:
    """`moves`, `is moving`, `stays` or `cannot tell`, with code and sentence."""
    move = node.transition
    if move is not None and gpu.pci_address in move.devices:
        return "is moving", move.reason or Reason.GPU_MOVING, _under_way(move)
    if plan is None:
        return "cannot tell", Reason.CANNOT_TELL, cannot_tell(look)
    fates = Fates(plan)
    if planned := fates.move(gpu):
        verb = "would move (recommended only)" if planned.recommended else "moves"
        return f"{verb} to {planned.to_mode}", planned.reason, planned.message
    return "stays", *fates.stays(gpu)


def _under_way(move: Transition) -> str:
    back = "back " if move.rollback else ""
    return (
        f"{back}to {move.to_mode}, step {move.step} since {to_rfc3339(move.step_started_at)}: {move.message}"
    )


def cannot_tell(look: Look) -> str:
    if not look.unseen:
        return "the reading of the cluster was not complete"
    missing = ", ".join(unseen.kind for unseen in look.unseen)
    return f"your rights do not let this be judged: {missing} cannot be read"


def _until(use: GpuUse, node: Node, pool: Pool | None, reason: str) -> str:
    """What ends the present state, as far as anybody knows."""
    gpu, move = use.gpu, node.transition
    if move is not None and gpu.pci_address in move.devices:
        if move.step is Step.DRAIN and pool is not None and not move.rollback:
            ends = to_rfc3339(move.step_started_at + pool.drain_timeout_seconds)
            return f"its users have left, or {ends}: the move is undone then"
        return "the move is over"
    if reason == Reason.RECENTLY_FAILED:
        rests_until = max(
            (b.until for b in node.backoffs if b.pci_address in (gpu.pci_address, WHOLE_NODE)), default=0.0
        )
        return f"{to_rfc3339(rests_until)}, or `poolmgr retry {gpu.node}`" if rests_until else ""
    if reason == Reason.COOLDOWN and pool is not None:
        return to_rfc3339(gpu.mode_since + pool.cooldown_seconds)
    if use.users:
        return f"{use.users[0].name} ends" if len(use.users) == 1 else "all of its users have ended"
    return ""


def find(
    look: Look, kind: SubjectKind, wanted: str, namespace: str, listed_by: str = "poolmgr get workloads"
) -> Vm | SharedPod:
    """The VM or pod of this name: `NAME` or `NAMESPACE/NAME`. Raises Rejected where there is none, with the command that
    lists them, or several."""
    space, _, name = wanted.rpartition("/")
    space = space or namespace
    everyone: tuple[Vm | SharedPod, ...] = look.snapshot.vms if kind is SubjectKind.VM else look.snapshot.pods
    found = [each for each in everyone if each.name == name and space in ("", each.namespace)]
    noun = "VM" if kind is SubjectKind.VM else "pod"
    if not found:
        where = f" in namespace {space}" if space else ""
        missing = f" ({cannot_tell(look)})" if look.unseen else ""
        raise Rejected(
            Reason.NOT_FOUND,
            f"no {noun} {name!r}{where} asks for a GPU{missing}; `{listed_by}` lists those that do",
        )
    if len(found) > 1:
        spaces = ", ".join(sorted(each.namespace for each in found))
        raise Rejected(
            Reason.INVALID_REQUEST,
            f"there are several {noun}s {name!r}, in {spaces}: give one with --namespace",
        )
    return found[0]


def of_workload(look: Look, plan: Plan | None, kind: SubjectKind, each: Vm | SharedPod) -> Explanation:
    """A VM or a pod of the reading."""
    now, since = look.snapshot.taken_at, since_of(each)
    when = f"{to_rfc3339(since)} ({age(now - since)})" if since else ""
    if each.waiting:
        reason, message = _why_waiting(look, plan, kind, each)
        facts: tuple[tuple[str, str], ...] = (
            ("asks for", asked(each)),
            ("waits", f"{reason}: {message}"),
            ("since", when),
            ("until", _wait_ends(look, reason)),
        )
    else:
        reason, message = Reason.SERVED.value, f"it runs on {each.node}"
        facts = (
            ("asks for", asked(each)),
            ("runs", f"on {each.node}: {', '.join(_places(look, each)) or 'on which GPU is not known yet'}"),
            ("since", when),
            ("stays", _stays(each)),
        )
    value = {
        "kind": kind.value,
        "namespace": each.namespace,
        "name": each.name,
        "state": "Waiting" if each.waiting else "Running",
        "since": to_rfc3339(since) if since else None,
        "reason": str(reason),
        "message": message,
        "node": each.node,
        "gpus": _places(look, each),
    }
    noun = "VM" if kind is SubjectKind.VM else "pod"
    return Explanation(f"{noun} {each.namespace}/{each.name}", facts, value)


def _why_waiting(look: Look, plan: Plan | None, kind: SubjectKind, each: Vm | SharedPod) -> tuple[str, str]:
    if plan is None:
        return Reason.CANNOT_TELL, cannot_tell(look)
    return Fates(plan).waits(kind, each.namespace, each.name)


def _wait_ends(look: Look, reason: str) -> str:
    if reason == Reason.MOVE_UNDER_WAY:
        steps = [f"{t.node} at {t.step}" for t in look.snapshot.transitions]
        return f"the move is over ({', '.join(steps)})" if steps else "the manager has made the move"
    if reason == Reason.FREE_CAPACITY:
        return "the scheduler has placed it"
    return ""


def _places(look: Look, each: Vm | SharedPod) -> list[str]:
    if isinstance(each, Vm):
        return [f"{node}/{address}" for node, address in each.devices]
    uuids = {part.uuid for part in each.slices}
    return [f"{g.node}/{g.pci_address}" for node in look.snapshot.nodes for g in node.gpus if g.uuid in uuids]


def _stays(each: Vm | SharedPod) -> str:
    if isinstance(each, Vm):
        return "until it is stopped: poolmgr ends no VM"
    if each.best_effort:
        return "until it ends, or is evicted for a waiting VM: it is marked best-effort"
    return "until it ends: poolmgr evicts only pods marked best-effort"
