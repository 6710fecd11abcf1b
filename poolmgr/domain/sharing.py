"""What the sharing layer (HAMi) shows of one node. The executor decides its steps on this."""

from dataclasses import dataclass

from poolmgr.domain.identifiers import GpuUuid


@dataclass(frozen=True, slots=True)
class RegisteredGpu:
    """One entry of HAMi's register annotation."""

    uuid: GpuUuid
    split_count: int
    memory_mib: int
    cores_percent: int
    model: str
    healthy: bool
    index: int = 0
    numa: int = 0


@dataclass(frozen=True, slots=True)
class SharingState:
    """HAMi on one node, from the Node object and its plugin's pods."""

    version: tuple[int, int]
    """Minor release of the scheduler found in the cluster, e.g. (2, 10); the recipe differs by it."""
    plugin_wanted: bool
    """The node carries the labels that the plugin's DaemonSet selects."""
    plugin_pods: int
    """Plugin pods bound to the node, terminating ones included."""
    plugin_ready: bool
    """One of them is Ready."""
    allocatable: int
    """Slices in `status.allocatable`; 0 once the kubelet has dropped the plugin."""
    registered: tuple[RegisteredGpu, ...]
    """The register annotation, decoded; empty when absent."""
    handshake: str = ""
    """The scheduler's handshake annotation, raw; empty when absent."""
    asked_for: str = ""
    """The plan for which its scheduler was last asked to look at the node. From 2.10 on the handshake was removed
    then, so one that is there again was stamped later. Empty when it was not asked since the last move."""
    asked_at: float = 0.0
    """Unix seconds."""
    opened_at: float = 0.0
    """For when its scheduler had last been asked to look when the node was opened after that, whole Unix seconds; 0 where it never was."""
    locked_by: str = ""
    """Owner in HAMi's node lock; empty when free."""
    allocating: int = 0
    """Pods on the node between HAMi's bind and the plugin's answer."""
    last_placement_at: float = 0.0
    """Unix seconds of the newest placement that HAMi wrote for a pod on this node."""
    fenced: frozenset[GpuUuid] = frozenset()
    """GPUs that we have closed to new pods by HAMi's own device cordon, which its scheduler has read since."""
    closing: frozenset[GpuUuid] = frozenset()
    """Those of ours that its device cordon names, whether its scheduler has taken note of it or not."""
