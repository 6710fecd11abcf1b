"""The chart's roles against the requests that the code really makes: each verb granted is used, each one used
is granted. The requests go to a real API server under the accounts' own rights."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import fields
from pathlib import Path

import httpx
import pytest
import yaml

from e2e.controlplane.plane import ControlPlane
from e2e.processes import PATIENCE_SECONDS
from poolmgr.agent.apiserver import ApiServer
from poolmgr.agent.credentials import from_kubeconfig
from poolmgr.cli.reflected_fleet import ReflectedFleet
from poolmgr.cluster import transport
from poolmgr.cluster.access import KubernetesAccess
from poolmgr.cluster.client import Client
from poolmgr.cluster.connect import ClusterSettings, KubernetesCluster, assemble
from poolmgr.cluster.serving_certificate import SecretCertificateStore
from poolmgr.cluster.survey import survey
from poolmgr.cluster.view import ViewSettings
from poolmgr.controller.interfaces import PoolStatus
from poolmgr.doctor.facts import Seen
from poolmgr.domain.access import READ
from poolmgr.domain.errors import Stale
from poolmgr.domain.identifiers import LeaseEpoch, NodeName, PciAddress, PlanId, WorkloadUid
from poolmgr.domain.modes import Mode
from poolmgr.domain.node_spec import NodeIntent
from poolmgr.domain.plan import ReservationPhase, ReservationState, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.kit.clock import SystemClock
from poolmgr.wire.kinds import LEASES
from poolmgr.wire.lease import agent_lease_name
from tests.integration.helm.installation import (
    CHART,
    DEVICE,
    MINIMAL_KUBEVIRT,
    NAMESPACE,
    Installation,
    agent_kubeconfig,
    installation,
)
from webhooks.certificates import renewed

pytestmark = pytest.mark.integration

Right = tuple[str, str, str]
"""(verb, API group, resource with subresource)."""


EXCLUDED = {"nvidia.com/nouse-gpuuuid": "GPU-x,GPU-0", "poolmgr.io/excluded-by-poolmgr": "GPU-0"}
"""As our webhook leaves a pod; GPU-0 leaves no more, GPU-x is the user's."""


def right_of(method: str, path: str, *, watch: bool = False) -> Right:
    """As the API server reads a request (k8s.io/apiserver/pkg/endpoints/request/requestinfo.go)."""
    parts = path.strip("/").split("/")
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    if rest[0] == "namespaces" and len(rest) > 2:
        rest = rest[2:]
    named = len(rest) > 1
    verb = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}.get(method, "")
    if method == "GET":
        verb = "watch" if watch else "get" if named else "list"
    return verb, group, "/".join([rest[0], *rest[2:]])


class RecordingTransport:
    """The real transport; every request is noted as the right it needs."""

    def __init__(self, inner: transport.KubernetesTransport) -> None:
        self._inner = inner
        self.used: set[Right] = set()

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: object | None,
        content_type: str,
        timeout_seconds: float,
    ) -> transport.Response:
        self.used.add(right_of(method, path))
        return await self._inner.request(method, path, query, body, content_type, timeout_seconds)

    def stream(
        self, path: str, query: Mapping[str, str], read_timeout_seconds: float
    ) -> AbstractAsyncContextManager[transport.Response | AsyncIterator[bytes]]:
        self.used.add(right_of("GET", path, watch=True))
        return self._inner.stream(path, query, read_timeout_seconds)

    async def close(self) -> None:
        await self._inner.close()


class RecordingHttp(httpx.AsyncHTTPTransport):
    """The same for the agent's plain HTTP."""

    used: set[Right]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.used.add(right_of(request.method, request.url.path, watch="watch" in request.url.params))
        return await super().handle_async_request(request)


def granted(plane: ControlPlane, account: str) -> set[Right]:
    """What the rendered roles of an account hold."""
    text = plane.helm("template", "poolmgr", str(CHART), "-n", NAMESPACE)
    rules = [
        rule
        for o in yaml.safe_load_all(text)
        if o and o["kind"] in ("Role", "ClusterRole") and o["metadata"]["name"] == account
        for rule in o["rules"]
    ]
    return {
        (verb, group, resource)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.fixture(scope="module")
def release(control_plane: ControlPlane) -> Iterator[Installation]:
    if not control_plane.api.exists("/apis/kubevirt.io/v1"):
        control_plane.apply(*MINIMAL_KUBEVIRT)
    control_plane.ensure_namespace("verbs")
    control_plane.apply(
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-1"}},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "victim", "namespace": "verbs", "annotations": EXCLUDED},
            "spec": {"nodeName": "gpu-1", "containers": [{"name": "main", "image": "busybox"}]},
        },
    )
    with installation(control_plane, "defaultPool.enabled=true") as it:
        it.report("gpu-1", DEVICE)
        control_plane.apply(COURSE)
        yield it
    control_plane.kubectl("delete", "namespace", "verbs", "--wait=false")


COURSE = {
    "apiVersion": "poolmgr.io/v1alpha1",
    "kind": "GPUReservation",
    "metadata": {"name": "course", "namespace": "verbs"},
    "spec": {
        "model": "NVIDIA A10",
        "gpus": 1,
        "start": "2096-11-22T10:00:00Z",
        "end": "2096-11-22T12:00:00Z",
    },
}


@asynccontextmanager
async def recorded(kubeconfig: Path) -> AsyncIterator[tuple[Client, set[Right]]]:
    recorder = RecordingTransport(await transport.connect(str(kubeconfig)))
    client = Client(recorder, clock=SystemClock(), rng=random.Random(1))
    try:
        yield client, recorder.used
    finally:
        await client.close()


async def test_the_manager_has_the_rights_it_uses_and_no_others(release: Installation) -> None:
    kubeconfig = release.plane.service_account_kubeconfig(NAMESPACE, "poolmgr-manager")
    async with recorded(kubeconfig) as (client, used):
        cluster = assemble(client, ClusterSettings(view=ViewSettings(heartbeats_in=NAMESPACE)))
        running = asyncio.create_task(cluster.run())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not (await cluster.view.snapshot()).synced:
                    await cluster.view.wait_for_change(0.5)
                await cluster.elector.run(lambda epoch: pull_every_lever(cluster, release, epoch))
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert cluster.recorder.dropped == 0
    # Giving the lease back when the work is done used `update`, too.
    assert used == granted(release.plane, "poolmgr-manager")


async def pull_every_lever(cluster: KubernetesCluster, release: Installation, epoch: LeaseEpoch) -> None:
    node = NodeName("gpu-1")
    snapshot = await cluster.view.snapshot()
    (found,) = [n for n in snapshot.nodes if n.name == node]
    wanted = (PciAddress(DEVICE["pciAddress"]), Mode.SHARED, PlanId("p1"))
    await cluster.fleet.write_intent(node, NodeIntent((wanted,), None), found.revision)
    await cluster.sharing.ensure_cordoned(node, True)
    await cluster.sharing.ensure_cordoned(node, False)
    (pool,) = [p for p in snapshot.pools if p.name == "default"]
    await cluster.reporter.report(
        pool, PoolStatus(1, 1, 0, 0, 1, 0, 0, 0, 0, 0, Reason.IN_PLACE, "Everything is where it serves best.")
    )
    await cluster.reservations.report(
        ReservationState(
            namespace="verbs",
            name="course",
            generation=1,
            phase=ReservationPhase.ACTIVE,
            window=None,
            ready=0,
            used=0,
            kept=0,
            cards=(),
            ok=False,
            reason=Reason.RESERVATION_READY,
            message="tried",
        )
    )
    subject = Subject(SubjectKind.NODE, "", node)
    for _ in range(2):  # the second one counts up the first
        await cluster.recorder.event(subject, Reason.STEP_DONE, "tried")
    assert await cluster.exclusions.renew() == 1
    uid = release.plane.api.get("/api/v1/namespaces/verbs/pods/victim")["metadata"]["uid"]
    victim = release.plane.api.get("/api/v1/namespaces/verbs/pods/victim")
    assert victim["metadata"]["annotations"] == {"nvidia.com/nouse-gpuuuid": "GPU-x"}
    assert (await cluster.evictor.evict(WorkloadUid(uid), "verbs", "victim")).ok
    token = release.plane.kubectl("create", "token", "poolmgr-manager", "-n", NAMESPACE).strip()
    assert (await KubernetesAccess(cluster.client).admit(token, "", READ)).endswith(":poolmgr-manager")
    await asyncio.sleep(3)  # one renewal of the lease, and the queued Events


async def test_the_webhook_has_the_rights_it_uses_and_no_others(release: Installation) -> None:
    kubeconfig = release.plane.service_account_kubeconfig(NAMESPACE, "poolmgr-webhook")
    async with recorded(kubeconfig) as (client, used):
        fleet = ReflectedFleet(client, SystemClock(), "nvidia.com/gpu")
        running = asyncio.create_task(fleet.run())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while fleet.current() is None:
                    await SystemClock().sleep(0.2)
                store = SecretCertificateStore(client, NAMESPACE, "poolmgr-webhook-certificate", "00-poolmgr")
                data, revision = await store.load()
                await store.save({"ca.crt": b"one"}, revision)
                with pytest.raises(Stale):
                    await store.save({"ca.crt": b"two"}, revision)
                assert (await store.load())[0]["ca.crt"] == b"one"
                await store.publish(renewed(None, frozenset({"127.0.0.1"}), SystemClock().now()).authorities)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert data == {}
    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/00-poolmgr"
    assert release.plane.api.get(path)["webhooks"][0]["clientConfig"]["caBundle"]
    assert used == granted(release.plane, "poolmgr-webhook")


async def test_the_doctor_has_the_rights_it_uses_and_no_others(release: Installation) -> None:
    account = {"kind": "ServiceAccount", "name": "doctor", "namespace": NAMESPACE}
    release.plane.apply(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "doctor", "namespace": NAMESPACE},
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "doctor-of-a-test"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "poolmgr-doctor",
            },
            "subjects": [account],
        },
    )
    async with recorded(release.plane.service_account_kubeconfig(NAMESPACE, "doctor")) as (client, used):
        facts = await survey(client)
    read = {f.name: getattr(facts, f.name) for f in fields(facts)}
    assert {name: seen.unread for name, seen in read.items() if isinstance(seen, Seen) and seen.unread} == {}
    assert used == granted(release.plane, "poolmgr-doctor")


async def test_the_agent_has_the_rights_it_uses_and_no_others(release: Installation) -> None:
    release.plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-verbs"}})
    credentials = from_kubeconfig(agent_kubeconfig(release.plane, "gpu-verbs"))
    recorder = RecordingHttp(verify=credentials.tls)
    recorder.used = set()
    server = ApiServer(credentials, NodeName("gpu-verbs"), SystemClock(), recorder)
    try:
        found = await server.read_or_create()
        version = found["metadata"]["resourceVersion"]
        changed = await server.patch_status({"kernel": "6.1"}, version)
        async for seen in server.watch(version):
            assert seen["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]
            break
        await server.list_pods()
        await server.beat()  # makes its Lease
        await server.beat()
        name = agent_lease_name(NodeName("gpu-verbs"))
        lease = release.plane.api.get(LEASES.path(name, namespace=NAMESPACE))
        assert lease["metadata"]["ownerReferences"][0]["name"] == "gpu-verbs"
    finally:
        await server.close()
    assert recorder.used == granted(release.plane, "poolmgr-agent")
