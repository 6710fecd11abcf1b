"""kubevirt.io/v1 KubeVirt and hco.kubevirt.io/v1beta1 HyperConverged: which devices VMs may have."""

from poolmgr.wire.meta import ObjectMeta, Wire


class PciHostDevice(Wire, frozen=True):
    pci_vendor_selector: str = ""
    """`10DE:2236`, compared without case."""
    resource_name: str = ""
    external_resource_provider: bool = False


class PermittedHostDevices(Wire, frozen=True):
    pci_host_devices: tuple[PciHostDevice, ...] = ()


class DeveloperConfiguration(Wire, frozen=True):
    feature_gates: tuple[str, ...] = ()


class Configuration(Wire, frozen=True):
    permitted_host_devices: PermittedHostDevices | None = None
    """None: KubeVirt asks no list."""
    developer_configuration: DeveloperConfiguration = DeveloperConfiguration()


class KubeVirtSpec(Wire, frozen=True):
    configuration: Configuration = Configuration()


class KubeVirtStatus(Wire, frozen=True):
    phase: str = ""
    observed_kube_virt_version: str = ""


class KubeVirt(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: KubeVirtSpec = KubeVirtSpec()
    status: KubeVirtStatus = KubeVirtStatus()


class HyperConverged(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
