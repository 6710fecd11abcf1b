"""What a pool's status says: numbers for columns, one reason and one sentence for people. Pure."""

from poolmgr.controller.ports import PoolStatus
from poolmgr.domain.fleet import Gpu, Pool
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.plan import Plan, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot

TROUBLE = frozenset({DevicePhase.QUARANTINED, DevicePhase.UNBOUND})


def pool_status(pool: Pool, snapshot: ClusterSnapshot, plan: Plan | None) -> PoolStatus:
    """Count one pool's GPUs and waiting demand. `plan` is the last decision, for its sentence."""
    gpus = [g for node in snapshot.nodes for g in node.gpus if g.pool == pool.name]
    moving = {
        (node.name, address)
        for node in snapshot.nodes
        if node.transition is not None
        for address in node.transition.devices
    }
    in_use = _in_use(snapshot)
    models = {g.model.casefold() for g in gpus}
    resources = {g.resource_name for g in gpus}
    vms = [v for v in snapshot.vms if v.waiting and any(c.resource_name in resources for c in v.claims)]
    pods = [
        p for p in snapshot.pods if p.waiting and any(p.accepts(m, g.uuid) for m, g in _one_per_model(gpus))
    ]
    trouble = [g for g in gpus if g.phase in TROUBLE]
    under_way = sum((g.node, g.pci_address) in moving for g in gpus)
    reason, message = _sentence(pool, trouble, under_way, len(vms), len(pods), plan, models)
    return PoolStatus(
        observed_generation=pool.generation,
        gpus=len(gpus),
        passthrough=sum(g.observed_mode is Mode.PASSTHROUGH for g in gpus),
        passthrough_used=sum(
            g.observed_mode is Mode.PASSTHROUGH and (g.node, g.pci_address) in in_use for g in gpus
        ),
        shared=sum(g.observed_mode is Mode.SHARED for g in gpus),
        shared_used=sum(g.observed_mode is Mode.SHARED and (g.node, g.pci_address) in in_use for g in gpus),
        moving=under_way,
        trouble=len(trouble),
        waiting_vms=len(vms),
        waiting_pods=len(pods),
        reason=reason,
        message=message,
    )


def _one_per_model(gpus: list[Gpu]) -> list[tuple[str, Gpu]]:
    return list({g.model: g for g in gpus}.items())


def _in_use(snapshot: ClusterSnapshot) -> set[tuple[str, str]]:
    used: set[tuple[str, str]] = {(node, address) for vm in snapshot.vms for node, address in vm.devices}
    uuids = {piece.uuid for pod in snapshot.pods for piece in pod.slices}
    for node in snapshot.nodes:
        for gpu in node.gpus:
            if gpu.allocated_to or (gpu.uuid and gpu.uuid in uuids):
                used.add((node.name, gpu.pci_address))
    return used


def _sentence(
    pool: Pool,
    trouble: list[Gpu],
    moving: int,
    vms: int,
    pods: int,
    plan: Plan | None,
    models: set[str],
) -> tuple[Reason, str]:
    if not models:
        return Reason.NOT_IN_POOL, "no GPU of the cluster matches this pool's models and node selector"
    if trouble:
        first = trouble[0]
        return (
            Reason.GPU_UNHEALTHY,
            f"{len(trouble)} GPU(s) need a human, first {first.pci_address} on {first.node}: "
            f"{first.message or first.phase.value}",
        )
    if moving:
        return Reason.GPU_MOVING, f"{moving} GPU(s) on the way between the sides"
    if vms or pods:
        return _waiting(pool, vms, pods, plan)
    return Reason.IN_PLACE, "every GPU is where it serves best; nobody waits"


def _waiting(pool: Pool, vms: int, pods: int, plan: Plan | None) -> tuple[Reason, str]:
    demand = [SubjectKind.VM, SubjectKind.POD] if vms else [SubjectKind.POD]
    refusals = plan.refusals if plan else ()
    first = next((r for kind in demand for r in refusals if r.subject.kind is kind), None)
    head = f"{vms} VM(s) and {pods} pod(s) wait for GPUs of pool {pool.name}"
    if first is None:
        return Reason.NO_CANDIDATE, head
    return first.reason, f"{head}; first {first.subject.namespace}/{first.subject.name}: {first.message}"
