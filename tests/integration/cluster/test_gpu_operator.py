"""Services of the GPU operator on a real API server: the real DaemonSet controller ends and starts their pods by the labels.

The node is KWOK's. The operator itself is not there: nobody puts a label back, which `sim/gpu_operator.py` stands for, and
in one test another writer that does as the operator's controller, its driver manager and an administrator do.
"""

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e2e.controlplane.plane import ControlPlane
from poolmgr import wire
from poolmgr.cluster.connect import KubernetesCluster
from poolmgr.cluster.gpu_operator.actuate import KubernetesServices
from poolmgr.cluster.node_writer import NodeWriter, Patch
from poolmgr.domain.errors import Stale
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.neighbours import Service
from poolmgr.domain.usage import users_of
from poolmgr.wire.gpu_operator import DEPLOY, PAUSED, RUNS, UPGRADE_SKIP
from tests.integration.cluster.real_cluster import (
    GPU_NODES,
    Held,
    connected_cluster,
    device,
    ensure_crds,
    node_of,
    report_gpus,
    seen,
)

pytestmark = pytest.mark.integration

NAME, NAMESPACE = NodeName("operated"), "gpu-operator"
NODE = f"/api/v1/nodes/{NAME}"
EXPORTER, GFD = DEPLOY + "dcgm-exporter", DEPLOY + "gpu-feature-discovery"


def daemon_set(name: str, label: str) -> dict[str, Any]:
    labels = {"app": name}
    spec = {
        "nodeSelector": {label: RUNS},
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "main", "image": "none"}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


@pytest.fixture
def operated(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """A node with an exporter that runs and a feature discovery that an administrator has switched off."""
    plane = control_plane
    ensure_crds(plane)
    plane.ensure_namespace(NAMESPACE)
    plane.apply(daemon_set("dcgm-exporter", EXPORTER), daemon_set("gfd", GFD))
    plane.add_fake_node(NAME, labels={EXPORTER: RUNS, GFD: "false", DEPLOY + "driver": RUNS})
    report_gpus(plane, NAME, [device()])
    yield plane
    plane.api.delete(f"/api/v1/namespaces/{NAMESPACE}")
    plane.api.delete(f"{GPU_NODES}/{NAME}")
    plane.api.delete(NODE)


def exporters(plane: ControlPlane) -> list[str]:
    """UIDs of its pods on the node."""
    pods = plane.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods")["items"]
    return [pod["metadata"]["uid"] for pod in pods if pod["metadata"]["labels"]["app"] == "dcgm-exporter"]


def labels(plane: ControlPlane) -> dict[str, str]:
    found: dict[str, str] = plane.api.get(NODE)["metadata"]["labels"]
    return found


def services(snapshot: Any) -> tuple[Service, ...]:
    found = node_of(snapshot, NAME)
    return found.neighbours.services if found is not None else ()


async def a_service(cluster: KubernetesCluster, what: str, *, paused: bool, runs: bool) -> Service:
    def check(snapshot: Any) -> bool:
        return any(
            s.label == EXPORTER and s.paused is paused and bool(s.pods) is runs for s in services(snapshot)
        )

    (found,) = services(await seen(cluster, what, check))
    return found


async def test_a_service_is_paused_and_resumed_by_its_label_and_others_labels_stay(
    operated: ControlPlane,
) -> None:
    async with connected_cluster(operated) as cluster:
        levers = KubernetesServices(NodeWriter(cluster.client, Held(3)))
        before = await a_service(cluster, "the exporter runs", paused=False, runs=True)
        held = {"pid": 7, "command": "dcgm-exporter", "podUid": before.pods[0], "path": "/dev/nvidia0"}
        report_gpus(operated, NAME, [device(holders=[held])])

        def counts_as_service(snapshot: Any) -> bool:
            gpus = found.gpus if (found := node_of(snapshot, NAME)) else ()
            return any(gpu.holders and not users_of(gpu, (), None) for gpu in gpus)

        await seen(cluster, "the holder is a service", counts_as_service)
        for _ in range(2):  # repeating it is harmless
            await levers.ensure_paused(NAME, frozenset({EXPORTER, GFD}))
        assert (labels(operated)[EXPORTER], labels(operated)[GFD]) == (PAUSED, "false")
        await a_service(cluster, "its pod has ended", paused=True, runs=False)
        for _ in range(2):
            await levers.ensure_resumed(NAME, frozenset({EXPORTER, GFD}))
        assert (labels(operated)[EXPORTER], labels(operated)[GFD]) == (RUNS, "false")
        after = await a_service(cluster, "it runs again", paused=False, runs=True)
        assert after.pods != before.pods


async def test_a_pause_is_resumed_by_a_successor_that_only_sees_the_label(operated: ControlPlane) -> None:
    async with connected_cluster(operated) as first:
        await KubernetesServices(NodeWriter(first.client, Held(3))).ensure_paused(NAME, frozenset({EXPORTER}))
    async with connected_cluster(operated) as second:
        found = await a_service(second, "the pause is seen", paused=True, runs=False)
        levers = KubernetesServices(NodeWriter(second.client, Held(4)))
        await levers.ensure_resumed(NAME, frozenset({found.label}))
        assert labels(operated)[EXPORTER] == RUNS
        with pytest.raises(Stale, match="last written in lease epoch 4"):
            await KubernetesServices(NodeWriter(second.client, Held(3))).ensure_paused(
                NAME, frozenset({EXPORTER})
            )


async def test_upgrades_are_held_and_let_go_and_somebody_elses_word_stays(operated: ControlPlane) -> None:
    async with connected_cluster(operated) as cluster:
        levers = KubernetesServices(NodeWriter(cluster.client, Held(3)))
        await levers.ensure_upgrades_held(NAME, True)
        assert labels(operated)[UPGRADE_SKIP] == RUNS
        await seen(
            cluster,
            "it is known to be ours",
            lambda s: (n := node_of(s, NAME)) and n.neighbours.upgrades_held_by_us,
        )
        await levers.ensure_upgrades_held(NAME, False)
        assert UPGRADE_SKIP not in labels(operated)
        operated.api.patch(NODE, {"metadata": {"labels": {UPGRADE_SKIP: "false"}}})
        await levers.ensure_upgrades_held(NAME, True)
        await levers.ensure_upgrades_held(NAME, False)
        assert labels(operated)[UPGRADE_SKIP] == "false"


UPGRADE = "paused-for-driver-upgrade"
LAPS = 25


class Others:
    """Others who write two labels as they do, without regard for anybody."""

    def __init__(self, plane: ControlPlane, chance: random.Random) -> None:
        self._plane = plane
        self._chance = chance
        self._writes = 0
        self.left = labels(plane)
        """The node's labels after their last write."""

    def write(self) -> None:
        label = self._chance.choice((EXPORTER, GFD))
        now = labels(self._plane).get(label, "")
        if UPGRADE in now:  # the driver manager takes off what it has put there, and only that
            value = now.replace(f"_{UPGRADE}", "").replace(UPGRADE, RUNS)
        elif now == PAUSED:
            value = f"{PAUSED}_{UPGRADE}"
        elif not now:  # the controller gives a node each label that it lacks
            value = RUNS
        else:
            value = self._chance.choice((RUNS, RUNS, RUNS, "false", UPGRADE, "paused-for-mig-change", None))
        # The annotation makes each write a change of its own.
        self._writes += 1
        patch = {"metadata": {"labels": {label: value}, "annotations": {"others": str(self._writes)}}}
        self.left = self._plane.api.patch(NODE, patch)["metadata"]["labels"]

    def maybe_write(self) -> None:
        if self._chance.random() < 0.5:
            self.write()


class Interrupted(NodeWriter):
    """Others write between its read and its write: as often on a slow machine as on a fast one."""

    def __init__(self, cluster: KubernetesCluster, others: Others) -> None:
        super().__init__(cluster.client, Held(3))
        self._others = others

    async def ensure(self, name: NodeName, patch_for: Callable[[wire.Node], Patch | None]) -> None:
        def after_others(found: wire.Node) -> Patch | None:
            self._others.maybe_write()
            return patch_for(found)

        await super().ensure(name, after_others)


async def test_no_word_of_others_is_lost_while_they_and_we_write_at_once(operated: ControlPlane) -> None:
    """Of all that happens to the labels, ours are `true` to our value and back, and no other."""
    async with connected_cluster(operated) as cluster:
        others = Others(operated, random.Random(7))
        levers = KubernetesServices(Interrupted(cluster, others))
        ours: list[tuple[str | None, str | None]] = []
        for _ in range(LAPS):
            for lever in (levers.ensure_paused, levers.ensure_resumed):
                others.write()
                with contextlib.suppress(Stale):  # written by others each time: the next tick tries again
                    await lever(NAME, frozenset({EXPORTER, GFD}))
                before, after = others.left, labels(operated)
                changes = [(before.get(label), after.get(label)) for label in (EXPORTER, GFD)]
                ours += [change for change in changes if change[0] != change[1]]
        assert set(ours) == {(RUNS, PAUSED), (PAUSED, RUNS)}
        assert len(ours) >= 10, "both wrote at once"
        levers = KubernetesServices(NodeWriter(cluster.client, Held(3)))
        # The driver manager is done, and an administrator wants the exporter: it is back.
        operated.api.patch(NODE, {"metadata": {"labels": {EXPORTER: PAUSED}}})
        await levers.ensure_resumed(NAME, frozenset({EXPORTER, GFD}))
        await a_service(cluster, "it runs again", paused=False, runs=True)
