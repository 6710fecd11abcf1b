"""One immutable view of the cluster: all that a planner may know."""

from dataclasses import dataclass

from poolmgr.domain.demand import Reservation, SharedPod, Vm
from poolmgr.domain.fleet import Node, Pool, Transition
from poolmgr.domain.identifiers import Generation


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """What was observed at `taken_at`. A planner refuses one that is not `synced`."""

    generation: Generation
    taken_at: float
    """Unix seconds."""
    synced: bool
    """Every watch has listed once and none is older than the staleness limit."""
    nodes: tuple[Node, ...] = ()
    pools: tuple[Pool, ...] = ()
    vms: tuple[Vm, ...] = ()
    pods: tuple[SharedPod, ...] = ()
    reservations: tuple[Reservation, ...] = ()

    @property
    def transitions(self) -> tuple[Transition, ...]:
        return tuple(n.transition for n in self.nodes if n.transition is not None)
