"""The objects that the doctor looks at, each kind read once with the caller's rights."""

import asyncio
from typing import TypeVar

from poolmgr import wire
from poolmgr.cluster.client import Client
from poolmgr.cluster.look import MANAGER_LEASE, listed
from poolmgr.doctor.facts import Facts, Seen
from poolmgr.domain.errors import PoolError, Unavailable
from poolmgr.wire import kinds
from poolmgr.wire.admission import WebhookConfiguration
from poolmgr.wire.gpu_operator import ClusterPolicy
from poolmgr.wire.hami import names as hami_names
from poolmgr.wire.http_errors import Absent
from poolmgr.wire.kinds import Kind
from poolmgr.wire.kubevirt_config import HyperConverged, KubeVirt
from poolmgr.wire.lease import AGENT_LABEL, AGENT_LABEL_VALUE, Lease

T = TypeVar("T")

KUBEVIRTS = Kind("kubevirt.io", "v1", "kubevirts", namespaced=True)
HYPERCONVERGEDS = Kind("hco.kubevirt.io", "v1beta1", "hyperconvergeds", namespaced=True)
CLUSTER_POLICIES = Kind("nvidia.com", "v1", "clusterpolicies")


async def survey(client: Client, *, client_version: str = "", hami_device_config: str = "") -> Facts:
    """Read what may be read. Raises Unavailable where the API server does not answer at all."""
    config = hami_device_config or hami_names.DEVICE_CONFIG_MAP

    async def seen(kind: Kind, as_type: type[T], fields: str = "", labels: str = "") -> Seen[T]:
        try:
            return Seen(tuple(await listed(client, kind, as_type, fields=fields, labels=labels)))
        except Absent:
            return Seen(absent=True)
        except Unavailable:
            raise
        except PoolError as error:
            return Seen(unread=error.message)

    pools, gpu_nodes, reservations, nodes = await asyncio.gather(
        seen(kinds.GPU_POOLS, wire.GpuPool),
        seen(kinds.GPU_NODES, wire.GpuNode),
        seen(kinds.GPU_RESERVATIONS, wire.GpuReservation),
        seen(kinds.NODES, wire.Node),
    )
    leases, daemon_sets, deployments, configs = await asyncio.gather(
        seen(kinds.LEASES, Lease, f"metadata.name={MANAGER_LEASE}"),
        seen(kinds.DAEMON_SETS, wire.DaemonSet),
        seen(kinds.DEPLOYMENTS, wire.Deployment),
        seen(kinds.CONFIG_MAPS, wire.ConfigMap, f"metadata.name={config}"),
    )
    heartbeats = await seen(kinds.LEASES, Lease, labels=f"{AGENT_LABEL}={AGENT_LABEL_VALUE}")
    mutating, kubevirts, hyperconvergeds, policies = await asyncio.gather(
        seen(kinds.MUTATING_WEBHOOKS, WebhookConfiguration),
        seen(KUBEVIRTS, KubeVirt),
        seen(HYPERCONVERGEDS, HyperConverged),
        seen(CLUSTER_POLICIES, ClusterPolicy),
    )
    return Facts(
        now=client.clock.now(),
        client_version=client_version,
        pools=pools,
        gpu_nodes=gpu_nodes,
        reservations=reservations,
        nodes=nodes,
        leases=leases,
        heartbeats=heartbeats,
        daemon_sets=daemon_sets,
        deployments=deployments,
        hami_configs=configs,
        mutating=mutating,
        kubevirts=kubevirts,
        hyperconvergeds=hyperconvergeds,
        cluster_policies=policies,
    )
