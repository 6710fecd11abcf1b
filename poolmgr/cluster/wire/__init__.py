"""What Kubernetes sends, as msgspec Structs of just the fields that are used.

Decoding only these skips the rest of the JSON (managed fields above all) without building it: two orders of
magnitude cheaper than models. Types here mirror the wire; meaning is given in `observe`, `hami`, `kubevirt`.
"""

from poolmgr.cluster.wire.apps import ConfigMap, DaemonSet, Deployment, DisruptionBudget, LabelSelector
from poolmgr.cluster.wire.core import Node, NodeAnnotations, Pod, PodAnnotations
from poolmgr.cluster.wire.kubevirt import VirtualMachine, VirtualMachineInstance
from poolmgr.cluster.wire.lease import Lease, LeaseSpec
from poolmgr.cluster.wire.meta import Condition, ObjectMeta, OwnerReference, Status, Wire
from poolmgr.cluster.wire.pools import GpuNode, GpuPool, GpuReservation

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
    "Pod",
    "PodAnnotations",
    "Status",
    "VirtualMachine",
    "VirtualMachineInstance",
    "Wire",
]
