"""kubevirt.io/v1: VirtualMachine and VirtualMachineInstance.

An instancetype adds GPUs only when virt-controller makes the instance, so the instance is the truth and the
machine only says what is to come.
"""

from poolmgr.wire.meta import Condition, ObjectMeta, Wire


class HostDevice(Wire, frozen=True):
    """An entry of `gpus` or `hostDevices`; one with a `claimName` instead is a DRA claim and not ours."""

    name: str = ""
    device_name: str = ""


class Devices(Wire, frozen=True):
    gpus: tuple[HostDevice, ...] = ()
    host_devices: tuple[HostDevice, ...] = ()


class Domain(Wire, frozen=True):
    devices: Devices = Devices()


class InstanceSpec(Wire, frozen=True):
    domain: Domain = Domain()


class InstanceStatus(Wire, frozen=True):
    phase: str = ""
    node_name: str = ""
    conditions: tuple[Condition, ...] = ()


class VirtualMachineInstance(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: InstanceSpec = InstanceSpec()
    status: InstanceStatus = InstanceStatus()


class Template(Wire, frozen=True):
    spec: InstanceSpec = InstanceSpec()


class MachineSpec(Wire, frozen=True):
    run_strategy: str = ""
    running: bool | None = None
    template: Template = Template()


class MachineStatus(Wire, frozen=True):
    printable_status: str = ""
    created: bool = False


class VirtualMachine(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: MachineSpec = MachineSpec()
    status: MachineStatus = MachineStatus()
