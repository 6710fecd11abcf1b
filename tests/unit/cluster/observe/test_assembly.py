"""The snapshot: what it holds, and that it depends on what is there and not on how it came about."""

import random
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from poolmgr import wire
from poolmgr.cluster.observe.assembly import Assembly
from poolmgr.cluster.observe.pods import facts_of
from poolmgr.domain.fleet import RebalanceMode
from poolmgr.domain.modes import Mode
from poolmgr.domain.occupancy import indexed
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.wire.hami.config import HamiConfig
from tests.unit.cluster.builders import (
    A10,
    GPU_A,
    GPU_B,
    as_wire,
    budget,
    device,
    gpu_node,
    launcher,
    node,
    plugin,
    plugin_pod,
    pod,
    pool,
    register,
    scheduler,
    vmi,
)

NOW = 1_800_000_000.0
Json = dict[str, Any]


class Cluster:
    """Feeds JSON objects to an Assembly."""

    def __init__(self) -> None:
        self.assembly = Assembly()
        self._kinds: dict[str, tuple[Callable[[str, Any], None], type[Any]]] = {
            "Node": (self.assembly.apply_node, wire.Node),
            "GPUNode": (self.assembly.apply_gpu_node, wire.GpuNode),
            "GPUPool": (self.assembly.apply_pool, wire.GpuPool),
            "VirtualMachineInstance": (self.assembly.apply_instance, wire.VirtualMachineInstance),
            "PodDisruptionBudget": (self.assembly.apply_budget, wire.DisruptionBudget),
            "DaemonSet": (self.assembly.apply_plugin, wire.DaemonSet),
            "Deployment": (self.assembly.apply_scheduler, wire.Deployment),
        }

    def put(self, *documents: Json) -> "Cluster":
        for document in documents:
            self._apply(document, gone=False)
        return self

    def drop(self, *documents: Json) -> "Cluster":
        for document in documents:
            self._apply(document, gone=True)
        return self

    def look(self, now: float = NOW) -> ClusterSnapshot:
        """The snapshot; its index of pods is held against one made from scratch each time."""
        snapshot = self.assembly.snapshot(now, synced=True)
        by_gpu, loose = indexed(snapshot.pods)
        brought = {uuid: list(pods) for uuid, pods in by_gpu.items()}
        assert (brought, list(loose)) == indexed(tuple(snapshot.pods))
        return snapshot

    def _apply(self, document: Json, *, gone: bool) -> None:
        meta = document["metadata"]
        key = f"{meta['namespace']}/{meta['name']}" if "namespace" in meta else meta["name"]
        if document["kind"] == "Pod":
            facts = facts_of(as_wire(document, wire.Pod), HamiConfig(), frozenset({"hami-scheduler"}))
            self.assembly.apply_pod(key, None if gone else facts)
            return
        apply, kind = self._kinds[document["kind"]]
        apply(key, None if gone else as_wire(document, kind))


def test_node_joins_what_kubelet_agent_hami_and_pools_say() -> None:
    fleet = Cluster().put(
        node(annotations={"hami.io/node-nvidia-register": register(GPU_A)}),
        gpu_node(),
        pool(),
        plugin(),
        scheduler(),
        plugin_pod(),
        pod(node="n1", annotations={"hami.io/vgpu-node": "n1", "hami.io/vgpu-time": "5"}),
    )
    (found,) = fleet.look().nodes
    assert found.ready
    assert found.reported
    assert found.revision == "7"
    assert found.gpus[0].pool == "a10"
    assert (found.cpu_milli_free, found.memory_mib_free) == (15500 - 1000, 65536 - 2048)
    assert found.sharing is not None
    assert (found.sharing.version, found.sharing.plugin_pods, found.sharing.last_placement_at) == (
        (2, 10),
        1,
        5.0,
    )


def test_without_hami_there_is_no_sharing_layer() -> None:
    (found,) = Cluster().put(node(), gpu_node()).look().nodes
    assert found.sharing is None


def test_hami_that_appears_later_is_picked_up_on_every_node() -> None:
    fleet = Cluster().put(node("n1"), gpu_node("n1"), node("n2"), gpu_node("n2"))
    assert all(n.sharing is None for n in fleet.look().nodes)
    fleet.put(scheduler())
    assert all(n.sharing is not None for n in fleet.look().nodes)


def test_gpus_of_a_node_that_is_gone_still_show_but_not_ready() -> None:
    fleet = Cluster().put(node(), gpu_node())
    fleet.look()
    (found,) = fleet.drop(node()).look().nodes
    assert not found.ready
    assert len(found.gpus) == 1


def test_node_without_a_gpunode_is_not_part_of_the_fleet() -> None:
    assert Cluster().put(node()).look().nodes == ()


def test_agent_or_kubelet_that_is_not_ready_makes_the_node_not_ready() -> None:
    (found,) = Cluster().put(node(ready=False), gpu_node()).look().nodes
    assert not found.ready


def test_heartbeat_changes_nothing() -> None:
    fleet = Cluster().put(node(), gpu_node())
    before = fleet.look()
    after = fleet.put(node(heartbeat="2026-11-22T11:00:00Z")).look(NOW + 60)
    assert after.generation == before.generation
    assert after.nodes is before.nodes


def test_label_of_a_lent_node_is_seen_come_and_go_as_a_new_value() -> None:
    fleet = Cluster().put(node(), gpu_node())
    plain = fleet.look()
    lent = fleet.put(node(labels={"gpu": "on", "poolmgr.io/best-effort-only": "true"})).look()
    back = fleet.put(node()).look()
    assert [s.nodes[0].best_effort_only for s in (plain, lent, back)] == [False, True, False]
    assert plain.generation < lent.generation < back.generation
    assert lent.nodes[0] is not plain.nodes[0]


def test_generation_rises_with_every_difference() -> None:
    fleet = Cluster().put(node(), gpu_node())
    first = fleet.look().generation
    fleet.put(gpu_node(devices=[device(phase="Moving")]))
    assert fleet.look().generation == first + 1
    assert fleet.look().generation == first + 1


def test_disruption_budget_decides_who_may_be_evicted() -> None:
    fleet = Cluster().put(pod(node="n1"))
    assert fleet.look().pods[0].evictable
    assert not fleet.put(budget(allowed=0)).look().pods[0].evictable
    assert fleet.put(budget(allowed=1)).look().pods[0].evictable
    fleet.put(budget(allowed=0)).look()
    assert fleet.drop(budget()).look().pods[0].evictable


def test_vm_is_joined_with_launcher_and_the_devices_the_agent_saw() -> None:
    held = device(mode="Passthrough", allocatedTo="uid-launcher", resourceName=A10)
    fleet = Cluster().put(vmi(), launcher(node="n1", uid="uid-launcher"), gpu_node(devices=[held]))
    (vm,) = fleet.look().vms
    assert (vm.node, vm.devices) == ("n1", (("n1", "0000:00:04.0"),))


def test_pool_that_appears_takes_its_gpus() -> None:
    fleet = Cluster().put(node(), gpu_node())
    assert fleet.look().nodes[0].gpus[0].pool is None
    assert fleet.put(pool()).look().nodes[0].gpus[0].pool == "a10"
    assert fleet.drop(pool()).look().nodes[0].gpus[0].pool is None


def test_unknown_rebalance_mode_moves_nothing() -> None:
    (found,) = Cluster().put(pool(rebalance={"mode": "Turbo"})).look().pools
    assert found.rebalance is RebalanceMode.OFF


def test_node_lock_is_looked_at_again_although_nothing_changed() -> None:
    lock = {"hami.io/mutex.lock": "2026-11-22T10:00:00Z,ml,p1"}
    fleet = Cluster().put(node(annotations=lock), gpu_node(), scheduler())
    first = fleet.look(1795341600.0).nodes[0].sharing
    later = fleet.look(1795341600.0 + 301).nodes[0].sharing
    assert first is not None
    assert later is not None
    assert (first.locked_by, later.locked_by) == ("ml/p1", "")


def on(*uuids: str) -> dict[str, str]:
    return {"hami.io/vgpu-devices-allocated": "".join(f"{uuid},NVIDIA,3000,30:" for uuid in uuids) + ";"}


OBJECTS: tuple[tuple[Json, ...], ...] = (
    (node("n1"), node("n1", unschedulable=True), node("n1", labels={})),
    (node("n2", annotations={"hami.io/node-nvidia-register": register(GPU_A)}), node("n2", ready=False)),
    (
        gpu_node("n1"),
        gpu_node("n1", devices=[device(mode="Passthrough", allocatedTo="uid-desktops-virt-launcher-vm1")]),
    ),
    (gpu_node("n2", revision="8"), gpu_node("n2", observed=2)),
    (pool("a10"), pool("a10", models=["NVIDIA L4"])),
    (pool("all", created="2026-11-22T09:00:00Z", models=[]),),
    (
        pod("p1", node="n1"),
        pod("p1"),
        pod("p1", node="n2", annotations={"hami.io/vgpu-node": "n2"} | on(GPU_A)),
    ),
    (pod("p0", node="n1", annotations=on(GPU_A)), pod("p0", node="n1", annotations=on(GPU_A, GPU_B))),
    (pod("p2", node="n1", limits={}), pod("p2", node="n2", limits={}), pod("p2", node="n1", phase="Failed")),
    (plugin_pod("n1"), plugin_pod("n1", ready=False)),
    (launcher(), launcher(node="n1")),
    (vmi(), vmi(phase="Running", node="n1"), vmi(gpus=[])),
    (budget(), budget(allowed=1)),
    (plugin(),),
    (scheduler(), scheduler("v2.8.3")),
)


@given(seed=st.integers(0, 2**32), looks=st.lists(st.integers(0, 40), max_size=5))
def test_snapshot_after_any_history_equals_one_built_from_scratch(seed: int, looks: list[int]) -> None:
    rng = random.Random(seed)
    lived, present = Cluster(), {}
    for step in range(40):
        which = rng.randrange(len(OBJECTS))
        if which in present and rng.random() < 0.3:
            lived.drop(present.pop(which))
        else:
            present[which] = rng.choice(OBJECTS[which])
            lived.put(present[which])
        if step in looks:
            lived.look()
    fresh = Cluster().put(*rng.sample(list(present.values()), len(present)))
    one, other = lived.look(), fresh.look()
    assert (one.nodes, one.pools, one.vms, one.pods) == (other.nodes, other.pools, other.vms, other.pods)


def test_desired_mode_is_unset_until_the_manager_has_adopted_the_gpu() -> None:
    (found,) = Cluster().put(node(), gpu_node()).look().nodes
    assert found.gpus[0].desired_mode is None
    assert found.gpus[0].observed_mode is Mode.SHARED
