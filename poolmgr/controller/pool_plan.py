"""One pool's part of a decision, for an operator who asked about that pool. Pure."""

from dataclasses import replace

from poolmgr.domain.plan import Move, Plan, Subject, SubjectKind
from poolmgr.domain.snapshot import ClusterSnapshot


def left_of(plan: Plan, snapshot: ClusterSnapshot) -> Plan:
    """The plan without the moves that have been begun since it was made."""
    nodes = {node.name: node for node in snapshot.nodes}

    def begun(move: Move) -> bool:
        gpu = nodes[move.node].gpu(move.pci_address) if move.node in nodes else None
        return gpu is not None and gpu.desired_mode is move.to_mode

    return replace(plan, moves=tuple(move for move in plan.moves if not begun(move)))


def of_pool(plan: Plan, pool: str, snapshot: ClusterSnapshot) -> Plan:
    """The part of a plan that concerns one pool."""
    members = {(g.node, g.pci_address) for n in snapshot.nodes for g in n.gpus if g.pool == pool}
    nodes = {node for node, _ in members}

    def concerns(subject: Subject) -> bool:
        match subject.kind:
            case SubjectKind.GPU:
                return (subject.namespace, subject.name) in members
            case SubjectKind.POOL:
                return subject.name == pool
            case SubjectKind.NODE:
                return subject.name in nodes
        return True

    return Plan(
        plan_id=plan.plan_id,
        snapshot_generation=plan.snapshot_generation,
        made_at=plan.made_at,
        moves=tuple(m for m in plan.moves if m.pool == pool),
        refusals=tuple(r for r in plan.refusals if concerns(r.subject)),
        targets=tuple(t for t in plan.targets if t.pool == pool),
    )
