"""What holds for every cluster that can be drawn."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolmgr.domain.fleet import EvictionRule, Gpu, Node, Pool, SideLimits
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Plan, SubjectKind
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.inventory.eligibility import denial_of
from poolmgr.planner.inventory.inventory import build_inventory
from poolmgr.planner.inventory.usage import usage_of
from poolmgr.planner.plan import PoolPlanner
from poolmgr.planner.sizing.forecast_sizer import ForecastSizer
from poolmgr.planner.sizing.learning import LearningSizer
from tests.unit.planner.builders import gpu, moving, node, pod, pool, snapshot, vm

pytestmark = pytest.mark.long

PLANNERS = (PoolPlanner(), PoolPlanner(ForecastSizer()), PoolPlanner(LearningSizer()))


@st.composite
def clusters(draw: st.DrawFn) -> ClusterSnapshot:
    nodes: list[Node] = []
    vms, pods = [], []
    for n in range(draw(st.integers(1, 4))):
        name = f"n{n}"
        cards: list[Gpu] = []
        for g in range(draw(st.integers(1, 4))):
            mode = draw(st.sampled_from(list(Mode)))
            group = draw(st.sampled_from([g, g, g, 0, None]))
            card = gpu(name, g, mode, mode_since=draw(st.sampled_from([0.0, 9_900.0])), iommu_group=group)
            if draw(st.booleans()) and draw(st.booleans()):
                card = replace(card, desired_mode=mode.other)
            cards.append(card)
            if draw(st.booleans()):
                if mode is Mode.PASSTHROUGH:
                    vms.append(vm(f"r{n}{g}", on=(name, g)))
                else:
                    soft = draw(st.booleans())
                    pods.append(pod(f"r{n}{g}", (name, g), best_effort=soft, evictable=soft))
        built = node(name, "", gpus=tuple(cards))
        built = replace(
            built,
            ready=draw(st.sampled_from([True, True, True, False])),
            reported=draw(st.sampled_from([True, True, True, False])),
            cordoned=draw(st.sampled_from([False, False, False, True])),
        )
        stray = [i for i, c in enumerate(cards) if c.desired_mode is not c.observed_mode]
        if stray:
            built = replace(
                built, transition=moving(name, *stray, to=cards[stray[0]].desired_mode or Mode.SHARED)
            )
        nodes.append(built)
    for n in range(draw(st.integers(0, 4))):
        vms.append(vm(f"w{n}", gpus=draw(st.sampled_from([1, 1, 2, 4]))))
    for n in range(draw(st.integers(0, 5))):
        pods.append(pod(f"w{n}", cores=draw(st.sampled_from([10, 50, 100]))))
    total = sum(len(n.gpus) for n in nodes)
    limits = pool(
        passthrough=SideLimits(
            min=draw(st.integers(0, 1)),
            max=draw(st.sampled_from([None, 1, total])),
            headroom=draw(st.integers(0, 2)),
        ),
        shared=SideLimits(min=draw(st.integers(0, 2)), max=draw(st.sampled_from([None, total]))),
        max_in_flight=draw(st.integers(1, 5)),
        eviction=draw(st.sampled_from(list(EvictionRule))),
    )
    return snapshot(*nodes, vms=tuple(vms), pods=tuple(pods), pools=(limits,))


def side_counts(view: ClusterSnapshot) -> Counter[Mode | None]:
    return Counter(g.desired_mode or g.observed_mode for n in view.nodes for g in n.gpus)


def in_flight(view: ClusterSnapshot) -> int:
    return sum(g.desired_mode is not g.observed_mode for n in view.nodes for g in n.gpus)


@given(clusters(), st.sampled_from(PLANNERS))
def test_a_plan_keeps_every_promise(view: ClusterSnapshot, planner: PoolPlanner) -> None:
    plan = planner.decide(view, None).plan
    _no_busy_gpu_moves(view, plan)
    _bounds_and_budget_hold(view, plan)
    _one_direction_a_node_and_no_busy_node(view, plan)
    _everything_is_accounted_for(view, plan)
    assert plan == planner.decide(view, None).plan


def _no_busy_gpu_moves(view: ClusterSnapshot, plan: Plan) -> None:
    (limits,) = view.pools
    vm_on = {device for v in view.vms for device in v.devices}
    pods_on: dict[str, list[str]] = {}
    soft = {p.uid for p in view.pods if p.best_effort and p.evictable}
    for p in view.pods:
        for part in p.slices:
            pods_on.setdefault(part.uuid, []).append(p.uid)
    for move in plan.moves:
        assert (move.node, move.pci_address) not in vm_on
        users = set(pods_on.get(move.uuid, []))
        assert users <= set(move.evict) | set(move.wait_for)
        assert not move.evict or limits.eviction is EvictionRule.BEST_EFFORT
        assert set(move.evict) <= soft


def _bounds_and_budget_hold(view: ClusterSnapshot, plan: Plan) -> None:
    (limits,) = view.pools
    before = side_counts(view)
    gained = Counter(m.to_mode for m in plan.moves)
    for mode in Mode:
        change = gained[mode] - gained[mode.other]
        after, side = before[mode] + change, limits.side(mode)
        if change > 0 and side.max is not None:
            assert after <= side.max
        if change < 0:
            assert after >= side.min
    if plan.moves:
        assert in_flight(view) + len(plan.moves) <= limits.max_in_flight


def _one_direction_a_node_and_no_busy_node(view: ClusterSnapshot, plan: Plan) -> None:
    directions: dict[str, set[Mode]] = {}
    for move in plan.moves:
        directions.setdefault(move.node, set()).add(move.to_mode)
    for n in view.nodes:
        if n.name in directions:
            assert len(directions[n.name]) == 1
            assert n.ready
            assert n.reported
            assert n.transition is None
            assert not n.cordoned


def _everything_is_accounted_for(view: ClusterSnapshot, plan: Plan) -> None:
    moved = Counter((m.node, m.pci_address) for m in plan.moves)
    kept = Counter(
        (r.subject.namespace, r.subject.name) for r in plan.refusals if r.subject.kind is SubjectKind.GPU
    )
    every = Counter((g.node, g.pci_address) for n in view.nodes for g in n.gpus)
    assert moved + kept == every


@given(clusters())
def test_what_a_rule_keeps_is_told_by_that_rule(view: ClusterSnapshot) -> None:
    (limits,) = view.pools
    usage = usage_of(view)
    for kept in build_inventory(view, usage).ineligible:
        denial = denial_of(kept.gpu, kept.node, limits, usage, view.taken_at)
        assert denial is not None
        assert denial[1]


def carried_out(view: ClusterSnapshot, plan: Plan) -> ClusterSnapshot:
    """The cluster once all moves are done: GPUs where they should be, evicted pods waiting again."""
    moved = {(m.node, m.pci_address): m.to_mode for m in plan.moves}
    gone = {uid for m in plan.moves for uid in (*m.evict, *m.wait_for)}
    nodes = []
    for n in view.nodes:
        letters = tuple(
            gpu(n.name, int(g.pci_address[5:7], 16), moved[(n.name, g.pci_address)])
            if (n.name, g.pci_address) in moved
            else g
            for g in n.gpus
        )
        nodes.append(
            replace(node(n.name, "", gpus=letters), ready=n.ready, reported=n.reported, cordoned=n.cordoned)
        )
    return replace(view, nodes=tuple(nodes), pods=tuple(p for p in view.pods if p.uid not in gone))


@given(clusters(), st.sampled_from(PLANNERS))
def test_a_plan_applied_to_its_snapshot_gives_what_it_promised(
    view: ClusterSnapshot, planner: PoolPlanner
) -> None:
    """The sizes that its targets name, the GPUs that it names on the sides that it names, and no pod evicted or
    awaited that is not on one of them."""
    plan = planner.decide(view, None).plan
    after = carried_out(view, plan)
    sides = side_counts(after)
    assert sum(t.passthrough for t in plan.targets) == sides[Mode.PASSTHROUGH]
    assert sum(t.shared for t in plan.targets) == sides[Mode.SHARED]
    there = {(g.node, g.pci_address): g.observed_mode for n in after.nodes for g in n.gpus}
    assert all(there[(m.node, m.pci_address)] is m.to_mode for m in plan.moves)
    moved = {m.uuid for m in plan.moves}
    gone = {p.uid for p in view.pods} - {p.uid for p in after.pods}
    assert all(any(part.uuid in moved for part in p.slices) for p in view.pods if p.uid in gone)


@given(clusters(), st.sampled_from(PLANNERS))
def test_what_a_plan_has_moved_is_not_moved_back_by_the_next(
    view: ClusterSnapshot, planner: PoolPlanner
) -> None:
    first = planner.decide(view, None)
    second = planner.decide(carried_out(view, first.plan), first.learned).plan
    went = {(m.node, m.pci_address): m.to_mode for m in first.plan.moves}
    back = [m for m in second.moves if went.get((m.node, m.pci_address), m.to_mode) is not m.to_mode]
    assert not back


@given(st.integers(1, 6), st.integers(0, 6), st.integers(0, 6), st.integers(1, 12), st.sampled_from(PLANNERS))
def test_a_second_plan_after_success_is_empty(
    nodes: int, vms: int, pods: int, budget: int, planner: PoolPlanner
) -> None:
    """With one kind of VM and whole-card pods: when a plan has been carried out and what it served is bound,
    nothing is left to do but what the budget had held back."""
    view = snapshot(
        *(node(f"n{n}", "sp") for n in range(nodes)),
        vms=tuple(vm(f"v{n}") for n in range(vms)),
        pods=tuple(pod(f"x{n}", cores=100) for n in range(pods)),
        pools=(pool(max_in_flight=budget),),
    )
    rounds = 0
    plan = planner.decide(view, None).plan
    while not plan.empty:
        rounds += 1
        assert rounds <= 2 * nodes + 1, "plans chase each other"
        view = carried_out(view, plan)
        plan = planner.decide(view, None).plan
    free = side_counts(view)[Mode.PASSTHROUGH]
    assert free >= min(vms, 2 * nodes)


def test_pool_with_minimum_equal_to_maximum_never_moves() -> None:
    fixed = Pool(
        pool().name,
        passthrough=SideLimits(min=1, max=1),
        shared=SideLimits(min=1, max=1),
        cooldown_seconds=0,
        max_in_flight=9,
    )
    view = snapshot(
        node("a", "sp"), vms=(vm("v"), vm("w")), pods=(pod("x"), pod("y"), pod("z")), pools=(fixed,)
    )
    assert PoolPlanner().decide(view, None).plan.empty


def test_contradictory_limits_move_nothing_back_and_forth() -> None:
    """Minima that together exceed the pool: each plan may only obey one, and must not undo it next."""
    both = pool(passthrough=SideLimits(min=2), shared=SideLimits(min=2), cooldown_seconds=0)
    view = snapshot(node("a", "sp"), node("b", "s"), pools=(both,))
    assert PoolPlanner().decide(view, None).plan.empty


def test_one_model_exhausted_while_another_idles_moves_only_its_own() -> None:
    other = replace(gpu("b", 0), model="NVIDIA L40S", resource_name="nvidia.com/L40S")
    view = snapshot(node("a", "s"), node("b", "", gpus=(other,)), vms=(vm("v"),), pods=(pod("x", ("a", 0)),))
    plan = PoolPlanner().decide(view, None).plan
    assert plan.empty
    assert any(r.subject.name == "v" for r in plan.refusals)
