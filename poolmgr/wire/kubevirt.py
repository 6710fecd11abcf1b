"""kubevirt.io/v1: VirtualMachine and VirtualMachineInstance.

An instancetype adds GPUs only when virt-controller makes the instance, so the instance is the truth and the
machine only says what is to come.
"""

from poolmgr.wire.meta import Condition, ObjectMeta, Wire
from poolmgr.wire.scheduling import ClaimSource, SchedulingRules, TopologySpread


class HostDevice(Wire, frozen=True):
    """An entry of `gpus` or `hostDevices`; one with a `claimName` instead is a DRA claim and not ours."""

    name: str = ""
    device_name: str = ""


class Devices(Wire, frozen=True):
    gpus: tuple[HostDevice, ...] = ()
    host_devices: tuple[HostDevice, ...] = ()


class Domain(Wire, frozen=True):
    devices: Devices = Devices()


class NamedVolume(Wire, frozen=True):
    name: str = ""


class MachineVolume(Wire, frozen=True):
    persistent_volume_claim: ClaimSource | None = None
    data_volume: NamedVolume | None = None


class InstanceSpec(SchedulingRules, frozen=True):
    domain: Domain = Domain()
    volumes: tuple[MachineVolume, ...] = ()
    topology_spread_constraints: tuple[TopologySpread, ...] = ()

    @property
    def depends_on_others(self) -> bool:
        """True where it depends on volumes or on other pods where it may run."""
        claims = any(v.persistent_volume_claim or v.data_volume for v in self.volumes)
        rules = self.affinity is not None and (self.affinity.pod_affinity or self.affinity.pod_anti_affinity)
        return bool(claims or rules or self.topology_spread_constraints)


class InstanceStatus(Wire, frozen=True):
    phase: str = ""
    node_name: str = ""
    active_pods: dict[str, str] = {}
    """UID of each launcher pod → its node, as virt-controller sees them."""
    conditions: tuple[Condition, ...] = ()


class VirtualMachineInstance(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: InstanceSpec = InstanceSpec()
    status: InstanceStatus = InstanceStatus()


class Template(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: InstanceSpec = InstanceSpec()


class Instancetype(Wire, frozen=True):
    name: str = ""


class MachineSpec(Wire, frozen=True):
    run_strategy: str = ""
    running: bool | None = None
    template: Template = Template()
    instancetype: Instancetype | None = None


class StartFailure(Wire, frozen=True):
    consecutive_fail_count: int = 0


class MachineStatus(Wire, frozen=True):
    printable_status: str = ""
    created: bool = False
    conditions: tuple[Condition, ...] = ()
    start_failure: StartFailure | None = None


class VirtualMachine(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: MachineSpec = MachineSpec()
    status: MachineStatus = MachineStatus()
