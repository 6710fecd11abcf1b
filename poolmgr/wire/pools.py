"""poolmgr.io/v1alpha1: GPUPool, GPUNode, GPUReservation. The chart's CRDs describe every field."""

import msgspec

from poolmgr.wire.apps import LabelSelector
from poolmgr.wire.meta import Condition, ObjectMeta, Wire


class Side(Wire, frozen=True):
    min: int = 0
    max: int | None = None
    headroom: int = 0


class Rebalance(Wire, frozen=True):
    mode: str = "Automatic"
    granularity: str = "GPU"
    cooldown_seconds: int = 300
    max_in_flight: int = 1
    eviction: str = "Never"
    drain_timeout_seconds: int = 600


class IdleVm(Wire, frozen=True):
    action: str = "Ignore"
    idle_after_seconds: int = 3600
    notice_seconds: int = 900


class QuotaEntry(Wire, frozen=True):
    namespace: str
    max_gpus: int | float | None = msgspec.field(name="maxGPUs", default=None)
    weight: int | float = 1


class PoolSpec(Wire, frozen=True):
    models: tuple[str, ...] = ()
    node_selector: LabelSelector = LabelSelector()
    passthrough: Side = Side()
    shared: Side = Side()
    rebalance: Rebalance = Rebalance()
    idle_vm: IdleVm = msgspec.field(name="idleVM", default=IdleVm())
    quotas: tuple[QuotaEntry, ...] = ()


class PoolStatus(Wire, frozen=True, omit_defaults=False):
    observed_generation: int = 0
    gpus: int = 0
    passthrough: int = 0
    passthrough_used: int = 0
    shared: int = 0
    shared_used: int = 0
    moving: int = 0
    trouble: int = 0
    waiting_vms: int = msgspec.field(name="waitingVMs", default=0)
    waiting_pods: int = 0
    conditions: tuple[Condition, ...] = ()


class GpuPool(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: PoolSpec = PoolSpec()
    status: PoolStatus = PoolStatus()


class DesiredDevice(Wire, frozen=True):
    pci_address: str
    mode: str
    plan_id: str = ""


class TransitionSpec(Wire, frozen=True):
    plan_id: str
    epoch: int
    to_mode: str
    devices: tuple[str, ...]
    step: str
    started_at: str
    step_started_at: str
    reason: str = ""
    message: str = ""
    rollback: bool = False


class NodeSpec(Wire, frozen=True):
    devices: tuple[DesiredDevice, ...] = ()
    transition: TransitionSpec | None = None


class HolderStatus(Wire, frozen=True):
    pid: int = 0
    command: str = ""
    pod_uid: str = ""
    path: str = ""


class DeviceStatus(Wire, frozen=True):
    pci_address: str
    uuid: str = ""
    model: str = ""
    memory_mib: int = msgspec.field(name="memoryMiB", default=0)
    mode: str = ""
    phase: str = "Ready"
    plan_id: str = ""
    iommu_group: int | None = None
    numa_node: int | None = None
    nvswitch_domain: str = ""
    resource_name: str = ""
    holders: tuple[HolderStatus, ...] = ()
    allocated_to: str = ""
    advertised: bool = False
    reason: str = ""
    message: str = ""
    mode_since: str | None = None


class NodeStatus(Wire, frozen=True):
    observed_generation: int = 0
    devices: tuple[DeviceStatus, ...] = ()
    conditions: tuple[Condition, ...] = ()


class GpuNode(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ReservationSpec(Wire, frozen=True):
    model: str
    mode: str
    gpus: int
    start: str
    end: str


class GpuReservation(Wire, frozen=True):
    spec: ReservationSpec
    metadata: ObjectMeta = ObjectMeta()
