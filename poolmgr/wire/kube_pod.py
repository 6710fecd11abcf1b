"""The Pod object, with the annotations that this project reads as named fields, as `kube_node` does."""

import msgspec

from poolmgr.wire import annotations
from poolmgr.wire.hami import names
from poolmgr.wire.meta import Condition, OwnerReference, Quantities, Wire
from poolmgr.wire.scheduling import Affinity, ClaimSource, ContainerPort, TopologySpread, WireToleration


class PodAnnotations(Wire, frozen=True):
    best_effort: str = msgspec.field(name=annotations.BEST_EFFORT, default="")
    use_type: str = msgspec.field(name=names.USE_TYPE, default="")
    nouse_type: str = msgspec.field(name=names.NOUSE_TYPE, default="")
    use_uuid: str = msgspec.field(name=names.USE_UUID, default="")
    nouse_uuid: str = msgspec.field(name=names.NOUSE_UUID, default="")
    reservation: str = msgspec.field(name=annotations.RESERVATION, default="")
    excluded_by_us: str = msgspec.field(name=annotations.EXCLUDED_BY_US, default="")
    vgpu_node: str = msgspec.field(name=names.VGPU_NODE, default="")
    vgpu_time: str = msgspec.field(name=names.VGPU_TIME, default="")
    allocated: str = msgspec.field(name=names.ALLOCATED, default="")
    to_allocate: str = msgspec.field(name=names.TO_ALLOCATE, default="")
    bind_phase: str = msgspec.field(name=names.BIND_PHASE, default="")
    mig_allocations: str = msgspec.field(name=names.MIG_ALLOCATIONS, default="")


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
    name: str = ""
    resources: Resources = Resources()
    ports: tuple[ContainerPort, ...] = ()
    restart_policy: str = ""
    """`Always` on an init container makes it a sidecar: it runs beside the others."""


class SchedulingGate(Wire, frozen=True):
    name: str


class Anything(Wire, frozen=True):
    """An object of which only matters that it is there."""


class Volume(Wire, frozen=True):
    name: str = ""
    persistent_volume_claim: ClaimSource | None = None
    ephemeral: Anything | None = None
    """A claim of its own, named after pod and volume."""


class AskingSpec(Wire, frozen=True):
    """What of a pod's spec says how much it asks for."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    overhead: Quantities = {}
    resources: Resources = Resources()
    """Of the whole pod; what it says of CPU and memory goes before what its containers say."""


class PodSpec(AskingSpec, frozen=True):
    node_name: str = ""
    scheduler_name: str = "default-scheduler"
    priority: int = 0
    scheduling_gates: tuple[SchedulingGate, ...] = ()
    node_selector: dict[str, str] = {}
    affinity: Affinity | None = None
    tolerations: tuple[WireToleration, ...] = ()
    topology_spread_constraints: tuple[TopologySpread, ...] = ()
    volumes: tuple[Volume, ...] = ()
    resource_claims: tuple[Anything, ...] = ()
    """Of DRA; what they give is the kubelet's to tell."""


TERMINAL_PHASES = frozenset({"Succeeded", "Failed"})
"""A pod in one of these has given back all that it had."""


class PodStatus(Wire, frozen=True):
    phase: str = ""
    start_time: str | None = None
    conditions: tuple[Condition, ...] = ()


class Pod(Wire, frozen=True):
    metadata: PodMeta = PodMeta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()
