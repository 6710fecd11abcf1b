"""What admission asks about one GPU, and about one node: made anew only for nodes that have changed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from poolmgr.domain.denials import lasting_denial
from poolmgr.domain.fleet import Gpu, Node, Pool
from poolmgr.domain.identifiers import NodeName, PoolName
from poolmgr.domain.modes import Mode
from poolmgr.domain.placement import Taint
from poolmgr.domain.reasons import Reason
from poolmgr.domain.usage import (
    GpuState,
    in_use,
    is_closed_to_pods,
    is_leaving,
    is_open,
    state_of,
)


@dataclass(frozen=True, slots=True)
class GpuView:
    """One GPU and what admission asks about it."""

    gpu: Gpu
    moving: bool
    """A move names it."""
    leaving: bool
    """On its way to passthrough."""
    closed_to_pods: bool
    """It leaves the shared side, or an operator withdraws it from there."""
    free: bool
    """Idle in Passthrough, on a node that takes workloads."""
    usable: bool
    """Neither in trouble, nor withdrawn by an operator, nor on a node that takes no workloads, or whose agent is silent."""
    held: Reason | None = None
    """What holds it on its side for longer than a move takes, its users apart, as far as a GPUNode tells; None where nothing
    does."""

    @classmethod
    def of(cls, gpu: Gpu, node: Node, pool: Pool | None, now: float) -> "GpuView":
        transition, open_ = node.transition, is_open(node) and not node.silence_noted
        state = state_of(gpu, transition, in_use(gpu, (), None))
        return cls(
            gpu,
            transition is not None and gpu.pci_address in transition.devices,
            is_leaving(gpu, transition),
            is_closed_to_pods(gpu, transition),
            open_ and state is GpuState.IDLE and gpu.observed_mode is Mode.PASSTHROUGH,
            open_ and state is not GpuState.TROUBLE and gpu.closed is None,
            _holds(gpu, node, pool, now),
        )

    @property
    def arrives_in(self) -> Mode | None:
        """The side that it is about to serve."""
        if not self.usable:
            return None
        if self.leaving:
            return Mode.PASSTHROUGH
        wanted, mode = self.gpu.desired_mode, self.gpu.observed_mode
        return Mode.SHARED if wanted is Mode.SHARED and (self.moving or mode is not Mode.SHARED) else None

    @property
    def side(self) -> Mode | None:
        """The one that it serves, or is about to; None where nobody can use it."""
        return (self.arrives_in or self.gpu.observed_mode) if self.usable else None


def _holds(gpu: Gpu, node: Node, pool: Pool | None, now: float) -> Reason | None:
    if pool is not None and pool.recommend_only:
        return Reason.RECOMMEND_ONLY
    denial = lasting_denial(gpu, node, pool, now)
    return denial[0] if denial else None


@dataclass(frozen=True, slots=True)
class SeenNode:
    """What one node adds to a view."""

    name: NodeName
    labels: dict[str, str]
    gpus: tuple[GpuView, ...]
    census: dict[str, int]
    taints: tuple[Taint, ...] = ()
    withheld_labels: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, node: Node, pools: Mapping[PoolName, Pool], now: float) -> "SeenNode":
        """`now`, Unix seconds: of the time only this is asked, who still rests."""
        gpus = tuple(
            [GpuView.of(g, node, pools.get(g.pool) if g.pool is not None else None, now) for g in node.gpus]
        )
        return cls(
            node.name,
            dict(node.labels),
            gpus,
            dict(Counter(gpu.model for gpu in node.gpus)),
            node.lasting_taints,
            dict(node.withheld_labels),
        )
