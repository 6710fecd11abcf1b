"""One immutable view of the cluster: all that a planner may know."""

from dataclasses import dataclass

from poolmgr.domain.demand import SharedPod, Vm
from poolmgr.domain.fleet import Node, Pool, Transition
from poolmgr.domain.identifiers import Generation, NodeName
from poolmgr.domain.reservation import Reservation


@dataclass(frozen=True, slots=True)
class Unread:
    """An object that could not be read and is set aside. Nobody decides on it, and what it may have stays with it."""

    kind: str
    """As `kubectl get` takes it, e.g. `pods`."""
    namespace: str
    name: str
    why: str
    """What is wrong with it: the end of a sentence."""
    node: NodeName | None = None
    """Whose GPUs it may have, and nobody can say which."""
    uid: str = ""
    """Of the pod by which the agents would know it on a GPU."""

    @property
    def what(self) -> str:
        """As a sentence names it."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


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
    unread: tuple[Unread, ...] = ()
    """What could not be read of the cluster, sorted."""

    @property
    def transitions(self) -> tuple[Transition, ...]:
        return tuple(n.transition for n in self.nodes if n.transition is not None)
