"""A node of the fleet as its Node, its GPUNode and its pods make it."""

from collections import Counter
from typing import Any

from poolmgr import wire
from poolmgr.wire.nodes import Requested, node_of
from tests.unit.cluster import builders as build

A10 = build.A10


def offered(allocatable: dict[str, Any], pods_have: int = 0) -> dict[str, int] | None:
    gpu_node = build.as_wire(build.gpu_node("n1", [build.device(resourceName=A10)]), wire.GpuNode)
    node = build.as_wire(build.node("n1", allocatable=allocatable), wire.Node)
    found = node_of(gpu_node, node, (), Requested(amounts=Counter({A10: pods_have})))
    return None if found.offered is None else dict(found.offered)


def test_what_the_kubelet_offers_is_counted_for_the_resources_of_its_gpus_alone() -> None:
    assert offered({A10: "2", "other.com/x": "5"}) == {A10: 2}
    assert offered({}) == {A10: 0}


def test_what_pods_have_was_offered_once() -> None:
    assert offered({A10: "0"}, pods_have=3) == {A10: 3}
    assert offered({A10: "4"}, pods_have=3) == {A10: 4}


def test_of_a_node_that_is_gone_nobody_says() -> None:
    gpu_node = build.as_wire(build.gpu_node("n1", [build.device(resourceName=A10)]), wire.GpuNode)
    assert node_of(gpu_node, None, ()).offered is None
