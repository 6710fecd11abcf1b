"""A file of objects is read as the cluster that it came from."""

import json
import random

import pytest
import yaml

from poolmgr import wire
from poolmgr.cluster.client import Client
from poolmgr.cluster.objects import ObjectStore, parse_objects
from poolmgr.cluster.reflector import Reflector
from poolmgr.domain.errors import Rejected
from poolmgr.wire import kinds
from tests.unit.cluster.builders import budget, gpu_node, node, plugin, pod, pool, vm
from tests.unit.cluster.virtual_clock import VirtualClock

NOW = 1_800_000_000.0


def with_kind(kind: str, document: dict, version: str = "v1") -> dict:
    return {"apiVersion": version, "kind": kind, **document}


def test_yaml_documents_lists_and_json_say_the_same() -> None:
    objects = [with_kind("Node", node("n1")), with_kind("Pod", pod("p1"))]
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    for text in (yaml.safe_dump_all(objects), yaml.safe_dump(listed), json.dumps(listed)):
        assert parse_objects(text, "a file") == objects


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "fleet.yaml is neither YAML nor JSON"),
        ('{"kind": ', "fleet.yaml is neither YAML nor JSON"),
        ("- 1\n", "document 1 of fleet.yaml is no Kubernetes object"),
        ("---\nkind: Pod\nmetadata: {name: x}\n", "document 1 of fleet.yaml is no Kubernetes object"),
        (
            "apiVersion: v1\nkind: List\nitems: [{kind: Pod}]\n",
            "document 1 of fleet.yaml is no Kubernetes object",
        ),
    ],
)
def test_what_is_no_object_is_named(text: str, said: str) -> None:
    with pytest.raises(Rejected, match=said):
        parse_objects(text, "fleet.yaml")


def test_later_object_of_the_same_name_takes_the_place_of_the_earlier() -> None:
    store = ObjectStore([with_kind("Node", node("n1")), with_kind("Node", node("n2"))], NOW)
    store.add(with_kind("Node", node("n1", labels={"mark": "new"})))
    assert [n["metadata"]["labels"].get("mark") for n in store.of(kinds.NODES)] == ["new", None]


def test_kinds_that_no_decision_looks_at_are_counted() -> None:
    store = ObjectStore([with_kind("Service", {"metadata": {"name": "s"}})] * 2, NOW)
    assert store.passed_over == {"Service": 2}


def test_node_can_be_cordoned_and_one_that_is_not_there_is_named() -> None:
    store = ObjectStore([with_kind("Node", node("n1"))], NOW)
    store.cordon("n1")
    assert store.of(kinds.NODES)[0]["spec"]["unschedulable"]
    with pytest.raises(Rejected, match="there is no Node n2 in the objects; there are: n1"):
        store.cordon("n2")


async def lists(store: ObjectStore, path: str, **query: str) -> list[str]:
    answer = await store.request("GET", path, query, None, "", 1.0)
    return [item["metadata"]["name"] for item in json.loads(answer.body)["items"]]


async def test_lists_are_by_namespace_and_selectors() -> None:
    store = ObjectStore(
        [
            with_kind("PodDisruptionBudget", budget("a", "ml"), "policy/v1"),
            with_kind("PodDisruptionBudget", budget("b", "desk"), "policy/v1"),
            with_kind("StorageClass", {"metadata": {"name": "fast"}}, "storage.k8s.io/v1"),
            with_kind("DaemonSet", plugin(), "apps/v1"),
            with_kind("ConfigMap", {"metadata": {"name": "c", "labels": {"app": "x"}}}),
        ],
        NOW,
    )
    assert await lists(store, kinds.DISRUPTION_BUDGETS.path()) == ["a", "b"]
    assert await lists(store, kinds.DISRUPTION_BUDGETS.path(namespace="desk")) == ["b"]
    assert await lists(store, kinds.STORAGE_CLASSES.path()) == ["fast"]
    assert len(await lists(store, kinds.DAEMON_SETS.path())) == 1
    maps = kinds.CONFIG_MAPS.path()
    assert await lists(store, maps, labelSelector="app=x") == ["c"]
    assert await lists(store, maps, labelSelector="app=y") == []
    assert await lists(store, maps, fieldSelector="metadata.name=c") == ["c"]
    assert await lists(store, maps, fieldSelector="metadata.name=d") == []


async def test_nothing_can_be_written() -> None:
    with pytest.raises(Rejected, match="cannot be changed"):
        await ObjectStore([], NOW).request("PATCH", kinds.NODES.path("n1"), {}, {}, "", 1.0)


async def test_mirror_of_a_file_is_complete_and_stays() -> None:
    clock = VirtualClock()
    store = ObjectStore(
        [
            with_kind("GPUNode", gpu_node("n1"), "poolmgr.io/v1alpha1"),
            with_kind("GPUPool", pool("a10"), "poolmgr.io/v1alpha1"),
            with_kind("VirtualMachine", vm("v"), "kubevirt.io/v1"),
        ],
        NOW,
    )
    mirror = Reflector(
        Client(store, clock=clock, rng=random.Random(1)),
        kinds.GPU_NODES,
        wire.GpuNode,
        project=lambda found: found.metadata.name,
        apply=lambda key, record: None,
    )
    import asyncio

    task = asyncio.ensure_future(mirror.run())
    await clock.settle()
    assert mirror.synced
    assert list(mirror.records) == ["n1"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
