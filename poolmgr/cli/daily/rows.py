"""Pools, nodes, GPUs, workloads, moves, reservations and quotas of one reading, as rows. Pure."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from poolmgr.api import present, schemas
from poolmgr.cli.daily.listing import Listing, Row, age
from poolmgr.cluster.look import Look
from poolmgr.domain.census import Census, GpuUse
from poolmgr.domain.demand import DeviceClaim, SharedPod, Vm
from poolmgr.domain.fleet import Node, SideLimits, Transition
from poolmgr.domain.plan import Plan, Subject, SubjectKind
from poolmgr.domain.quota import gpus_text
from poolmgr.domain.usage import GpuState
from poolmgr.wire.instants import to_rfc3339, unix_or_zero
from poolmgr.wire.kinds import GPU_NODES, GPU_POOLS, GPU_RESERVATIONS

UNKNOWN = "?"
"""Where the caller may not read what the cell would say."""


def pools(look: Look, census: Census, plan: Plan | None) -> Listing:
    return Listing(
        (
            "NAME",
            "REBALANCE",
            "GPUS",
            "VM GPUS",
            "VM USED",
            "SHARED",
            "SHARED USED",
            "MOVING",
            "TROUBLE",
            "WAITING",
        ),
        ("VM BOUNDS", "SHARED BOUNDS", "MODELS", "READY", "MESSAGE"),
        tuple(_pool(look, census, plan, name) for name in sorted(look.pools)),
    )


def _pool(look: Look, census: Census, plan: Plan | None, name: str) -> Row:
    found = next(pool for pool in look.snapshot.pools if pool.name == name)
    count = census.pool(found.name)
    ready = next((c for c in look.pools[name].status.conditions if c.type == "Ready"), None)
    cells = (
        name,
        found.rebalance.value,
        str(count.gpus),
        str(count.passthrough),
        str(count.passthrough_used),
        str(count.shared),
        str(count.shared_used),
        str(count.moving),
        str(count.trouble),
        _waiting(count.waiting_vms, count.waiting_pods),
        _bounds(found.passthrough),
        _bounds(found.shared),
        ",".join(found.models) or "all",
        ready.status if ready else UNKNOWN,
        ready.message if ready else "the manager has not reported on it yet",
    )
    return Row(
        f"gpupool.{GPU_POOLS.group}/{name}", cells, _value(schemas.Pool, present.pool(found, census, plan))
    )


def _waiting(vms: int, pods: int) -> str:
    said = [f"{vms} VM" if vms == 1 else f"{vms} VMs"] if vms else []
    said += [f"{pods} pod" if pods == 1 else f"{pods} pods"] if pods else []
    return ", ".join(said) or "0"


def _bounds(side: SideLimits) -> str:
    headroom = f"+{side.headroom}" if side.headroom else ""
    return f"{side.min}..{'' if side.max is None else side.max}{headroom}"


def nodes(look: Look, census: Census) -> Listing:
    rows = []
    now = look.snapshot.taken_at
    for part in sorted(census.nodes, key=lambda p: p.node.name):
        node, wire = part.node, look.nodes[part.node.name]
        states = [use.state for use in part.uses]
        cells = (
            node.name,
            readiness(node),
            str(len(part.uses)),
            str(sum(use.gpu.observed_mode == "Passthrough" for use in part.uses)),
            str(sum(use.gpu.observed_mode == "Shared" for use in part.uses)),
            str(states.count(GpuState.IN_USE)),
            str(states.count(GpuState.IDLE)),
            str(states.count(GpuState.TROUBLE)),
            node.transition.step.value if node.transition else "",
            age(now - node.agent.since) if node.agent.since else "never" if node.agent.silent else UNKNOWN,
            wire.status.agent_version or UNKNOWN,
            wire.status.kernel or UNKNOWN,
            ".".join(map(str, node.sharing.version)) if node.sharing else "",
        )
        name = f"gpunode.{GPU_NODES.group}/{node.name}"
        rows.append(Row(name, cells, _value(schemas.Node, present.node(part, "", look.snapshot.taken_at))))
    return Listing(
        ("NAME", "STATUS", "GPUS", "VM GPUS", "SHARED", "IN USE", "IDLE", "TROUBLE", "MOVE", "HEARD"),
        ("AGENT", "KERNEL", "HAMI"),
        tuple(rows),
    )


def readiness(node: Node) -> str:
    """One word on whether what is said of its GPUs can be believed."""
    if not node.agent.heard:
        said = "AgentSilent"
    elif not node.ready:
        said = "NotReady"
    elif not node.reported:
        said = "NotReported"
    else:
        said = "Ready"
    return f"{said},Cordoned" if node.cordoned else said


def gpus(look: Look, census: Census) -> Listing:
    rows = [
        _gpu(use, part.node, look)
        for part in sorted(census.nodes, key=lambda p: p.node.name)
        for use in part.uses
    ]
    return Listing(
        ("GPU", "MODEL", "POOL", "MODE", "STATE", "FOR", "USED BY"),
        ("MOVABLE", "UUID", "IOMMU GROUP", "MEMORY MIB", "MESSAGE"),
        tuple(rows),
    )


def _gpu(use: GpuUse, node: Node, look: Look) -> Row:
    gpu, now = use.gpu, look.snapshot.taken_at
    name = f"{gpu.node}/{gpu.pci_address}"
    cells = (
        name,
        gpu.model,
        gpu.pool or "",
        gpu.observed_mode.value if gpu.observed_mode else "",
        gpu_state(use, node, look),
        age(now - gpu.mode_since) if gpu.mode_since else "",
        ", ".join(present.users(use)),
        "yes" if gpu.rebind else f"no: {gpu.rebind.reason}",
        gpu.uuid,
        "" if gpu.iommu_group is None else str(gpu.iommu_group),
        str(gpu.memory_mib),
        gpu.message or ("" if gpu.rebind else gpu.rebind.message),
    )
    value = _value(schemas.Gpu, present.node_gpu(use)) | {"state": gpu_state(use, node, look)}
    return Row(f"gpu/{name}", cells, {"node": gpu.node, **value})


def gpu_state(use: GpuUse, node: Node, look: Look) -> str:
    """Its state. Unknown on a node whose agent or kubelet does not vouch for it; and nothing is called idle where the caller
    may not see who would use it."""
    known = node.ready and (look.snapshot.synced or use.state is not GpuState.IDLE)
    return use.state.value if known else "Unknown"


def workloads(look: Look, plan: Plan | None, namespace: str) -> Listing:
    now = look.snapshot.taken_at
    said = {r.subject: r for r in plan.refusals} if plan else {}
    rows = []
    everyone: list[tuple[str, Vm | SharedPod]] = [("vm", vm) for vm in look.snapshot.vms]
    everyone += [("pod", pod) for pod in look.snapshot.pods]
    for kind, each in sorted(everyone, key=lambda pair: (pair[0] != "vm", pair[1].namespace, pair[1].name)):
        if namespace not in ("", each.namespace):
            continue
        subject = Subject(SubjectKind.VM if kind == "vm" else SubjectKind.POD, each.namespace, each.name)
        refusal = said.get(subject) if each.waiting else None
        reason, message = (refusal.reason, refusal.message) if refusal else ("", "")
        rows.append(_workload(kind, each, reason, message, now))
    return Listing(
        ("KIND", "NAMESPACE", "NAME", "GPUS", "STATE", "FOR", "NODE", "REASON"), ("MESSAGE",), tuple(rows)
    )


def _workload(kind: str, each: Vm | SharedPod, reason: str, message: str, now: float) -> Row:
    state = "Waiting" if each.waiting else "Running"
    since = since_of(each)
    cells = (
        kind,
        each.namespace,
        each.name,
        asked(each),
        state,
        age(now - since) if since else "",
        each.node or "",
        reason,
        message,
    )
    value = {
        "kind": "VirtualMachineInstance" if kind == "vm" else "Pod",
        "namespace": each.namespace,
        "name": each.name,
        "gpus": each.gpus,
        "state": state,
        "since": to_rfc3339(since) if since else None,
        "node": each.node,
        "reason": str(reason),
        "message": message,
    }
    return Row(f"{kind}/{each.namespace}/{each.name}", cells, value)


def asked(each: Vm | SharedPod) -> str:
    """What it asks for, e.g. `2 x nvidia.com/GA102GL_A10` or `1 x 4096 MiB`."""
    if isinstance(each, Vm):
        claims: tuple[DeviceClaim, ...] = each.claims
        return ", ".join(f"{claim.count} x {claim.resource_name}" for claim in claims)
    size = (
        f"{each.memory_mib} MiB"
        if each.memory_mib
        else f"{each.memory_percent}%"
        if each.memory_percent
        else "card"
    )
    return f"{each.gpus} x {size}"


def since_of(each: Vm | SharedPod) -> float:
    """Unix seconds since when it is in its state; 0 where nobody knows."""
    if each.waiting:
        return each.waiting_since or each.created_at
    return (each.started_at or each.created_at) if isinstance(each, SharedPod) else each.created_at


def moves(look: Look) -> Listing:
    rows = [_move(t, look.snapshot.taken_at) for t in look.snapshot.transitions]
    return Listing(
        ("NODE", "GPUS", "TO", "STEP", "FOR", "IN STEP", "REASON", "MESSAGE"),
        ("PLAN", "UNDOING"),
        tuple(rows),
    )


def _move(transition: Transition, now: float) -> Row:
    cells = (
        transition.node,
        ",".join(transition.devices),
        transition.to_mode.value,
        transition.step.value,
        age(now - transition.started_at),
        age(now - transition.step_started_at),
        transition.reason,
        transition.message,
        transition.plan_id,
        "yes" if transition.rollback else "no",
    )
    return Row(
        f"move/{transition.node}", cells, _value(schemas.Transition, present.move_under_way(transition))
    )


def reservations(look: Look, plan: Plan | None, namespace: str) -> Listing:
    states = {(s.namespace, s.name): s for s in plan.reservations} if plan else {}
    rows = []
    for found in look.snapshot.reservations:
        if namespace not in ("", found.namespace):
            continue
        state = states.get((found.namespace, found.name))
        value = _value(schemas.Reservation, present.reservation(found, state))
        window = value["window"] or {"start": "", "end": ""}
        cells = (
            found.namespace,
            found.name,
            str(found.gpus),
            found.model,
            found.mode.value,
            value["phase"] or UNKNOWN,
            UNKNOWN if state is None else str(state.ready),
            UNKNOWN if state is None else str(state.used),
            window["start"],
            window["end"],
            value["reason"],
            value["message"],
        )
        name = f"gpureservation.{GPU_RESERVATIONS.group}/{found.name}"
        rows.append(Row(name, cells, value))
    return Listing(
        ("NAMESPACE", "NAME", "GPUS", "MODEL", "MODE", "PHASE", "READY", "USED", "START", "END"),
        ("REASON", "MESSAGE"),
        tuple(rows),
    )


def quotas(plan: Plan | None, namespace: str) -> Listing:
    """What namespaces hold of pools that limit or weigh them."""
    rows = []
    for use in plan.quota_uses if plan else ():
        if namespace not in ("", use.namespace):
            continue
        cells = (
            use.pool,
            use.namespace,
            gpus_text(use.used),
            "" if use.max_gpus is None else gpus_text(use.max_gpus),
            gpus_text(use.waiting),
            f"{use.weight:g}",
        )
        value = {"pool": use.pool, **_value(schemas.Quota, present.quota(use))}
        rows.append(Row(f"quota/{use.pool}/{use.namespace}", cells, value))
    return Listing(("POOL", "NAMESPACE", "USED", "LIMIT", "WAITING", "WEIGHT"), (), tuple(rows))


def plans(answer: Mapping[str, Any]) -> Listing:
    """Of `GET /plans`."""
    rows = []
    for plan, value in zip(schemas.PlanList.model_validate(answer).items, answer["items"], strict=True):
        moved = [f"{move.node}/{move.pci_address} to {move.to_mode}" for move in plan.moves]
        cells = (
            plan.plan_id,
            plan.made_at,
            plan.pool,
            plan.outcome,
            str(len(plan.moves)),
            str(len(plan.refusals) + plan.refusals_left_out),
            ", ".join(moved),
        )
        rows.append(Row(f"plan/{plan.plan_id}", cells, value))
    return Listing(("PLAN", "MADE AT", "POOL", "OUTCOME", "MOVES", "REFUSALS"), ("WHAT",), tuple(rows))


def history(answer: Mapping[str, Any]) -> Listing:
    """Of `GET /transitions`: past moves, newest first."""
    rows = []
    past = schemas.TransitionList.model_validate(answer).items
    for move, value in zip(past, answer["items"], strict=True):
        last = move.steps[-1] if move.steps else None
        took = unix_or_zero(move.ended_at) - unix_or_zero(move.started_at)
        outcome = "RolledBack" if move.rolled_back else "Completed" if move.ended_at else "Running"
        cells = (
            move.started_at,
            move.node,
            ",".join(move.devices),
            move.to_mode,
            outcome,
            age(took) if move.ended_at else "",
            last.reason if last else "",
            move.plan_id,
            last.message if last else "",
        )
        rows.append(Row(f"move/{move.plan_id}/{move.node}", cells, value))
    return Listing(
        ("STARTED", "NODE", "GPUS", "TO", "OUTCOME", "TOOK", "LAST REASON"), ("PLAN", "MESSAGE"), tuple(rows)
    )


def _value(kind: type[Any], found: Any) -> dict[str, Any]:
    """As the REST API answers it."""
    value: dict[str, Any] = TypeAdapter(kind).dump_python(found, mode="json", by_alias=True)
    return value
