"""One pool's part of a decision, for an operator who asked about that pool. Pure."""

from poolmgr.domain.plan import Plan, Subject, SubjectKind
from poolmgr.domain.snapshot import ClusterSnapshot


def of_pool(plan: Plan, pool: str, snapshot: ClusterSnapshot) -> Plan:
    """The part of a plan that concerns one pool."""
    members = {(g.node, g.pci_address) for n in snapshot.nodes for g in n.gpus if g.pool == pool}

    def concerns(subject: Subject) -> bool:
        match subject.kind:
            case SubjectKind.GPU:
                return (subject.namespace, subject.name) in members
            case SubjectKind.POOL:
                return subject.name == pool
            case SubjectKind.NODE:
                return any(node == subject.name for node, _ in members)
        return True

    return Plan(
        plan_id=plan.plan_id,
        snapshot_generation=plan.snapshot_generation,
        made_at=plan.made_at,
        moves=tuple(m for m in plan.moves if m.pool == pool),
        refusals=tuple(r for r in plan.refusals if concerns(r.subject)),
        targets=tuple(t for t in plan.targets if t.pool == pool),
    )
