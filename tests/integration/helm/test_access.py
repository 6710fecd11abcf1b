"""Who may use the REST API, asked of a real API server with the manager's own rights."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from e2e.controlplane.plane import ControlPlane
from poolmgr.cluster import transport
from poolmgr.cluster.access import KubernetesAccess
from poolmgr.cluster.client import Client
from poolmgr.domain.access import AUDIT, METRICS, READ, Forbidden, Permission, Unauthenticated, rebalance
from poolmgr.kit.clock import SystemClock
from tests.integration.helm.installation import NAMESPACE, Installation, installation

pytestmark = pytest.mark.integration

ROLES = {
    "viewer": ["poolmgr-view"],
    "operator": ["poolmgr-operate"],
    "scraper": ["poolmgr-metrics"],
    "nobody": [],
}


@pytest.fixture(scope="module")
def release(control_plane: ControlPlane) -> Iterator[Installation]:
    with installation(control_plane) as it:
        for name, roles in ROLES.items():
            it.plane.kubectl("create", "serviceaccount", name, "-n", NAMESPACE)
            for role in roles:
                account = f"--serviceaccount={NAMESPACE}:{name}"
                it.plane.kubectl(
                    "create", "clusterrolebinding", f"test-{name}", f"--clusterrole={role}", account
                )
        yield it
        for name, roles in ROLES.items():
            if roles:
                it.plane.kubectl("delete", "clusterrolebinding", f"test-{name}")


def token(release: Installation, name: str) -> str:
    return release.plane.kubectl("create", "token", name, "-n", NAMESPACE).strip()


@asynccontextmanager
async def access(release: Installation) -> AsyncIterator[KubernetesAccess]:
    """As the manager's ServiceAccount has it, and nothing more."""
    kubeconfig = await asyncio.to_thread(
        release.plane.service_account_kubeconfig, NAMESPACE, "poolmgr-manager"
    )
    client = Client(await transport.connect(str(kubeconfig)), clock=SystemClock(), rng=random.Random())
    try:
        yield KubernetesAccess(client)
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("viewer", {READ}),
        ("operator", {READ, AUDIT, rebalance("desktops")}),
        ("scraper", {METRICS}),
        ("nobody", set()),
    ],
)
async def test_the_charts_roles_open_what_they_say(
    release: Installation, name: str, may: set[Permission]
) -> None:
    sent = await asyncio.to_thread(token, release, name)
    async with access(release) as control:
        for permission in (READ, AUDIT, METRICS, rebalance("desktops")):
            if permission in may:
                caller = await control.admit(sent, "10.0.0.9", permission)
                assert caller == f"system:serviceaccount:{NAMESPACE}:{name}"
            else:
                with pytest.raises(Forbidden, match=name):
                    await control.admit(sent, "10.0.0.9", permission)


@pytest.mark.parametrize("sent", ["", "nonsense", "a.b.c", "\xff", "x" * 20_000])
async def test_what_is_no_token_is_nobodys(release: Installation, sent: str) -> None:
    async with access(release) as control:
        with pytest.raises(Unauthenticated):
            await control.admit(sent, "10.0.0.9", READ)


async def test_whoever_views_the_whole_cluster_sees_gpus(release: Installation) -> None:
    """`poolmgr-view` is part of Kubernetes' own role `view`; the controller manager adds it."""
    plane = release.plane
    plane.ensure_controller_manager()
    sent = await asyncio.to_thread(token, release, "nobody")
    bind = ("clusterrolebinding", "test-cluster-view")
    await asyncio.to_thread(
        plane.kubectl, "create", *bind, "--clusterrole=view", f"--serviceaccount={NAMESPACE}:nobody"
    )
    try:
        async with access(release) as control:
            for _ in range(600):
                try:
                    await control.admit(sent, "", READ)
                    break
                except Forbidden:
                    control._cache.clear()
                    await asyncio.sleep(0.5)
            with pytest.raises(Forbidden):
                await control.admit(sent, "", rebalance("desktops"))
    finally:
        await asyncio.to_thread(plane.kubectl, "delete", *bind)
