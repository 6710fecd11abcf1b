"""The forecast sizer: careful where VMs had to wait, lean where they did not, harmless where it is wrong."""

from typing import Any

from poolmgr.domain.fleet import EvictionRule
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.inventory import build_inventory
from poolmgr.planner.inventory.usage import usage_of
from poolmgr.planner.plan import PoolPlanner
from poolmgr.planner.sizing.forecast import BINS_A_DAY, bin_of
from poolmgr.planner.sizing.forecast_sizer import ForecastSizer
from poolmgr.planner.sizing.headroom import Headroom
from tests.unit.planner.builders import A10, NOW, node, pod, pool, snapshot, vm

KEY = ("p", A10)


def size(view: ClusterSnapshot, learned: Any = None) -> tuple[Headroom, dict[str, Any]]:
    found, remembered = ForecastSizer().size(view, build_inventory(view, usage_of(view)), learned)
    return found[KEY], remembered


def aversion(learned: dict[str, Any]) -> float:
    return float(learned["groups"]["/".join(KEY)]["risk_aversion"]["level"])


def history(levels: list[int]) -> dict[str, Any]:
    first = bin_of(NOW) - len(levels)
    return {"groups": {"/".join(KEY): {"history": {"first": first, "levels": levels}}}}


def test_care_rises_with_a_vm_that_waits_too_long_and_counts_it_once() -> None:
    view = snapshot(node("a", "ss"), vms=(vm("v", waiting_since=NOW - 100),))
    _, first = size(view)
    _, second = size(view, first)
    _, third = size(view, second)
    assert aversion(second) > aversion(first)
    assert aversion(third) == aversion(second)


def test_care_falls_with_vms_that_are_served_at_once() -> None:
    _, known = size(snapshot(node("a", "pp"), taken_at=NOW - 10))
    served = tuple(vm(f"v{n}", on=("a", n), created_at=NOW - 5) for n in range(2))
    _, after = size(snapshot(node("a", "pp"), vms=served), known)
    assert aversion(after) < aversion(known)


def test_without_a_past_nothing_is_fetched_or_closed_and_little_is_kept() -> None:
    headroom, _ = size(snapshot(node("a", "ssss")))
    assert (headroom.prefetch, headroom.keep) == (0, 1)
    assert all(gpus == 0 for _, gpus in headroom.ahead)


def rising_now() -> dict[str, Any]:
    """A week in which three VMs came at this time every day."""
    day = [0] * BINS_A_DAY
    at = (bin_of(NOW) + 1) % BINS_A_DAY
    for n in range(at, at + 12):
        day[n % BINS_A_DAY] = 3
    start = (bin_of(NOW)) % BINS_A_DAY
    return history((day[start:] + day[:start]) * 7)


def test_a_rise_that_came_at_this_time_every_day_is_fetched_and_closed_for() -> None:
    headroom, _ = size(snapshot(node("a", "ssss")), rising_now())
    assert headroom.prefetch == 3
    assert headroom.ahead[0][1] == 3


def test_where_nodes_are_lent_gpus_are_closed_for_the_next_minutes_only() -> None:
    lending, _ = size(
        snapshot(node("a", "ssss"), pools=(pool(eviction=EvictionRule.BEST_EFFORT),)), rising_now()
    )
    assert (lending.ahead, lending.lend[0][1], lending.soon) == ((), 3, 3)
    closing, _ = size(snapshot(node("a", "ssss")), rising_now())
    assert (closing.lend, closing.soon) == ((), 0)


def test_a_forecast_three_times_too_high_never_takes_more_than_the_pool_allows() -> None:
    past = [0, 300] * (7 * BINS_A_DAY // 2)
    young = tuple(pod(f"x{n}", ("a", n), cores=100, started_at=NOW - 60) for n in range(4))
    taken = (vm("v", on=("b", 0)),)
    view = snapshot(node("a", "ssss"), node("b", "p"), pods=young, vms=taken, pools=(pool(max_in_flight=2),))
    plan = PoolPlanner(ForecastSizer()).decide(view, history(past)).plan
    assert 0 < len(plan.moves) <= 2
    assert all(m.wait_for and not m.evict for m in plan.moves)


def test_batch_of_fifty_vms_is_served_by_every_idle_gpu_at_once() -> None:
    nodes = tuple(node(f"n{n:02d}", "ssss") for n in range(15))
    view = snapshot(*nodes, vms=tuple(vm(f"v{n:02d}") for n in range(50)))
    plan = PoolPlanner(ForecastSizer()).decide(view, None).plan
    assert len(plan.moves) == 50


def test_demand_that_flaps_at_the_threshold_moves_nothing_back_and_forth() -> None:
    """One VM comes and goes every five minutes on a pool with idle GPUs on both sides and pods that wait."""
    planner, learned, moves = PoolPlanner(ForecastSizer()), None, 0
    waiting = tuple(pod(f"x{n}", cores=100) for n in range(3))
    for step in range(48):
        now = NOW + 300.0 * step
        desktop = (vm("v", on=("a", 0), created_at=now - 10),) if step % 2 else ()
        view = snapshot(
            node("a", "pp"), vms=desktop, pods=waiting, pools=(pool(cooldown_seconds=0),), taken_at=now
        )
        decision = planner.decide(view, learned)
        learned = decision.learned
        moves += step > 12 and len(decision.plan.moves)
    assert moves <= 1
