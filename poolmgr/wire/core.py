"""Node and Pod, with the annotations that this project reads as named fields.

Annotations are a Struct rather than a dict: of the kilobytes that other controllers leave there only these
keys are kept.
"""

import msgspec

from poolmgr.wire.meta import Condition, OwnerReference, Wire

Quantities = dict[str, str | int]


class NodeAnnotations(Wire, frozen=True):
    cordoned: str = msgspec.field(name="poolmgr.io/cordoned", default="")
    """Ours: the plan that cordoned the node."""
    fenced: str = msgspec.field(name="poolmgr.io/fenced", default="")
    """Ours: the GPU UUIDs that we put into HAMi's device cordon, comma-separated."""
    asked: str = msgspec.field(name="poolmgr.io/asked", default="")
    """Ours: `PLAN@UNIX-SECONDS`, for which plan and when HAMi's scheduler was last made to look."""
    plugin_labels: str = msgspec.field(name="poolmgr.io/plugin-labels", default="")
    """Ours: JSON object of the labels that we removed to stop HAMi's plugin, to put back exactly."""
    epoch: str = msgspec.field(name="poolmgr.io/epoch", default="")
    """Ours: lease epoch of the last write."""
    register: str = msgspec.field(name="hami.io/node-nvidia-register", default="")
    score: str = msgspec.field(name="hami.io/node-nvidia-score", default="")
    handshake: str = msgspec.field(name="hami.io/node-handshake", default="")
    lock: str = msgspec.field(name="hami.io/mutex.lock", default="")
    device_cordon: str = msgspec.field(name="hami.io/device-cordon", default="")


class NodeMeta(Wire, frozen=True):
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: NodeAnnotations = NodeAnnotations()


class NodeSpec(Wire, frozen=True):
    unschedulable: bool = False


class NodeCondition(Wire, frozen=True):
    """Without its heartbeat time, so that a node that only beat compares equal."""

    type: str
    status: str


class NodeStatus(Wire, frozen=True):
    allocatable: Quantities = {}
    conditions: tuple[NodeCondition, ...] = ()


class Node(Wire, frozen=True):
    metadata: NodeMeta = NodeMeta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class PodAnnotations(Wire, frozen=True):
    best_effort: str = msgspec.field(name="poolmgr.io/best-effort", default="")
    use_type: str = msgspec.field(name="nvidia.com/use-gputype", default="")
    nouse_type: str = msgspec.field(name="nvidia.com/nouse-gputype", default="")
    use_uuid: str = msgspec.field(name="nvidia.com/use-gpuuuid", default="")
    nouse_uuid: str = msgspec.field(name="nvidia.com/nouse-gpuuuid", default="")
    excluded_by_us: str = msgspec.field(name="poolmgr.io/excluded-by-poolmgr", default="")
    """Ours: the part of `nouse_uuid` that our webhook added while those GPUs leave."""
    vgpu_node: str = msgspec.field(name="hami.io/vgpu-node", default="")
    vgpu_time: str = msgspec.field(name="hami.io/vgpu-time", default="")
    allocated: str = msgspec.field(name="hami.io/vgpu-devices-allocated", default="")
    to_allocate: str = msgspec.field(name="hami.io/vgpu-devices-to-allocate", default="")
    bind_phase: str = msgspec.field(name="hami.io/bind-phase", default="")
    mig_allocations: str = msgspec.field(name="hami.io/vgpu-mig-allocations", default="")


class PodMeta(Wire, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: PodAnnotations = PodAnnotations()
    owner_references: tuple[OwnerReference, ...] = ()


class Resources(Wire, frozen=True):
    requests: Quantities = {}
    limits: Quantities = {}


class Container(Wire, frozen=True):
    resources: Resources = Resources()
    restart_policy: str = ""
    """`Always` on an init container makes it a sidecar: it runs beside the others."""


class SchedulingGate(Wire, frozen=True):
    name: str


class PodSpec(Wire, frozen=True):
    node_name: str = ""
    scheduler_name: str = "default-scheduler"
    priority: int = 0
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    overhead: Quantities = {}
    scheduling_gates: tuple[SchedulingGate, ...] = ()


class PodStatus(Wire, frozen=True):
    phase: str = ""
    start_time: str | None = None
    conditions: tuple[Condition, ...] = ()


class Pod(Wire, frozen=True):
    metadata: PodMeta = PodMeta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()
