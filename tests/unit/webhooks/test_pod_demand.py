"""What a pod would count against quotas is the same at admission as in the planner."""

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poolmgr import wire
from poolmgr.cluster.observe.pods import facts_of
from poolmgr.domain.membership import by_age
from poolmgr.planner.charges import Charges
from poolmgr.planner.inventory.inventory import build_inventory
from poolmgr.planner.inventory.usage import usage_of
from poolmgr.wire.gpu_pools import pool_from
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.nodes import node_of
from tests.unit.planner.builders import snapshot
from tests.unit.webhooks.objects import (
    A10,
    A10_RESOURCE,
    T4,
    T4_RESOURCE,
    Object,
    container,
    device,
    fleet,
    gpu_node,
    gpu_pool,
    node,
    pod,
)
from webhooks.fleet_view import FleetView
from webhooks.pod_demand import demand_of
from webhooks.slices import asked_by, constraints_of

CONFIG = HamiConfig()
SCHEDULERS = frozenset({"hami-scheduler", "default-scheduler"})


def t4(index: int, host: str) -> Object:
    return device(index, host, model=T4, memoryMiB=15360, resourceName=T4_RESOURCE)


GPU_NODES = (
    gpu_node("n1", device(0), device(1)),
    gpu_node("n2", device(0, "n2"), t4(1, "n2")),
    gpu_node("n3", t4(0, "n3")),
)
NODES = tuple(
    node(name, {"zone": zone}, taints=[{"key": "x", "effect": "NoSchedule"}] if name == "n3" else [])
    for name, zone in (("n1", "a"), ("n2", "b"), ("n3", "b"))
)
POOLS = (
    gpu_pool("left", models=[A10, T4], nodeSelector={"matchLabels": {"zone": "a"}}),
    gpu_pool("right", models=[A10, T4], nodeSelector={"matchLabels": {"zone": "b"}}),
)
"""Both have A10."""


def view() -> FleetView:
    return fleet(*GPU_NODES, pools=POOLS, nodes=NODES)


def at_admission(new: Object) -> dict[str, float]:
    constraints = constraints_of(new["metadata"].get("annotations") or {})
    charge = demand_of(new, asked_by(new, CONFIG), constraints, view(), CONFIG).charge
    return {pool.name: gpus for pool, gpus in charge}


def in_the_planner(new: Object) -> dict[str, float]:
    pools = by_age(pool_from(msgspec.convert(p, wire.GpuPool)) for p in POOLS)
    nodes = [
        node_of(msgspec.convert(g, wire.GpuNode), msgspec.convert(n, wire.Node), pools)
        for g, n in zip(GPU_NODES, NODES, strict=True)
    ]
    facts = facts_of(msgspec.convert(new, wire.Pod), CONFIG, SCHEDULERS)
    assert facts is not None
    assert facts.shared is not None
    found = snapshot(*nodes, pods=(facts.shared,), pools=pools)
    return dict(Charges(found, build_inventory(found, usage_of(found))).of_waiting(facts.shared))


uuids = st.lists(st.sampled_from(["GPU-n1-0", "GPU-n2-0", "GPU-n2-1", "GPU-n3-0", "GPU-x"]), max_size=3)
models = st.lists(st.sampled_from(["A10", "T4", "H100"]), max_size=2)
asks = st.fixed_dictionaries(
    {"nvidia.com/gpu": st.sampled_from(["1", "2"])},
    optional={
        "nvidia.com/gpumem": st.sampled_from(["3k", "9000", "23028"]),
        "nvidia.com/gpucores": st.sampled_from(["30", "100"]),
        "cpu": st.just("1"),
    },
)
containers = st.fixed_dictionaries(
    {"name": st.just("c")},
    optional={
        "resources": st.fixed_dictionaries({}, optional={"limits": asks, "requests": asks}),
        "restartPolicy": st.just("Always"),
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "nvidia.com/use-gpuuuid": uuids.map(",".join),
            "nvidia.com/nouse-gpuuuid": uuids.map(",".join),
            "nvidia.com/use-gputype": models.map(",".join),
            "nvidia.com/nouse-gputype": models.map(",".join),
        },
    ),
    st.lists(containers, max_size=3),
    st.lists(containers, max_size=2),
    st.sampled_from([{}, {"zone": "a"}, {"zone": "b"}, {"zone": "c"}]),
)
def test_admission_charges_as_the_planner_does(
    annotations: dict[str, str], init: list[Object], beside: list[Object], selector: dict[str, str]
) -> None:
    new = pod(container(gpu=1, gpumem=3000), *beside, annotations=annotations)
    new["spec"] |= {"initContainers": init, "nodeSelector": selector}
    assert at_admission(new) == pytest.approx(in_the_planner(new))


def test_a_pod_that_names_its_card_counts_in_the_pool_of_that_card_alone() -> None:
    new = pod(container(gpu=1), annotations={"nvidia.com/use-gpuuuid": "GPU-n2-0"})
    assert at_admission(new) == {"right": 1.0}


def asked_whole(**resources: Any) -> float:
    """Whole GPUs that a pod with an init container and another counts for, with these resources of each."""
    new = pod({"name": "main", "resources": resources})
    new["spec"]["initContainers"] = [{"name": "init", "resources": resources}]
    charge = demand_of(new, asked_by(new, CONFIG, extended=True), None, view(), CONFIG).charge
    return {pool.name: gpus for pool, gpus in charge}["left"]


@pytest.mark.parametrize("fields", [("requests",), ("limits",), ("requests", "limits")])
def test_whole_gpus_of_an_init_container_are_not_added_to_what_runs_after_it(fields: tuple[str, ...]) -> None:
    assert asked_whole(**{field: {A10_RESOURCE: "2"} for field in fields}) == 2.0
