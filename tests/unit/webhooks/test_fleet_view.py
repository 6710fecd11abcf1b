"""The view that decisions are made on."""

from poolmgr.domain.fleet import EvictionRule, RebalanceMode
from poolmgr.domain.modes import Mode
from tests.unit.webhooks.objects import A10_RESOURCE, device, fleet, gpu_node, gpu_pool, node
from webhooks.fleet_view import NodeCount, ResourceCounts


def test_counts_room_by_resource_and_node() -> None:
    view = fleet(
        gpu_node("n1", device(0, mode="Passthrough"), device(1)),
        gpu_node("n2", device(0, "n2", mode="Passthrough", allocatedTo="uid")),
    )
    assert view.resources == {
        A10_RESOURCE: ResourceCounts({"n1": NodeCount(2, 1), "n2": NodeCount(1, 0)}, most=2, most_free=1)
    }
    assert view.census == {"n1": {"NVIDIA A10": 2}, "n2": {"NVIDIA A10": 1}}


def test_a_gpu_is_free_only_where_the_scheduler_would_place_a_machine() -> None:
    idle = gpu_node("n1", device(0, mode="Passthrough"))
    assert fleet(idle).resources[A10_RESOURCE].most_free == 1
    for closed in (node("n1", ready=False), node("n1", unschedulable=True)):
        assert fleet(idle, nodes=(closed,)).resources[A10_RESOURCE].most_free == 0


def test_a_gpu_that_a_process_has_open_is_not_free() -> None:
    held = device(0, mode="Passthrough", holders=[{"pid": 77, "command": "qemu", "path": "/dev/vfio/1"}])
    assert fleet(gpu_node("n1", held)).resources[A10_RESOURCE].most_free == 0


def test_modes_and_phases_of_a_newer_release_are_no_free_gpus() -> None:
    view = fleet(
        gpu_node("n1", device(0, mode="Leased")),
        gpu_node("n2", device(0, "n2", mode="Passthrough", phase="Aged")),
    )
    assert view.resources[A10_RESOURCE].most_free == 0
    assert view.census == {"n1": {"NVIDIA A10": 1}, "n2": {"NVIDIA A10": 1}}


def test_pool_of_a_newer_release_is_read_as_one_that_does_least() -> None:
    (found,) = fleet(pools=(gpu_pool(rebalance={"mode": "Scheduled", "eviction": "Any"}),)).pools
    assert (found.rebalance, found.eviction) == (RebalanceMode.OFF, EvictionRule.NEVER)


def test_a_gpu_leaves_from_the_intent_until_its_transition_ends() -> None:
    reported = gpu_node("n1", device(0), desired={0: "Passthrough"})
    moving = gpu_node("n1", device(0, phase="Moving"), moving={0: "Passthrough"})
    unbound = gpu_node("n1", device(0, mode="", phase="Unbound"), desired={0: "Passthrough"})
    for gpu in (reported, moving, unbound):
        assert fleet(gpu).leaving == {"GPU-n1-0"}
    assert fleet(gpu_node("n1", device(0, mode="Passthrough"))).leaving == frozenset()


def test_a_gpu_on_its_way_back_is_not_leaving() -> None:
    back = gpu_node("n1", device(0, mode="Passthrough"), moving={0: "Shared"})
    assert fleet(back).leaving == frozenset()


def test_the_older_pool_has_a_gpu_that_two_would_claim() -> None:
    old, young = gpu_pool("z-old"), gpu_pool("a-young", passthrough={"max": 0})
    young["metadata"]["creationTimestamp"] = "2026-11-22T11:00:00Z"
    view = fleet(gpu_node("n1", device(0)), pools=(young, old))
    model = view.named("nvidia a10")
    assert model is not None
    assert model.limits == {Mode.PASSTHROUGH: 1, Mode.SHARED: 1}


def test_gpus_without_a_pool_have_no_limit() -> None:
    view = fleet(gpu_node("n1", device(0), device(1)))
    model = view.named("NVIDIA A10")
    assert model is not None
    assert model.limits[Mode.PASSTHROUGH] == 2
    assert model.pools == ()


def test_nodes_that_serve_slices_without_an_agent_are_uncovered() -> None:
    view = fleet(
        gpu_node("n1", device(0)),
        nodes=(
            node("n1", capacity={"nvidia.com/gpu": "10", A10_RESOURCE: "1"}),
            node("n2", capacity={"nvidia.com/gpu": "10"}),
            node("n3", capacity={"nvidia.com/gpu": "0"}),
            node("n4", capacity={A10_RESOURCE: "4"}),
        ),
    )
    assert view.uncovered == ("n2",)
    assert view.foreign_resources[A10_RESOURCE] == 4


def test_an_empty_status_is_an_empty_node() -> None:
    assert fleet({"metadata": {"name": "n1"}, "spec": {}}).empty
