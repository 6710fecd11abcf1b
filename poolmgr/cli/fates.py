"""What a plan says of each GPU and workload, found by its name. Pure."""

from poolmgr.domain.fleet import Gpu
from poolmgr.domain.plan import Move, Plan, Refusal, Subject, SubjectKind
from poolmgr.domain.reasons import Reason


class Fates:
    def __init__(self, plan: Plan) -> None:
        self._moves = {(move.node, move.pci_address): move for move in plan.moves}
        self._refusals: dict[Subject, Refusal] = {}
        for refusal in plan.refusals:
            self._refusals.setdefault(refusal.subject, refusal)

    def move(self, gpu: Gpu) -> Move | None:
        return self._moves.get((gpu.node, gpu.pci_address))

    def stays(self, gpu: Gpu) -> tuple[Reason, str]:
        """Why a GPU that the plan does not move stays: code and sentence."""
        # A view that is not complete is refused as a whole, pool by pool.
        whole = Subject(SubjectKind.POOL, "", gpu.pool or "")
        refusal = self._refusals.get(
            Subject(SubjectKind.GPU, gpu.node, gpu.pci_address)
        ) or self._refusals.get(whole)
        if refusal is None:
            return Reason.NOT_IN_POOL, f"no GPUPool selects GPU {gpu.pci_address} of {gpu.node}"
        return refusal.reason, refusal.message

    def waits(self, kind: SubjectKind, namespace: str, name: str) -> tuple[Reason, str]:
        """Why a workload waits: code and sentence."""
        refusal = self._refusals.get(Subject(kind, namespace, name))
        if refusal is None:
            return Reason.CANNOT_TELL, "the planner says nothing about it"
        return refusal.reason, refusal.message
