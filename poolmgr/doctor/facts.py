"""What the doctor looks at: objects of a cluster, each kind with a word on whether it could be read."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from poolmgr import wire
from poolmgr.wire.admission import WebhookConfiguration
from poolmgr.wire.gpu_operator import ClusterPolicy
from poolmgr.wire.kubevirt_config import HyperConverged, KubeVirt
from poolmgr.wire.lease import Lease

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen(Generic[T]):
    """The objects of one kind."""

    items: tuple[T, ...] = ()
    absent: bool = False
    """The cluster has no such kind."""
    unread: str = ""
    """Why they could not be read; empty where they could."""


@dataclass(frozen=True, slots=True)
class Facts:
    now: float
    """Unix seconds, when it was read."""
    client_version: str = ""
    pools: Seen[wire.GpuPool] = field(default_factory=Seen)
    gpu_nodes: Seen[wire.GpuNode] = field(default_factory=Seen)
    reservations: Seen[wire.GpuReservation] = field(default_factory=Seen)
    nodes: Seen[wire.Node] = field(default_factory=Seen)
    leases: Seen[Lease] = field(default_factory=Seen)
    heartbeats: Seen[Lease] = field(default_factory=Seen)
    """The agents' Leases."""
    daemon_sets: Seen[wire.DaemonSet] = field(default_factory=Seen)
    deployments: Seen[wire.Deployment] = field(default_factory=Seen)
    hami_configs: Seen[wire.ConfigMap] = field(default_factory=Seen)
    """Those named as HAMi's device configuration."""
    mutating: Seen[WebhookConfiguration] = field(default_factory=Seen)
    kubevirts: Seen[KubeVirt] = field(default_factory=Seen)
    hyperconvergeds: Seen[HyperConverged] = field(default_factory=Seen)
    cluster_policies: Seen[ClusterPolicy] = field(default_factory=Seen)
