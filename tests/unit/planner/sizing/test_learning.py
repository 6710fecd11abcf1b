"""The forecast of a live manager: silent until it knows, and at a loss for nothing that it is handed."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolmgr.domain.fleet import EvictionRule, RebalanceMode, SideLimits
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.inventory import build_inventory
from poolmgr.planner.inventory.usage import usage_of
from poolmgr.planner.plan import PoolPlanner
from poolmgr.planner.sizing.forecast import BIN_SECONDS, BINS_A_DAY, BINS_A_WEEK, bin_of
from poolmgr.planner.sizing.headroom import Headroom
from poolmgr.planner.sizing.learning import LearningSizer
from tests.unit.planner.builders import A10, gpu, node, pod, pool, snapshot, vm

KEY, NAME = ("p", A10), f"p/{A10}"
DAY = 86_400.0
TUESDAY = 2_901 * 7 * DAY + 5 * DAY + 9 * 3_600.0
"""Nine o'clock; 1970-01-01 was a Thursday."""


def size(view: ClusterSnapshot, learned: Any = None) -> tuple[Headroom, dict[str, Any]]:
    found, remembered = LearningSizer().size(view, build_inventory(view, usage_of(view)), learned)
    return found[KEY], remembered


def at(now: float, *nodes: Any, **overrides: Any) -> ClusterSnapshot:
    return snapshot(*(nodes or (node("a", "ssss"),)), taken_at=now, **overrides)


def days_of(*wanted: int) -> list[int]:
    """For each day, counted from nine o'clock, that many desktops from five past nine on for two hours."""
    return [many if 1 <= n < 25 else 0 for many in wanted for n in range(BINS_A_DAY)]


def learnt(levels: list[int], *, until: float = TUESDAY) -> dict[str, Any]:
    history = {"first": bin_of(until) - len(levels), "levels": levels}
    return {"layout": 2, "groups": {NAME: {"history": history}}}


def past(days: int, *, wanted: int = 3) -> dict[str, Any]:
    """Learnt by Tuesday nine o'clock from as many equal days."""
    return learnt(days_of(*[wanted] * days))


def levels(learned: dict[str, Any]) -> list[int]:
    return list(learned["groups"][NAME]["history"]["levels"])


def test_an_idle_cluster_that_no_vm_has_seen_moves_and_holds_nothing() -> None:
    planner, learned = PoolPlanner(LearningSizer()), None
    for hour in range(60):
        view = at(TUESDAY + hour * 3_600, node("a", "ssss"), node("b", "pp"), pods=(pod("x", ("a", 0)),))
        decision = planner.decide(view, learned)
        learned = decision.learned
        assert decision.plan.empty
        assert "kept ready for the next VM" not in " ".join(r.message for r in decision.plan.refusals)


def test_a_gpu_that_no_vm_has_ever_wanted_goes_to_pods_that_wait() -> None:
    waiting = (pod("x", cores=100), pod("y", cores=100))
    view = at(TUESDAY, node("a", "pp"), pods=waiting, pools=(pool(cooldown_seconds=0),))
    plan = PoolPlanner(LearningSizer()).decide(view, None).plan
    assert [m.to_mode for m in plan.moves] == [Mode.SHARED, Mode.SHARED]


def test_on_the_first_day_headroom_alone_counts_and_the_sentence_says_so() -> None:
    _, learned = size(at(TUESDAY))
    busy = node("a", "psss")
    headroom, learned = size(at(TUESDAY + 900, busy, vms=(vm("v", on=("a", 0)),)), learned)
    headroom, _ = size(at(TUESDAY + 7_200, busy, vms=(vm("v", on=("a", 0)),)), learned)
    assert (headroom.prefetch, headroom.keep, headroom.ahead) == (0, 0, ())
    assert headroom.message == (
        "pool p keeps 0 GPU(s) ready; VM demand has been recorded for 2 h; a forecast needs a full week"
    )


def test_gpus_that_fell_free_are_kept_while_vms_keep_coming_though_nothing_is_forecast() -> None:
    nodes = [node(f"n{n}", "pppppppp") for n in range(7)]
    _, learned = size(at(TUESDAY, *nodes))
    for step in range(1, 8):
        here = tuple(vm(f"v{n}", on=("n0", n)) for n in range(2 * (step % 2) + 1))
        headroom, learned = size(at(TUESDAY + 300 * step, *nodes, vms=here), learned)
    assert (headroom.prefetch, headroom.keep) == (0, 2)
    assert "plus up to 2 that become free, because VMs arrived in the last hour" in headroom.message


def test_of_two_gpus_none_is_kept_from_a_pod_that_waits_because_vms_came_and_went() -> None:
    planner, learned = PoolPlanner(LearningSizer()), None
    for step in range(8):
        here = (vm("v", on=("a", 0)),) if step % 4 == 2 else ()
        view = at(TUESDAY + 300 * step, node("a", "ps"), vms=here, pools=(pool(cooldown_seconds=0),))
        learned = planner.decide(view, learned).learned
    waits = (pod("filler", ("a", 1), cores=30), pod("waits", cores=80))
    view = at(TUESDAY + 2_400, node("a", "ps"), pods=waits, pools=(pool(cooldown_seconds=0),))
    assert [m.to_mode for m in planner.decide(view, learned).plan.moves] == [Mode.SHARED]


def test_where_no_vm_came_yet_the_sentence_says_that_there_is_nothing_to_forecast() -> None:
    headroom, _ = size(at(TUESDAY))
    assert headroom.message.endswith("no VM has asked for one yet, so there is nothing to forecast")


def test_after_a_whole_week_demand_is_forecast_and_the_sentence_refers_to_earlier_days() -> None:
    headroom, _ = size(at(TUESDAY), past(days=8))
    assert headroom.prefetch == 3
    assert (
        headroom.message
        == "judging by earlier days, up to 3 more GPU(s) may be needed within minutes and 3 within hours"
    )


def test_six_days_are_no_week() -> None:
    headroom, _ = size(at(TUESDAY), past(days=6))
    assert (headroom.prefetch, headroom.lend, headroom.ahead) == (0, (), ())
    assert "recorded for 6 days; a forecast needs a full week" in headroom.message


def test_a_forecast_that_was_wrong_is_not_acted_on_and_the_sentence_says_so() -> None:
    came = days_of(*[12] * 12, 2, 2)
    headroom, learned = size(at(TUESDAY, pools=(pool(eviction=EvictionRule.BEST_EFFORT),)), learnt(came))
    assert (headroom.prefetch, headroom.lend) == (0, ())
    assert headroom.message.endswith(
        "the forecast was too high in recent days, so current demand is followed until the forecast is accurate again"
    )
    assert learned["groups"][NAME]["accurate"] is False


def test_a_vm_that_waits_while_nothing_is_forecast_may_cost_less_work_than_with_a_forecast() -> None:
    reactive, _ = size(at(TUESDAY))
    forecast, _ = size(at(TUESDAY), past(days=8))
    assert 0 < reactive.work_at_once < forecast.work_at_once
    assert 0 < reactive.work_per_second_waited < forecast.work_per_second_waited


def test_a_large_group_that_vms_use_keeps_a_hundredth_ready_and_an_unused_one_nothing() -> None:
    """Steady tenants who come and go a few a day then move nothing, forecast or not."""
    nodes = tuple(node(f"n{n}", "p" * 8) for n in range(13))
    unused, learned = size(at(TUESDAY, *nodes))
    used, _ = size(at(TUESDAY + 300, *nodes, vms=(vm("v", on=("n1", 0)),)), learned)
    assert (unused.keep, used.keep) == (0, 2)


def test_late_vms_do_not_make_a_forecast_careful_that_is_not_acted_on() -> None:
    _, learned = size(at(TUESDAY))
    start = learned["groups"][NAME]["risk_aversion"]["level"]
    late = vm("v", waiting_since=TUESDAY - 100, created_at=TUESDAY - 100)
    _, learned = size(at(TUESDAY + 30, vms=(late,)), learned)
    assert learned["groups"][NAME]["risk_aversion"]["level"] == start


def test_accuracy_is_judged_once_in_five_minutes() -> None:
    sizer, learned = LearningSizer(), past(days=8)
    accurate = []
    for seconds in (0, 10, 300):
        view = at(TUESDAY + seconds)
        _, learned = sizer.size(view, build_inventory(view, usage_of(view)), learned)
        accurate.append(learned["groups"][NAME]["accurate"])
        learned["groups"][NAME]["accurate"] = False
    assert accurate == [True, False, True]


def test_what_is_headroom_is_not_called_forecast() -> None:
    evening = TUESDAY + 12 * 3_600
    quiet = days_of(*[3] * 9)[: 8 * BINS_A_DAY + BINS_A_DAY // 2]
    view = at(evening, pools=(pool(passthrough=SideLimits(headroom=1)),))
    headroom, _ = size(view, learnt(quiet, until=evening))
    assert (headroom.prefetch, headroom.keep) == (1, 1)
    assert headroom.message == "pool p keeps 1 GPU(s) ready"


def test_memory_survives_json_and_a_new_process() -> None:
    _, learned = size(at(TUESDAY), past(days=8))
    again = json.loads(json.dumps(learned))
    before, _ = size(at(TUESDAY + 60), learned)
    after, kept = size(at(TUESDAY + 60), again)
    assert after == before
    assert "anew" not in kept


def test_four_weeks_of_one_kind_of_gpu_take_less_than_forty_kilobytes() -> None:
    _, learned = size(at(TUESDAY), past(days=40, wanted=120))
    assert len(levels(learned)) <= 4 * BINS_A_WEEK + BINS_A_DAY
    assert len(json.dumps(learned)) < 40_000


FOREIGN = (
    "text",
    17,
    [],
    {},
    {"groups": 3},
    {"groups": {NAME: None}},
    {"groups": {NAME: {"history": {"first": 1.5, "levels": [1]}}}},
    {"groups": {NAME: {"history": {"first": 1, "levels": []}}}},
    {"groups": {NAME: {"history": {"first": 1, "levels": [1, "2"]}}}},
    {"groups": {NAME: {"history": {"first": 1, "levels": [-1]}}}},
    {"groups": {NAME: {"history": {"first": 1, "levels": [float("nan")]}}}},
    {"groups": {NAME: {"history": {"first": 1, "levels": [1]}, "risk_aversion": {"level": "high"}}}},
    {"layout": 99, "groups": {}},
)


@pytest.mark.parametrize("learned", FOREIGN)
def test_what_is_no_learned_state_of_ours_is_left_aside_with_the_reason(learned: Any) -> None:
    headroom, kept = size(at(TUESDAY), learned)
    assert (headroom.prefetch, headroom.keep) == (0, 0)
    assert "so learning started over" in headroom.message
    still, _ = size(at(TUESDAY + 600), json.loads(json.dumps(kept)))
    assert "so learning started over" in still.message


def test_what_the_release_before_kept_is_read_under_its_names() -> None:
    """Layout 1, as version 0.1.0 wrote it."""
    now = past(days=8)
    history = now["groups"][NAME]["history"]
    aversion = {"level": 1.25, "until": TUESDAY - 60.0, "late": []}
    entry = {"ledger": history, "care": aversion, "trusted": True, "bin": 1, "ahead": [[9], [9], [9], [9]]}
    before = {"layout": 1, "shelves": {NAME: entry, "p/damaged": {"ledger": "gone"}, "p/strange": 3}}
    headroom, kept = size(at(TUESDAY), before)
    assert (headroom.prefetch, headroom.keep) == (3, 3)
    assert kept["layout"] == 2
    assert kept["groups"][NAME]["risk_aversion"]["level"] == 1.25
    assert not {"ledger", "care", "trusted"} & set(kept["groups"][NAME])
    assert "2 GPU model(s) is damaged" in kept["anew"]


def test_damage_to_one_kind_of_gpu_leaves_the_others_their_past() -> None:
    known = past(days=8)
    known["groups"]["p/other"] = {"history": "gone"}
    headroom, _ = size(at(TUESDAY), known)
    assert headroom.prefetch == 3


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
parts = st.sampled_from(
    ["history", "first", "levels", "risk_aversion", "level", "until", "late", "bin", "ahead", NAME]
)
mangled = st.recursive(
    json_values | st.lists(st.integers(0, 9), max_size=9),
    lambda inner: st.dictionaries(parts, inner, max_size=6),
    max_leaves=12,
)


@given(mangled | st.fixed_dictionaries({"groups": st.dictionaries(st.just(NAME), mangled)}))
def test_no_learned_state_whatever_stops_a_decision(learned: Any) -> None:
    view = at(TUESDAY, vms=(vm("v"),))
    assert len(PoolPlanner(LearningSizer()).decide(view, learned).plan.moves) == 1


def test_a_clock_that_went_back_forgets_what_it_has_not_reached() -> None:
    known = past(days=8)
    yesterday = TUESDAY - DAY
    headroom, learned = size(at(yesterday), known)
    assert headroom.prefetch == 3
    assert len(levels(learned)) == 7 * BINS_A_DAY + 1
    _, learned = size(at(TUESDAY - 30 * DAY), learned)
    assert levels(learned) == [0]


def test_a_clock_that_was_a_year_ahead_for_a_moment_does_no_lasting_harm() -> None:
    aversion = {"level": 2.0, "until": TUESDAY, "late": []}
    known = past(days=8)
    known["groups"][NAME]["risk_aversion"] = aversion
    _, wrong = size(at(TUESDAY + 365 * DAY), known)
    headroom, right = size(at(TUESDAY + 300), wrong)
    assert levels(right) == [0]
    assert headroom.prefetch == 0
    _, right = size(at(TUESDAY + 2 * DAY, vms=(vm("v"),)), right)
    assert len(levels(right)) == 2 * BINS_A_DAY
    assert right["groups"][NAME]["risk_aversion"]["until"] == TUESDAY + 2 * DAY


def test_weeks_in_which_nobody_looked_leave_hours_and_days_in_place() -> None:
    headroom, learned = size(at(TUESDAY + 35 * DAY), past(days=14))
    assert headroom.prefetch == 3
    assert len(levels(learned)) == 14 * BINS_A_DAY + 1


def test_gpus_that_are_away_for_a_while_keep_their_past() -> None:
    _, learned = size(at(TUESDAY), past(days=8))
    other = node("b", "", gpus=(replace(gpu("b", 0), model="NVIDIA L40S"),))
    view = at(TUESDAY + 600, other)
    _, learned = LearningSizer().size(view, build_inventory(view, usage_of(view)), learned)
    headroom, _ = size(at(TUESDAY + 7 * DAY + 300), learned)
    assert headroom.prefetch == 3
    view = at(TUESDAY + 40 * DAY, other)
    _, learned = LearningSizer().size(view, build_inventory(view, usage_of(view)), learned)
    assert NAME not in learned["groups"]


def test_a_small_group_keeps_nothing_for_nobody_in_particular() -> None:
    waiting = (pod("x", cores=100),)
    view = at(TUESDAY + 10 * 3_600, node("a", "pp"), pods=waiting, pools=(pool(cooldown_seconds=0),))
    headroom, _ = size(view, past(days=8))
    assert headroom.keep == 0
    assert len(PoolPlanner(LearningSizer()).decide(view, past(days=8)).plan.moves) == 1


def test_a_pool_in_recommend_mode_is_told_what_the_forecast_would_do() -> None:
    view = at(TUESDAY, pools=(pool(rebalance=RebalanceMode.RECOMMEND),))
    plan = PoolPlanner(LearningSizer()).decide(view, past(days=8)).plan
    assert not plan.to_start
    said = [r for r in plan.refusals if r.reason is Reason.RECOMMEND_ONLY]
    assert len(said) == 3
    assert all("judging by earlier days" in r.message for r in said)


def test_a_pool_that_is_off_is_left_alone() -> None:
    view = at(TUESDAY, pools=(pool(rebalance=RebalanceMode.OFF),))
    assert PoolPlanner(LearningSizer()).decide(view, past(days=8)).plan.empty


@pytest.mark.parametrize(("at_once", "closed"), [(1, 0), (2, 1), (4, 3), (8, 4)])
def test_closing_gpus_ahead_leaves_places_for_vms_that_wait(at_once: int, closed: int) -> None:
    """Four busy GPUs of two nodes, young pods, and four desktops expected within the hour."""
    young = tuple(
        pod(f"{n}{g}", (n, g), cores=100, started_at=TUESDAY - 60.0) for n in ("a", "b", "c") for g in (0, 1)
    )
    nodes = tuple(node(n, "ss") for n in ("a", "b", "c"))
    view = at(TUESDAY, *nodes, pods=young, pools=(pool(max_in_flight=at_once),))
    plan = PoolPlanner(LearningSizer()).decide(view, past(days=8, wanted=6)).plan
    assert len(plan.moves) == closed
    assert all(m.wait_for and not m.evict for m in plan.moves)
    later = replace(view, taken_at=TUESDAY + BIN_SECONDS)
    assert len(PoolPlanner(LearningSizer()).decide(later, past(days=8, wanted=6)).plan.moves) <= closed
