"""What a tenant writes about others is not believed; docs/explanation/trust.md lists what is, and why."""

import asyncio
from typing import Any

import pytest

from poolmgr.domain.fleet import Node
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.occupancy import occupancy_of
from poolmgr.domain.snapshot import ClusterSnapshot
from tests.unit.cluster.builders import (
    CREATED,
    GPU_A,
    GPU_B,
    Json,
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
from tests.unit.cluster.test_view import (
    CONFIG_MAPS,
    GPU_NODES,
    GPU_POOLS,
    NODES,
    PODS,
    VMIS,
    Bench,
    ViewSettings,
)

DAEMON_SETS = "/apis/apps/v1/daemonsets"
DEPLOYMENTS = "/apis/apps/v1/deployments"
LATER = "2026-11-23T10:00:00Z"
PLUGIN_LABEL = {"app.kubernetes.io/component": "hami-device-plugin"}
ALL = f"{GPU_A},NVIDIA,3000,0:{GPU_B},NVIDIA,3000,0:;"


def made(document: Json, namespace: str, at: str) -> Json:
    document["metadata"] |= {"namespace": namespace, "creationTimestamp": at}
    return document


def bench(settings: ViewSettings | None = None, *, with_hami: bool = True) -> Bench:
    """Two nodes with a shared GPU each, HAMi in its namespace, nobody on the GPUs."""
    found = Bench(settings)
    for name, uuid in (("n1", GPU_A), ("n2", GPU_B)):
        annotations = {"hami.io/node-nvidia-register": register(uuid)}
        found.api.put(NODES, node(name, annotations=annotations))
        found.api.put(GPU_NODES, gpu_node(name, [device(uuid=uuid)]))
    found.api.put(GPU_POOLS, pool())
    if with_hami:
        found.api.put(DAEMON_SETS, made(plugin(), "hami", CREATED))
        found.api.put(DEPLOYMENTS, made(scheduler(), "hami", CREATED))
    return found


def held(snapshot: ClusterSnapshot) -> dict[str, list[str]]:
    return {f"{one.namespace}/{one.name}": [part.uuid for part in one.slices] for one in snapshot.pods}


def named(snapshot: ClusterSnapshot, name: str) -> Node:
    return next(found for found in snapshot.nodes if found.name == name)


CONFIGS = (
    "nvidia: {resourceCountName: x/n}",
    "nvidia: {memoryFactor: [1]}",
    "nvidia: [",
    "a: &a [1]\nb: [*a, *a]\n",
    "x" * 300_000,
)


@pytest.mark.parametrize("text", CONFIGS, ids=["renames", "of another type", "no YAML", "aliases", "long"])
@pytest.mark.parametrize("namespace", ["aaa-tenant", "zzz-tenant"])
async def test_configuration_of_another_namespace_changes_nothing(text: str, namespace: str) -> None:
    found = bench()
    config = {"metadata": {"name": "hami-scheduler-device"}, "data": {"device-config.yaml": text}}
    found.api.put(PODS, pod("train", "ml"))
    async with found.running():
        before = await found.look()
        found.api.put(CONFIG_MAPS, made(config, namespace, LATER))
        seen = await found.look()
        assert (seen.synced, held(seen)) == (True, held(before)) == (True, {"ml/train": []})
        assert found.cluster.view.trouble() == ()


async def test_hamis_own_configuration_counts_whatever_others_there_are() -> None:
    found = bench()
    for namespace, name in (("aaa", "a/gpu"), ("hami", "own/gpu"), ("zzz", "z/gpu")):
        text = f"nvidia: {{resourceCountName: {name}}}"
        config = {"metadata": {"name": "hami-scheduler-device"}, "data": {"device-config.yaml": text}}
        found.api.put(CONFIG_MAPS, made(config, namespace, LATER))
    for name in ("a/gpu", "own/gpu", "z/gpu"):
        found.api.put(PODS, pod(name[0], "ml", limits={name: "1"}))
    async with found.running():
        assert list(held(await found.look())) == ["ml/o"]


@pytest.mark.parametrize("selector", [{"example.com/team": "blue"}, {}, {"no": "where"}])
async def test_daemon_set_of_another_namespace_is_no_plugin_and_no_label_is_taken_for_it(
    selector: Json,
) -> None:
    found = bench()
    forged = plugin()
    forged["spec"]["template"]["spec"]["nodeSelector"] = selector
    async with found.running():
        await found.look()
        found.api.put(DAEMON_SETS, made(forged, "aaa-tenant", LATER))
        await found.look()
        believed = found.cluster.view.plugin()
        assert believed is not None
        assert (believed.metadata.namespace, believed.spec.template.spec.node_selector) == (
            "hami",
            {"gpu": "on"},
        )


async def test_deployment_of_another_namespace_tells_no_release_and_no_scheduler() -> None:
    found = bench()
    forged = scheduler("v9.9.0")
    forged["spec"]["template"]["spec"]["containers"][1]["command"] = ["scheduler", "--scheduler-name=theirs"]
    found.api.put(DEPLOYMENTS, made(forged, "aaa-tenant", LATER))
    found.api.put(PODS, pod("waits", "ml", scheduler="theirs"))
    async with found.running():
        seen = await found.look()
        sharing = named(seen, "n1").sharing
        assert sharing is not None
        assert sharing.version == (2, 10)


async def test_where_an_administrator_has_said_hamis_namespace_no_older_imitation_counts() -> None:
    found = bench(ViewSettings(hami_namespace="hami"))
    found.api.put(DAEMON_SETS, made(plugin(), "aaa-tenant", "2020-01-01T00:00:00Z"))
    async with found.running():
        await found.look()
        believed = found.cluster.view.plugin()
        assert believed is not None
        assert believed.metadata.namespace == "hami"


FORGED_PODS = (
    pod("e", "tenant", node="n1", limits={}, labels=PLUGIN_LABEL),
    {**plugin_pod("n1"), "metadata": {**plugin_pod("n1")["metadata"], "namespace": "tenant"}},
)


@pytest.mark.parametrize("forged", FORGED_PODS, ids=["by its label", "by its owner, from another namespace"])
async def test_only_pods_of_hamis_daemon_set_are_its_plugins(forged: Json) -> None:
    found = bench()
    found.api.put(PODS, forged)
    async with found.running():
        sharing = named(await found.look(), "n1").sharing
        assert sharing is not None
        assert sharing.plugin_pods == 0
        found.api.put(PODS, plugin_pod("n1"))
        sharing = named(await found.look(), "n1").sharing
        assert sharing is not None
        assert sharing.plugin_pods == 1


@pytest.mark.parametrize(
    ("over", "believed"),
    [
        ({"spec": {"schedulingGates": [{"name": "x"}]}, "annotations": {"hami.io/vgpu-node": "n1"}}, []),
        ({"limits": {}, "node": "n1"}, []),
        ({"node": "n1"}, [GPU_A]),
        ({"node": "n2"}, [GPU_B]),
        ({"annotations": {"hami.io/vgpu-node": "n2"}}, [GPU_B]),
        ({"node": "n1", "annotations": {"hami.io/vgpu-node": "n2"}}, [GPU_A]),
        ({}, []),
    ],
    ids=[
        "gated",
        "asks for no device",
        "on n1",
        "on n2",
        "placed on n2",
        "bound to n1, says n2",
        "placed nowhere",
    ],
)
async def test_assignment_counts_for_gpus_of_the_pods_own_node_and_for_nobody_elses(
    over: Json, believed: list[str]
) -> None:
    found = bench()
    annotations = {**over.pop("annotations", {}), "hami.io/vgpu-devices-allocated": ALL}
    found.api.put(PODS, pod("evil", "tenant", annotations=annotations, **over))
    async with found.running():
        assert held(await found.look()).get("tenant/evil", []) == believed


async def test_assignment_is_judged_anew_when_a_node_reports_other_gpus() -> None:
    found = bench()
    found.api.put(PODS, pod("train", "ml", node="n1", annotations={"hami.io/vgpu-devices-allocated": ALL}))
    async with found.running():
        assert held(await found.look()) == {"ml/train": [GPU_A]}
        found.api.put(GPU_NODES, gpu_node("n2", []))
        assert held(await found.look()) == {"ml/train": [GPU_A, GPU_B]}, "nobody else has it: doubt decides"
        found.api.put(GPU_NODES, gpu_node("n2", [device(uuid=GPU_B)]))
        assert held(await found.look()) == {"ml/train": [GPU_A]}


@pytest.mark.parametrize(
    ("annotations", "over"),
    [
        ({"hami.io/vgpu-time": "9999999999"}, {}),
        ({"hami.io/vgpu-time": "1"}, {}),
        ({}, {"limits": {}}),
        ({}, {"spec": {"schedulingGates": [{"name": "x"}]}}),
        ({"hami.io/vgpu-node": "n1"}, {"node": "n2"}),
    ],
    ids=["of the future", "long ago", "asks for no device", "gated", "bound elsewhere"],
)
async def test_word_that_hami_is_placing_a_pod_stops_no_node_for_long(annotations: Json, over: Json) -> None:
    found = bench()
    said = {"hami.io/vgpu-node": "n1", "hami.io/bind-phase": "allocating", **annotations}
    found.api.put(PODS, pod("evil", "tenant", annotations=said, **over))
    async with found.running():
        sharing = named(await found.look(), "n1").sharing
        assert sharing is not None
        assert sharing.allocating == 0
        assert sharing.last_placement_at <= found.clock.now()


async def test_hamis_honest_word_counts_until_its_lock_would_end() -> None:
    found = bench()
    said = {
        "hami.io/vgpu-node": "n1",
        "hami.io/bind-phase": "allocating",
        "hami.io/vgpu-time": str(int(found.clock.now()) - 10),
    }
    found.api.put(PODS, pod("train", "ml", annotations=said))
    async with found.running():
        for seconds, allocating in ((0, 1), (280, 1), (20, 0)):
            await found.clock.advance(seconds)
            sharing = named(await found.look(), "n1").sharing
            assert sharing is not None
            assert sharing.allocating == allocating, seconds


async def test_pod_that_calls_itself_a_launcher_or_a_plugin_keeps_what_hami_gave_it() -> None:
    found = bench()
    given = {"hami.io/vgpu-devices-allocated": f"{GPU_A},NVIDIA,3000,0:;"}
    owner = {"kind": "VirtualMachineInstance", "name": "x", "uid": "uid-x", "controller": True}
    for name, labels in (("launcher", {"kubevirt.io": "virt-launcher"}), ("plugin", PLUGIN_LABEL)):
        forged = pod(name, "tenant", node="n1", annotations=given, labels=labels)
        forged["metadata"]["ownerReferences"] = [owner]
        found.api.put(PODS, forged)
    async with found.running():
        assert held(await found.look()) == {"tenant/launcher": [GPU_A], "tenant/plugin": [GPU_A]}


def _vm(snapshot: ClusterSnapshot) -> Any:
    (found,) = snapshot.vms
    return found


async def test_launcher_of_another_namespace_or_that_kubevirt_does_not_list_is_nobodys() -> None:
    found = bench()
    found.api.put(VMIS, vmi("desk", "ml"))
    found.api.put(PODS, launcher("desk", "tenant", node="n1"))
    async with found.running():
        assert _vm(await found.look()).waiting
        found.api.put(PODS, launcher("desk", "ml", node="n1"))
        assert _vm(await found.look()).node == "n1"
        listed = vmi("desk", "ml")
        listed["status"] = {"phase": "Scheduling", "activePods": {"uid-of-another": "n2"}}
        found.api.put(VMIS, listed)
        assert _vm(await found.look()).waiting


HIGHEST = 2**30
NO_EPOCHS = (str(HIGHEST + 1), "2147483647", "9" * 18, "9" * 5_000, "-1", "seven")


@pytest.mark.parametrize("reported", [*NO_EPOCHS, str(HIGHEST)], ids=lambda reported: reported[:20])
async def test_no_epoch_that_a_node_tells_keeps_managers_from_leading_and_from_writing_other_nodes(
    reported: str,
) -> None:
    found = bench()
    found.api.put(NODES, node("n1", annotations={"poolmgr.io/epoch": reported}))
    elector = found.cluster.elector

    async def lead(_: object) -> None:
        await asyncio.Event().wait()

    async with found.running():
        await found.look()
        running = asyncio.ensure_future(elector.run(lead))
        await found.clock.advance(30)
        assert elector.epoch == (HIGHEST + 1 if reported == str(HIGHEST) else 1)
        await found.cluster.sharing.ensure_best_effort_only(NodeName("n2"), True)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert found.api.get(f"{NODES}/n2")["metadata"]["labels"]["poolmgr.io/best-effort-only"] == "true"


async def test_node_that_says_it_has_anothers_gpu_has_none_of_the_pods_on_it() -> None:
    found = bench()
    given = {"hami.io/vgpu-devices-allocated": f"{GPU_A},NVIDIA,3000,0:;"}
    found.api.put(PODS, pod("train", "ml", node="n1", annotations=given))
    found.api.put(GPU_NODES, gpu_node("n2", [device(uuid=GPU_A)]))
    async with found.running():
        seen = await found.look()
        occupancy = occupancy_of(seen)
        users = {name: occupancy.users_of(named(seen, name).gpus[0]) for name in ("n1", "n2")}
        assert ([user.name for user in users["n1"]], users["n2"]) == (["pod ml/train"], ())
