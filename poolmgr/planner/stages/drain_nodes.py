"""GPUs of nodes that an operator gives back to one side, each as soon as nobody uses it.

The directive closes them to whoever comes, so nobody is evicted and nothing is waited for here. Mode, bounds and budget of the
pool hold as for any move.
"""

from poolmgr.domain.denials import name_of
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Refusal, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.planner.stages.state import PlanState, Proposal, StageResult


def drain_nodes(state: PlanState) -> StageResult:
    """Idle GPUs on the side that the node is drained from."""
    proposal = Proposal(state)
    for key, group in state.inventory.groups.items():
        for name, at in group.nodes.items():
            to = at.node.directives.drain_to
            if to is None or proposal.direction(name) not in (None, to):
                continue
            for unit in at.to_passthrough if to is Mode.PASSTHROUGH else at.to_shared:
                if proposal.is_moved(unit):
                    continue
                denial = proposal.budgets[key[0]].denial(to, unit.size)
                if denial is None:
                    message = f"{name_of(unit.gpus[0])} is idle, and an operator is draining {name} to {to}"
                    proposal.move(key, unit, to, Reason.NODE_DRAINED, message)
                    continue
                proposal.refusals += [
                    Refusal(
                        Subject(SubjectKind.GPU, gpu.node, gpu.pci_address),
                        denial[0],
                        f"an operator is draining {name} to {to}, but {name_of(gpu)} has to wait: {denial[1]}",
                    )
                    for gpu in unit.gpus
                ]
    return proposal.result()
