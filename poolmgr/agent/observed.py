"""One GPU as one look at the node found it."""

from dataclasses import dataclass

from poolmgr.agent.inventory import Accelerator
from poolmgr.domain.fleet import Holder


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why it cannot be told who uses a GPU, and what to do about it."""

    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class ObservedGpu:
    gpu: Accelerator
    holders: tuple[Holder, ...] = ()
    allocated_to: str = ""
    """UID (or namespace/name) of the pod that the kubelet gave it to; further ones are among the holders."""
    shared_pods: tuple[str, ...] = ()
    """Pods of the sharing layer that have a slice of it."""
    listed: bool = False
    """The kubelet lists it among its allocatable passthrough devices."""
    kubelet_known: bool = True
    """False when the kubelet could not be asked."""
    write_in_flight: bool = False
    """A write about it has not returned from the kernel."""
    mig_enabled: bool | None = False
    """None: NVML does not say."""
    uuid: str = ""
    """As NVML or the driver tells it now; empty where neither does."""
    doubts: tuple[Doubt, ...] = ()
    """Witnesses that contradict each other, and what was given away of which nobody says which GPU it is."""
