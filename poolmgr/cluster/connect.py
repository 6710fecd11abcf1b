"""Everything that reads and writes one cluster, built together: what a composition root needs."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from poolmgr.cluster import transport
from poolmgr.cluster.actuate import KubernetesFleet
from poolmgr.cluster.admit import KubernetesAdmitter
from poolmgr.cluster.client import Client
from poolmgr.cluster.events import KubernetesRecorder
from poolmgr.cluster.evict import KubernetesEvictor
from poolmgr.cluster.exclusions import KubernetesExclusions
from poolmgr.cluster.gpu_operator.actuate import KubernetesServices
from poolmgr.cluster.hami.actuate import KubernetesSharing
from poolmgr.cluster.lease import Elector
from poolmgr.cluster.lease_settings import LeaseSettings
from poolmgr.cluster.node_writer import NodeWriter
from poolmgr.cluster.pools import KubernetesPools
from poolmgr.cluster.reservations import KubernetesReservations
from poolmgr.cluster.view import KubernetesView, ViewSettings
from poolmgr.kit.clock import Clock


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    kubeconfig: str | None = None
    """Path of a kubeconfig; None takes the pod's service account."""
    context: str | None = None
    identity: str = ""
    """Name of this process in the lease and in Events; a random part is added."""
    view: ViewSettings = field(default_factory=ViewSettings)
    lease: LeaseSettings = field(default_factory=LeaseSettings)


@dataclass(frozen=True, slots=True)
class KubernetesCluster:
    """The controller's ports on one cluster. `run` must run for the view to see and Events to be written;
    `elector.run(lead)` runs what only the leader may do."""

    client: Client
    view: KubernetesView
    elector: Elector
    fleet: KubernetesFleet
    sharing: KubernetesSharing
    services: KubernetesServices
    evictor: KubernetesEvictor
    admitter: KubernetesAdmitter
    recorder: KubernetesRecorder
    reporter: KubernetesPools
    reservations: KubernetesReservations
    exclusions: KubernetesExclusions

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.view.run(), name="view")
            group.create_task(self.recorder.run(), name="events")
            group.create_task(self.exclusions.run(), name="exclusions")


def assemble(client: Client, settings: ClusterSettings) -> KubernetesCluster:
    """Build all of it on `client`; nothing runs yet."""
    identity = f"{settings.identity or 'poolmgr'}_{client.rng.getrandbits(32):08x}"
    view = KubernetesView(client, settings.view)
    elector = Elector(client, identity=identity, floor=view.highest_epoch, settings=settings.lease)
    nodes = NodeWriter(client, elector)
    return KubernetesCluster(
        client=client,
        view=view,
        elector=elector,
        fleet=KubernetesFleet(client, elector, view.wrote),
        sharing=KubernetesSharing(
            nodes,
            version=view.hami_version,
            plugin=view.plugin,
            plan_of=view.plan_of,
        ),
        services=KubernetesServices(nodes),
        evictor=KubernetesEvictor(client, elector),
        admitter=KubernetesAdmitter(client, elector),
        recorder=KubernetesRecorder(client, view.references, instance=identity),
        reporter=KubernetesPools(client, elector, view.pool),
        reservations=KubernetesReservations(client, elector, view.reservation),
        exclusions=KubernetesExclusions(client, elector, view.exclusions),
    )


@asynccontextmanager
async def connected(
    settings: ClusterSettings, *, clock: Clock, rng: random.Random
) -> AsyncIterator[KubernetesCluster]:
    """Connect; `KubernetesCluster.run` is the caller's to run and to watch over. Raises Rejected for a bad
    configuration; an API server that is not there yet is waited for by the watches."""
    client = Client(
        await transport.connect(settings.kubeconfig, context=settings.context), clock=clock, rng=rng
    )
    try:
        yield assemble(client, settings)
    finally:
        await client.close()
