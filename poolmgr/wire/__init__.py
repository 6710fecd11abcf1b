"""Every format that more than one process speaks, read and written in one place, below everybody.

Our own objects both ways, what Kubernetes, HAMi and KubeVirt send, HTTP errors, instants, quantities. Reading is
tolerant once and bounded once: a value of a newer release becomes the choice that does least, in every process;
text of tenants costs time in proportion to its length, whatever it says.

Objects are msgspec Structs of just the fields that are used: decoding only these skips the rest of the JSON (managed
fields above all) without building it, two orders of magnitude cheaper than models. The functions beside a type give
it its meaning in the domain.
"""

from poolmgr.wire.gpu_nodes import GpuNode
from poolmgr.wire.gpu_pools import GpuPool
from poolmgr.wire.kube_node import Node, NodeAnnotations
from poolmgr.wire.kube_pod import Pod, PodAnnotations
from poolmgr.wire.kubevirt import VirtualMachine, VirtualMachineInstance
from poolmgr.wire.lease import Lease, LeaseSpec
from poolmgr.wire.meta import Condition, ObjectMeta, OwnerReference, Status, Wire
from poolmgr.wire.reservations import GpuReservation
from poolmgr.wire.volumes import PersistentVolume, PersistentVolumeClaim, StorageClass
from poolmgr.wire.workloads import ConfigMap, DaemonSet, Deployment, DisruptionBudget, LabelSelector

__all__ = [
    "Condition",
    "ConfigMap",
    "DaemonSet",
    "Deployment",
    "DisruptionBudget",
    "GpuNode",
    "GpuPool",
    "GpuReservation",
    "LabelSelector",
    "Lease",
    "LeaseSpec",
    "Node",
    "NodeAnnotations",
    "ObjectMeta",
    "OwnerReference",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Pod",
    "PodAnnotations",
    "Status",
    "StorageClass",
    "VirtualMachine",
    "VirtualMachineInstance",
    "Wire",
]
