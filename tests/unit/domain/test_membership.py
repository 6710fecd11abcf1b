"""A GPU belongs to the oldest pool that reaches it."""

from poolmgr.domain.fleet import Gpu, Node, Pool
from poolmgr.domain.identifiers import NodeName, PciAddress, PoolName
from poolmgr.domain.membership import Overlap, by_age, overlaps, pool_of
from poolmgr.domain.modes import Mode


def pool(name: str, created_at: float, *models: str, labels: dict[str, str] | None = None) -> Pool:
    return Pool(PoolName(name), models, tuple((labels or {}).items()), created_at=created_at)


def node(name: str, *models: str, labels: dict[str, str] | None = None) -> Node:
    gpus = tuple(
        Gpu(NodeName(name), PciAddress(f"0000:00:0{i}.0"), model, 1, Mode.SHARED)
        for i, model in enumerate(models)
    )
    return Node(NodeName(name), gpus, labels=tuple((labels or {}).items()))


def test_oldest_pool_has_the_gpu_whatever_the_order_of_asking() -> None:
    old, young = pool("z-old", 1.0), pool("a-young", 2.0)
    for pools in ([old, young], [young, old]):
        assert pool_of("NVIDIA A10", {}, by_age(pools)) == "z-old"


def test_pools_of_one_second_are_ordered_by_name() -> None:
    assert [p.name for p in by_age([pool("b", 1.0), pool("a", 1.0)])] == ["a", "b"]


def test_gpu_out_of_every_selector_has_no_pool() -> None:
    pools = by_age([pool("l4", 1.0, "NVIDIA L4"), pool("zone", 2.0, labels={"zone": "b"})])
    assert pool_of("NVIDIA A10", {"zone": "a"}, pools) is None


def test_loser_of_an_overlap_is_told_how_many_gpus_it_lost_and_to_whom() -> None:
    pools = [pool("all", 2.0), pool("a10", 1.0, "nvidia a10"), pool("late", 3.0, "NVIDIA A10")]
    fleet = [node("n1", "NVIDIA A10", "NVIDIA A10", "NVIDIA L4")]
    assert overlaps(pools, fleet) == (
        Overlap(PoolName("all"), PoolName("a10"), 2),
        Overlap(PoolName("late"), PoolName("a10"), 2),
    )


def test_pools_on_different_nodes_do_not_overlap() -> None:
    pools = [pool("a", 1.0, labels={"zone": "a"}), pool("b", 2.0, labels={"zone": "b"})]
    fleet = [node("n1", "NVIDIA A10", labels={"zone": "a"}), node("n2", "NVIDIA A10", labels={"zone": "b"})]
    assert overlaps(pools, fleet) == ()
