"""The view as a whole, on the API server in memory.

One file, long as it is: a view is tested as a whole, its parts have files of their own.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from poolmgr import wire
from poolmgr.cluster.connect import ClusterSettings, KubernetesCluster, assemble
from poolmgr.cluster.view import ViewSettings
from poolmgr.domain.identifiers import GpuUuid, NodeName
from poolmgr.domain.plan import Subject, SubjectKind
from poolmgr.domain.snapshot import ClusterSnapshot
from tests.unit.cluster.api_bench import GPU_NODES, GPU_POOLS, NODES, ApiBench
from tests.unit.cluster.builders import (
    CREATED,
    gpu_node,
    launcher,
    node,
    pod,
    pool,
    reservation,
    scheduler,
    vm,
    vmi,
)

PODS = "/api/v1/pods"
RESERVATIONS = "/apis/poolmgr.io/v1alpha1/gpureservations"
CONFIG_MAPS = "/api/v1/configmaps"
VMIS = "/apis/kubevirt.io/v1/virtualmachineinstances"
VMS = "/apis/kubevirt.io/v1/virtualmachines"
REQUIRED = (
    NODES,
    PODS,
    GPU_NODES,
    GPU_POOLS,
    CONFIG_MAPS,
    RESERVATIONS,
    "/apis/policy/v1/poddisruptionbudgets",
    "/api/v1/persistentvolumeclaims",
    "/api/v1/persistentvolumes",
    "/apis/storage.k8s.io/v1/storageclasses",
    "/apis/apps/v1/daemonsets",
    "/apis/apps/v1/deployments",
)


MOVING = {
    "devices": [{"pciAddress": "0000:00:04.0", "mode": "Passthrough", "planId": "ab12"}],
    "transition": {
        "planId": "ab12",
        "epoch": 1,
        "toMode": "Passthrough",
        "devices": ["0000:00:04.0"],
        "step": "Drain",
        "startedAt": CREATED,
        "stepStartedAt": CREATED,
    },
}


class Bench(ApiBench):
    def __init__(self, view: ViewSettings | None = None) -> None:
        super().__init__()
        self.api.kinds.update(REQUIRED)
        self.cluster: KubernetesCluster = assemble(
            self.client, ClusterSettings(identity="me", view=view or ViewSettings())
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Bench"]:
        task = asyncio.ensure_future(self.cluster.run())
        await self.clock.advance(0.1)
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def all_seen(self) -> None:
        """Whatever has happened ends no wait any more."""
        await self.clock.settle()
        seen = asyncio.ensure_future(self.cluster.view.wait_for_change(0.0))
        await self.clock.advance(0.1)
        assert seen.done()

    async def look(self) -> ClusterSnapshot:
        await self.clock.settle()
        return await self.cluster.view.snapshot()


LEASES = "/apis/coordination.k8s.io/v1/namespaces/poolmgr-system/leases"


class Agents(Bench):
    """A node whose agent renews its Lease when it is told to; nobody else's Lease is looked at."""

    def __init__(self) -> None:
        super().__init__(ViewSettings(heartbeats_in="poolmgr-system"))
        self.beats = 0
        self.api.put(NODES, node())
        self.api.put(GPU_NODES, gpu_node())

    def beat(self, name: str = "poolmgr-agent-n1", year: int = 2026) -> None:
        self.beats += 1
        renewed = {"renewTime": f"{year}-11-29T10:00:{self.beats:02d}.000000Z"}
        metadata = {"name": name, "labels": {"poolmgr.io/heartbeat": "agent"}}
        self.api.put(LEASES, {"metadata": metadata, "spec": renewed})

    async def agent(self) -> tuple[bool, bool]:
        (found,) = (await self.look()).nodes
        assert found.ready is found.agent.heard
        return found.agent.heard, found.agent.silent


async def test_agent_is_heard_while_its_lease_changes_by_whatever_clock() -> None:
    bench = Agents()
    bench.beat(year=1999)
    async with bench.running():
        assert await bench.agent() == (False, False), "one look tells nothing"
        await bench.clock.advance(10)
        bench.beat(year=1998)
        assert await bench.agent() == (True, False)
        for _ in range(8):
            await bench.clock.advance(10)
            bench.beat("poolmgr-agent-n2")
            await bench.look()
        assert await bench.agent() == (False, True)
        (found,) = (await bench.look()).nodes
        assert found.agent.verdict(found.name).reason == "AgentSilent"
        await bench.all_seen()
        waiting = asyncio.ensure_future(bench.cluster.view.wait_for_change(60.0))
        await bench.clock.advance(1)
        assert not waiting.done(), "heartbeats that come as they should are no change"
        bench.beat()
        await bench.clock.advance(1)
        assert waiting.done()
        assert await bench.agent() == (True, False)


async def test_a_lease_that_is_deleted_does_not_begin_a_silence_anew() -> None:
    bench = Agents()
    bench.beat()
    async with bench.running():
        await bench.look()
        bench.beat()
        assert await bench.agent() == (True, False)
        for _ in range(8):
            await bench.clock.advance(10)
            bench.beat("poolmgr-agent-n2")
            await bench.look()
        assert await bench.agent() == (False, True)
        since = (await bench.look()).nodes[0].agent.since
        bench.api.remove(f"{LEASES}/poolmgr-agent-n1")
        assert await bench.agent() == (False, True), "nobody was heard by that"
        assert (await bench.look()).nodes[0].agent.since == since


async def test_an_api_server_that_is_away_silences_no_agent() -> None:
    bench = Agents()
    bench.beat()
    async with bench.running():
        bench.beat()
        await bench.look()
        bench.beat()
        assert await bench.agent() == (True, False)
        bench.transport.down = True
        bench.api.end_watches()
        for _ in range(30):
            await bench.clock.advance(10)
            assert await bench.agent() == (True, False), "nothing is moved then: the view is not synced"
        assert not (await bench.look()).synced
        bench.transport.down = False
        while not (await bench.look()).synced:
            await bench.clock.advance(2)
        assert await bench.agent() == (True, False), "it could not be heard meanwhile"


async def test_who_looks_once_judges_no_agent() -> None:
    bench = Bench()
    bench.api.put(NODES, node())
    bench.api.put(GPU_NODES, gpu_node())
    async with bench.running():
        assert (await bench.look()).nodes[0].agent.heard


async def test_cluster_without_kubevirt_and_hami_is_seen_whole() -> None:
    bench = Bench()
    bench.api.put(NODES, node())
    bench.api.put(GPU_NODES, gpu_node())
    async with bench.running():
        snapshot = await bench.look()
        assert snapshot.synced
        assert snapshot.nodes[0].sharing is None
        assert snapshot.vms == ()


async def test_kubevirt_and_hami_that_appear_are_picked_up() -> None:
    bench = Bench()
    bench.api.put(NODES, node())
    bench.api.put(GPU_NODES, gpu_node())
    async with bench.running():
        await bench.look()
        bench.api.put(VMIS, vmi())
        bench.api.put("/apis/apps/v1/deployments", scheduler())
        await bench.clock.advance(15)
        snapshot = await bench.look()
        assert [v.name for v in snapshot.vms] == ["vm1"]
        assert snapshot.nodes[0].sharing is not None
        assert bench.cluster.view.hami_version(NodeName("n1")) == (2, 10)


async def test_snapshot_is_not_synced_before_everything_is_listed_and_says_what_is_missing() -> None:
    bench = Bench()
    bench.api.kinds.remove(GPU_NODES)
    async with bench.running():
        assert not (await bench.look()).synced
        assert any("gpunodes.poolmgr.io are not listed yet" in line for line in bench.cluster.view.trouble())
        assert bench.cluster.view.highest_epoch() is None


async def test_outage_makes_the_snapshot_unsynced_once_it_is_too_old() -> None:
    bench = Bench()
    async with bench.running():
        assert (await bench.look()).synced
        bench.transport.down = True
        bench.api.end_watches()
        await bench.clock.advance(60)
        assert (await bench.look()).synced
        await bench.clock.advance(60)
        assert not (await bench.look()).synced
        assert any("last confirmed" in line for line in bench.cluster.view.trouble())


async def test_renamed_resources_are_read_from_hamis_configuration() -> None:
    bench = Bench()
    bench.api.put(PODS, pod(limits={"example.com/vgpu": "2"}))
    config: dict[str, Any] = {
        "metadata": {"name": "hami-scheduler-device", "namespace": "hami"},
        "data": {"device-config.yaml": "nvidia: {resourceCountName: example.com/vgpu}"},
    }
    bench.api.put(CONFIG_MAPS, config)
    async with bench.running():
        assert [p.gpus for p in (await bench.look()).pods] == [2]
        config["data"]["device-config.yaml"] = "nvidia: {resourceCountName: nvidia.com/gpu}"
        bench.api.put(CONFIG_MAPS, config)
        await bench.clock.advance(50)
        snapshot = await bench.look()
        assert snapshot.synced
        assert snapshot.pods == ()


async def test_configuration_that_cannot_be_read_stops_trust_and_is_named() -> None:
    bench = Bench()
    bench.api.put(
        CONFIG_MAPS,
        {
            "metadata": {"name": "hami-scheduler-device", "namespace": "hami"},
            "data": {"device-config.yaml": "- a"},
        },
    )
    async with bench.running():
        assert not (await bench.look()).synced
        assert "ConfigMap hami/hami-scheduler-device" in bench.cluster.view.trouble()[0]


async def test_waiting_ends_with_what_matters_and_not_with_ordinary_pods() -> None:
    bench = Bench()
    async with bench.running():
        await bench.all_seen()
        waiting = asyncio.ensure_future(bench.cluster.view.wait_for_change(30))
        bench.api.put(PODS, pod("ordinary", node="n1", limits={}))
        await bench.clock.settle()
        assert not waiting.done()
        bench.api.put(PODS, pod("shared"))
        await bench.clock.settle()
        assert waiting.done()
        await bench.all_seen()
        waiting = asyncio.ensure_future(bench.cluster.view.wait_for_change(30))
        await bench.clock.advance(31)
        assert waiting.done()


async def test_changes_that_nobody_waits_for_are_gathered() -> None:
    bench = Bench()
    async with bench.running():
        await bench.all_seen()
        waiting = asyncio.ensure_future(bench.cluster.view.wait_for_change(30, settle_seconds=5))
        bench.api.put(PODS, pod("shared"))
        await bench.clock.advance(4)
        assert not waiting.done()
        await bench.clock.advance(1.5)
        assert waiting.done()


async def test_vm_that_begins_to_wait_ends_the_gathering() -> None:
    bench = Bench()
    bench.api.kinds |= {VMS, VMIS}
    async with bench.running():
        for created in (vm(), vmi()):
            await bench.all_seen()
            waiting = asyncio.ensure_future(bench.cluster.view.wait_for_change(30, settle_seconds=5))
            bench.api.put(VMS if created["kind"] == "VirtualMachine" else VMIS, created)
            await bench.clock.settle()
            assert waiting.done()
        await bench.all_seen()
        waiting = asyncio.ensure_future(bench.cluster.view.wait_for_change(30, settle_seconds=5))
        bench.api.put(VMIS, vmi(phase="Running", node="n1"))
        await bench.clock.settle()
        assert not waiting.done()
        await bench.clock.advance(6)
        assert waiting.done()


async def test_change_on_a_node_where_gpus_move_ends_the_gathering() -> None:
    bench = Bench()
    bench.api.put(NODES, node("n1"))
    bench.api.put(NODES, node("n2"))
    bench.api.put(GPU_NODES, gpu_node("n1", spec=MOVING))
    bench.api.put(GPU_NODES, gpu_node("n2"))
    async with bench.running():
        for name, at_once in (("n2", False), ("n1", True)):
            await bench.all_seen()
            waiting = asyncio.ensure_future(bench.cluster.view.wait_for_change(30, settle_seconds=5))
            bench.api.put(PODS, pod(f"shared-{name}", node=name))
            await bench.clock.settle()
            assert waiting.done() is at_once
            bench.api.put(NODES, node(name, unschedulable=True))
            await bench.clock.settle()
            assert waiting.done() is at_once
            await bench.clock.advance(6)
            await waiting


async def test_snapshot_that_somebody_takes_meanwhile_ends_nobodys_wait_later() -> None:
    """A change is for who waits for it, whoever looks first."""
    bench = Bench()
    bench.api.kinds.add(VMIS)
    async with bench.running():
        await bench.all_seen()
        bench.api.put(VMIS, vmi())
        await bench.look()
        waiting = asyncio.ensure_future(bench.cluster.view.wait_for_change(30, settle_seconds=5))
        await bench.clock.settle()
        assert waiting.done()


async def test_own_write_is_seen_at_once_and_wakes_who_waits() -> None:
    bench = Bench()
    bench.api.put(NODES, node())
    bench.api.put(GPU_NODES, gpu_node())
    async with bench.running():
        await bench.all_seen()
        (before,) = (await bench.look()).nodes
        stored = bench.api.handle("PATCH", f"{GPU_NODES}/n1", {}, {"spec": MOVING}, "")
        bench.cluster.view.wrote(before.revision, msgspec.json.decode(stored.body, type=wire.GpuNode))
        (after,) = (await bench.cluster.view.snapshot()).nodes
        assert after.transition is not None
        assert after.revision > before.revision
        waiting = asyncio.ensure_future(bench.cluster.view.wait_for_change(30, settle_seconds=5))
        await asyncio.sleep(0)
        await bench.clock.settle()
        assert waiting.done()
        assert (await bench.look()).nodes == (after,), "the watch tells nothing new"


async def test_answer_that_is_older_than_what_the_watch_brought_changes_nothing() -> None:
    bench = Bench()
    bench.api.put(NODES, node())
    bench.api.put(GPU_NODES, gpu_node())
    async with bench.running():
        (before,) = (await bench.look()).nodes
        stored = bench.api.handle("PATCH", f"{GPU_NODES}/n1", {}, {"spec": MOVING}, "")
        bench.api.handle("PATCH", f"{GPU_NODES}/n1", {}, {"spec": {"transition": None}}, "")
        assert (await bench.look()).nodes[0].transition is None
        bench.cluster.view.wrote(before.revision, msgspec.json.decode(stored.body, type=wire.GpuNode))
        assert (await bench.look()).nodes[0].transition is None


async def test_subjects_are_found_as_the_objects_people_look_at() -> None:
    bench = Bench()
    bench.api.put(NODES, node())
    bench.api.put(GPU_NODES, gpu_node())
    bench.api.put(GPU_POOLS, pool())
    bench.api.put(PODS, pod())
    bench.api.put(PODS, launcher())
    bench.api.put(VMIS, vmi())
    bench.api.put(VMS, vm())
    async with bench.running():
        await bench.look()

        def kinds(kind: SubjectKind, namespace: str, name: str) -> list[str]:
            return [r.kind for r in bench.cluster.view.references(Subject(kind, namespace, name))]

        assert kinds(SubjectKind.NODE, "", "n1") == ["GPUNode", "Node"]
        assert kinds(SubjectKind.GPU, "n1", "0000:00:04.0") == ["GPUNode"]
        assert kinds(SubjectKind.POOL, "", "a10") == ["GPUPool"]
        assert kinds(SubjectKind.POD, "ml", "p1") == ["Pod"]
        assert kinds(SubjectKind.VM, "desktops", "vm1") == ["VirtualMachineInstance", "VirtualMachine"]
        assert kinds(SubjectKind.POD, "ml", "gone") == []
        assert kinds(SubjectKind.POOL, "", "gone") == []


async def test_highest_epoch_is_found_wherever_it_was_written() -> None:
    bench = Bench()
    bench.api.put(NODES, node(annotations={"poolmgr.io/epoch": "11"}))
    bench.api.put(GPU_NODES, gpu_node())
    async with bench.running():
        assert bench.cluster.view.highest_epoch() == 11


KEPT = GpuUuid("GPU-1")


@pytest.mark.parametrize(
    ("waiting", "kept_off"),
    [
        (pod("x", "ml"), True),
        (pod("x", "uni"), False),
        (pod("x", "ml", annotations={"poolmgr.io/reservation": "uni/course"}), True),
        (pod("x", "ml", node="n1"), False),
        (pod("x", "ml", limits={"cpu": "1"}), False),
    ],
    ids=["a stranger", "a holder", "one that only claims to be", "one that is placed", "one without a GPU"],
)
async def test_waiting_pods_of_others_are_kept_off_cards_of_a_reservation(
    waiting: dict[str, Any], kept_off: bool
) -> None:
    bench = Bench()
    cards = [{"node": "n1", "uuid": KEPT}]
    bench.api.put(RESERVATIONS, {**reservation(mode="Shared"), "status": {"cards": cards}})
    bench.api.put(PODS, waiting)
    async with bench.running():
        await bench.look()
        rule = bench.cluster.view.exclusions()
        assert rule is not None
        assert rule(f"{waiting['metadata']['namespace']}/x").needed == frozenset({KEPT} if kept_off else ())


async def test_nothing_is_said_of_exclusions_before_the_cluster_is_read() -> None:
    assert Bench().cluster.view.exclusions() is None


async def test_an_event_about_a_reservation_finds_its_object() -> None:
    bench = Bench()
    bench.api.put(RESERVATIONS, reservation())
    async with bench.running():
        await bench.look()
        view = bench.cluster.view
        (found,) = view.references(Subject(SubjectKind.RESERVATION, "uni", "course"))
        assert (found.kind, found.namespace, found.uid) == ("GPUReservation", "uni", "uid-course")
        assert view.references(Subject(SubjectKind.RESERVATION, "uni", "gone")) == ()
