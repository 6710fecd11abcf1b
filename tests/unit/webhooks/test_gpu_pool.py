"""What happens to GPUPools at admission."""

from typing import Any

import pytest

from poolmgr.domain.reasons import Reason
from tests.unit.webhooks.objects import T4, device, fleet, gpu_node, gpu_pool, node, request, small_fleet
from webhooks.fleet_view import FleetView
from webhooks.gpu_pool import decide_gpu_pool


def warnings(view: FleetView | None, **spec: Any) -> tuple[str, ...]:
    answer = decide_gpu_pool(request(gpu_pool("a10", **spec)), view)
    assert answer.verdict.ok
    return answer.warnings


def zoned() -> FleetView:
    """n1 in zone a, n2 in zone b, two A10 each; pool `a` has zone a."""
    return fleet(
        gpu_node("n1", device(0), device(1)),
        gpu_node("n2", device(0, "n2"), device(1, "n2")),
        pools=(gpu_pool("a", nodeSelector={"matchLabels": {"zone": "a"}}),),
        nodes=(node("n1", {"zone": "a", "rack": "1"}), node("n2", {"zone": "b", "rack": "2"})),
    )


def test_refuses_a_pool_that_claims_anothers_gpus() -> None:
    verdict = decide_gpu_pool(request(gpu_pool("all")), zoned()).verdict
    assert verdict.reason is Reason.POOL_OVERLAP
    assert verdict.message == (
        "2 GPUs on n1 would belong to this pool and to GPUPool a. A GPU belongs to exactly one pool: narrow "
        "spec.models or spec.nodeSelector.matchLabels of one of them."
    )


def test_pools_apart_by_label_or_model_do_not_overlap() -> None:
    for spec in ({"nodeSelector": {"matchLabels": {"zone": "b"}}}, {"models": [T4]}):
        view = zoned()
        assert decide_gpu_pool(request(gpu_pool("b", **spec)), view).verdict.ok


def test_a_pool_does_not_overlap_with_itself() -> None:
    before = gpu_pool("a", nodeSelector={"matchLabels": {"zone": "a"}})
    after = gpu_pool("a", nodeSelector={"matchLabels": {"zone": "a"}}, shared={"min": 1})
    assert decide_gpu_pool(request(after, before), zoned()).verdict.ok


def test_an_overlap_that_came_about_later_does_not_lock_the_pool() -> None:
    old = gpu_pool("all", shared={"min": 0})
    answer = decide_gpu_pool(request(gpu_pool("all", shared={"min": 1}), old), zoned())
    assert answer.verdict.ok
    assert "this pool and GPUPool a both select some GPUs: they belong to the older pool" in answer.warnings


def test_warns_of_an_overlap_that_a_new_node_would_bring() -> None:
    answer = decide_gpu_pool(request(gpu_pool("b", nodeSelector={"matchLabels": {"rack": "2"}})), zoned())
    assert answer.warnings == (
        "a node with the labels of both this pool and GPUPool a would be selected by both; its GPUs would "
        "belong to the older pool",
    )


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            {"passthrough": {"min": 3}, "shared": {"min": 2}},
            "passthrough.min and shared.min add up to 5, but the pool has 4 GPUs",
        ),
        (
            {"passthrough": {"min": 2}, "shared": {"min": 2}},
            "passthrough.min and shared.min add up to all 4 GPUs of the pool: once both are met, no GPU moves for demand",
        ),
        (
            {"passthrough": {"max": 1}, "shared": {"max": 2}},
            "passthrough.max and shared.max add up to 3, but the pool has 4 GPUs: 1 will remain above a limit",
        ),
        ({"passthrough": {"headroom": 9}}, "passthrough.headroom is 9, but the pool has 4 GPUs"),
        (
            {"rebalance": {"granularity": "Node"}},
            "rebalance.granularity Node moves up to 2 GPUs at once here, but rebalance.maxInFlight is 1: set it "
            "to at least 2",
        ),
        (
            {"quotas": [{"namespace": "ml", "maxGPUs": 6}]},
            "quota of namespace ml: maxGPUs 6 is more than the pool's 4",
        ),
        (
            {"rebalance": {"mode": "Off"}, "shared": {"headroom": 1}},
            "headroom has no effect while rebalance.mode is Off",
        ),
        (
            {"rebalance": {"mode": "Off", "eviction": "BestEffort"}},
            "rebalance.eviction has no effect while rebalance.mode is Off",
        ),
        (
            {"idleVM": {"action": "Stop"}},
            "idleVM.action Stop does not stop virtual machines yet: like Notify, it tells owners, who must stop them themselves",
        ),
        ({"models": ["NVIDIA A1O"]}, "this pool selects no GPU of this cluster, which has NVIDIA A10"),
    ],
)
def test_warns_of_limits_the_fleet_cannot_meet(spec: dict[str, Any], sentence: str) -> None:
    assert warnings(small_fleet(), **spec) == (sentence,)


def test_a_sensible_pool_passes_in_silence() -> None:
    assert warnings(small_fleet(), passthrough={"max": 3}, shared={"min": 1}) == ()


def test_without_a_view_only_the_pool_itself_is_judged() -> None:
    assert warnings(None, passthrough={"min": 99}) == ()
