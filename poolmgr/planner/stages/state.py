"""A plan in the making: what is left to give, and what has been decided so far."""

from dataclasses import dataclass, field

from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Move, Refusal
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.candidates import CandidateIndex
from poolmgr.planner.inventory.eligibility import Denial
from poolmgr.planner.inventory.inventory import GpuGroup, Inventory
from poolmgr.planner.inventory.node import GroupKey, Unit
from poolmgr.planner.limits import PoolBudget
from poolmgr.planner.sizing.headroom import Headroom


@dataclass(slots=True)
class PlanState:
    """A plan in the making."""

    snapshot: ClusterSnapshot
    stock: Inventory
    budgets: dict[str, PoolBudget]
    explain: bool = True
    """False leaves out sentences about what stays as it is: for replays of weeks."""
    moves: list[Move] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    moved: dict[int, None] = field(default_factory=dict)
    """ids of the units that move."""
    moved_uuids: set[str] = field(default_factory=set)
    directions: dict[NodeName, Mode] = field(default_factory=dict)
    shortages: dict[str, Denial] = field(default_factory=dict)
    """Resource → what its GPUs are doing, said once for all VMs that it lacks for."""
    held_back: dict[GroupKey, Denial] = field(default_factory=dict)
    """What stopped further moves from a shelf: becomes the reason of its idle GPUs."""

    spares: dict[GroupKey, Headroom] = field(default_factory=dict)
    _boards: dict[GroupKey, CandidateIndex] = field(default_factory=dict)

    def board(self, key: GroupKey) -> CandidateIndex:
        """The shelf's board, made when the first VM asks for it."""
        board = self._boards.get(key)
        if board is None:
            board = self._boards[key] = CandidateIndex(self.stock.shelves[key])
        return board

    def move(self, shelf: GpuGroup, unit: Unit, to_mode: Mode, reason: Reason, message: str) -> None:
        budget = self.budgets[shelf.pool.name]
        budget.spend(to_mode, unit.size)
        self.moved[id(unit)] = None
        node = unit.gpus[0].node
        self.directions[node] = to_mode
        for gpu in unit.gpus:
            self.moved_uuids.add(gpu.uuid)
            self.moves.append(
                Move(
                    node,
                    gpu.pci_address,
                    gpu.uuid,
                    shelf.pool.name,
                    gpu.model,
                    to_mode,
                    reason,
                    message,
                    unit.evict,
                    unit.wait_for,
                    recommended=shelf.pool.recommend_only,
                )
            )
