"""nvidia.com/v1 ClusterPolicy of the GPU operator: which of its parts run. Absent means what the operator's default is."""

from poolmgr.wire.meta import ObjectMeta, Wire


class Part(Wire, frozen=True):
    enabled: bool | None = None


class PolicySpec(Wire, frozen=True):
    driver: Part = Part()
    device_plugin: Part = Part()
    dcgm_exporter: Part = Part()
    sandbox_workloads: Part = Part()
    sandbox_device_plugin: Part = Part()
    vfio_manager: Part = Part()


class ClusterPolicy(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: PolicySpec = PolicySpec()
