"""Nodes are lent to best-effort containers as the newest plan says, and never where a pool does not allow it."""

from dataclasses import dataclass, field, replace

import pytest

from poolmgr.controller.lending import CHANGES_A_TICK, Lending, changes, may_lend
from poolmgr.domain.errors import PoolError, Rejected, Stale, Unavailable
from poolmgr.domain.fleet import EvictionRule, Pool, RebalanceMode
from poolmgr.domain.identifiers import NodeName, PoolName
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.sim.actuators import Crash, FixedLeadership
from poolmgr.wire.annotations import BEST_EFFORT_ONLY
from tests.builders import gpu, node, pool, snapshot
from tests.unit.controller.rig import POOL, Rig

LENDING = replace(POOL, eviction=EvictionRule.BEST_EFFORT)
N1 = NodeName("n1")


def rig_of(nodes: int = 3, *pools: Pool) -> Rig:
    return Rig(nodes=nodes, pools=pools or (LENDING,))


def labelled(rig: Rig) -> set[str]:
    return {n.name for n in rig.fleet.world.nodes.values() if BEST_EFFORT_ONLY in n.labels}


def lending_events(rig: Rig) -> list[tuple[str, str]]:
    """(node, first words of the sentence) of every Event about lending."""
    return [
        (subject.name, "lent" if "only best-effort pods may start" in message else "back")
        for _, subject, reason, message, _ in rig.fleet.actuators.events
        if reason is Reason.LENT_TO_BEST_EFFORT and subject.kind is SubjectKind.NODE
    ]


@pytest.mark.parametrize(
    ("over", "reason", "says"),
    [
        (
            {"rebalance": RebalanceMode.RECOMMEND},
            Reason.RECOMMEND_ONLY,
            "rebalancing of pool a10 is Recommend",
        ),
        ({"rebalance": RebalanceMode.OFF}, Reason.POOL_OFF, "rebalancing of pool a10 is Off"),
        ({"eviction": EvictionRule.NEVER}, Reason.EVICTION_DENIED, "pool a10 does not allow evictions"),
    ],
)
def test_pool_that_does_not_allow_it_lends_nothing(
    over: dict[str, object], reason: Reason, says: str
) -> None:
    allowing = pool(eviction=EvictionRule.BEST_EFFORT)
    found = node(gpu())
    assert may_lend(found, {allowing.name: allowing})
    refusing = replace(allowing, **over)  # type: ignore[arg-type]
    verdict = may_lend(found, {refusing.name: refusing})
    assert (verdict.ok, verdict.reason) == (False, reason)
    taken = snapshot(replace(found, best_effort_only=True), pools=(refusing,))
    [change] = changes(frozenset({N1}), taken)
    assert (change.on, change.message) == (False, f"pods of any kind may start on node n1 again: {says}")


def test_every_pool_of_the_node_has_a_say_and_a_gpu_of_none_says_no() -> None:
    allowing = pool(eviction=EvictionRule.BEST_EFFORT)
    other = pool("t4")
    pools = {p.name: p for p in (allowing, other)}
    assert not may_lend(node(gpu(0), gpu(1, pool=PoolName("t4"))), pools)
    assert not may_lend(node(gpu(0), gpu(1, pool=None)), pools)
    assert not may_lend(node(gpu(0, pool=PoolName("gone"))), pools)
    assert not may_lend(node(), pools)


async def test_nodes_are_lent_as_planned_and_taken_back_and_each_is_told_once() -> None:
    rig = rig_of()
    controller = rig.controller()
    rig.orders.lent = {"node-1", "node-3"}
    await rig.run(controller, 30)
    assert labelled(rig) == {"node-1", "node-3"}
    rig.orders.lent = {"node-3"}
    await rig.run(controller, 30)
    assert labelled(rig) == {"node-3"}
    assert lending_events(rig) == [("node-1", "lent"), ("node-3", "lent"), ("node-1", "back")]
    assert rig.fleet.faults.by_name["ensure_best_effort_only"] == 3


async def test_planner_that_lends_nothing_costs_no_call() -> None:
    rig = rig_of()
    rig.want(Mode.PASSTHROUGH, 0)
    await rig.run_until_quiet(rig.controller())
    assert rig.fleet.faults.by_name["ensure_best_effort_only"] == 0


async def test_label_set_by_hand_is_taken_off_each_time() -> None:
    rig = rig_of()
    controller = rig.controller()
    for _ in range(2):
        await rig.fleet.actuators.ensure_best_effort_only(NodeName("node-2"), True)
        await rig.run(controller, 5)
        assert labelled(rig) == set()
    assert lending_events(rig) == [("node-2", "back")] * 2


@pytest.mark.parametrize("over", [{"rebalance": RebalanceMode.RECOMMEND}, {"eviction": EvictionRule.NEVER}])
async def test_pool_that_changes_its_mind_gets_its_nodes_back(over: dict[str, object]) -> None:
    rig = rig_of()
    controller = rig.controller()
    rig.orders.lent = {"node-1"}
    await rig.run(controller, 5)
    rig.fleet.set_pools([replace(LENDING, **over)])  # type: ignore[arg-type]
    await rig.run(controller, 5)
    assert labelled(rig) == set()


async def test_planner_that_flips_at_each_tick_is_just_followed() -> None:
    rig = rig_of(1)
    controller = rig.controller()
    for turn in range(6):
        rig.orders.lent = {"node-1"} if turn % 2 == 0 else set()
        await controller.tick()
        assert labelled(rig) == rig.orders.lent
        await rig.fleet.clock.run_for(1.0)
    assert lending_events(rig) == [("node-1", "lent"), ("node-1", "back")] * 3


async def test_at_most_so_many_labels_change_in_a_tick_and_removals_come_first() -> None:
    rig = rig_of(CHANGES_A_TICK + 10)
    controller = rig.controller()
    names = sorted(rig.fleet.world.nodes)
    for name in names[:5]:
        await rig.fleet.actuators.ensure_best_effort_only(name, True)
    rig.orders.lent = set(names[5:])
    await controller.tick()
    assert labelled(rig) == set(names[5 : 5 + CHANGES_A_TICK - 5])
    await controller.tick()
    assert labelled(rig) == set(names[5:])


async def test_nothing_is_written_without_the_lease_and_the_successor_goes_on() -> None:
    rig = rig_of()
    first = rig.controller()
    rig.orders.lent = {"node-1"}
    await rig.run(first, 3)
    rig.leadership.held = None
    rig.orders.lent = {"node-2"}
    await rig.run(first, 30)
    assert labelled(rig) == {"node-1"}
    rig.leadership.held = 2  # type: ignore[assignment]
    await rig.run(rig.controller(), 3)
    assert labelled(rig) == {"node-2"}


async def test_view_that_cannot_be_trusted_changes_nothing() -> None:
    rig = rig_of()
    controller = rig.controller()
    rig.orders.lent = {"node-1"}
    rig.fleet.synced = False
    await rig.run(controller, 5)
    assert labelled(rig) == set()


async def test_manager_that_dies_between_two_labels_is_succeeded_whatever_it_left() -> None:
    undisturbed = rig_of()
    undisturbed.orders.lent = {"node-1", "node-2", "node-3"}
    await undisturbed.run(undisturbed.controller(), 3)
    points = [n for n, name, _ in undisturbed.fleet.faults.log if name == "ensure_best_effort_only"]
    assert len(points) == 3
    for number in points:
        for when in ("before", "after"):
            rig = rig_of()
            rig.orders.lent = {"node-1", "node-2", "node-3"}
            rig.fleet.faults.crash_at[number] = when
            with pytest.raises(Crash):
                await rig.run(rig.controller(), 3)
            rig.leadership.hand_over()
            rig.orders.lent = {"node-2"}
            await rig.run(rig.controller(), 3)
            assert labelled(rig) == {"node-2"}


async def test_call_that_fails_is_made_again_and_told_once() -> None:
    for when in ("before", "after"):
        rig = rig_of(2)
        controller = rig.controller()
        await controller.tick()
        rig.orders.lent = {"node-1", "node-2"}
        rig.fleet.faults.fail_at[rig.fleet.faults.calls + 1] = when
        await rig.run(controller, 10)
        assert labelled(rig) == {"node-1", "node-2"}
        assert sorted(lending_events(rig))[-1:] == [("node-2", "lent")]
        assert lending_events(rig).count(("node-1", "lent")) <= 1


async def test_dry_run_and_rebalance_change_nothing_of_it() -> None:
    rig = rig_of()
    controller = rig.controller()
    rig.orders.lent = {"node-1"}
    for dry_run in (True, False):
        await controller.request_rebalance("a10", dry_run=dry_run)
    assert labelled(rig) == set()
    assert lending_events(rig) == []


@dataclass
class LabelWriter:
    """Writes the label alone, with errors by node; without the lease after `lease_lasts` writes."""

    leadership: FixedLeadership = field(default_factory=FixedLeadership)
    errors: dict[str, PoolError] = field(default_factory=dict)
    lease_lasts: int = 99
    asked: list[str] = field(default_factory=list)

    async def ensure_best_effort_only(self, node: NodeName, on: bool) -> None:
        self.asked.append(node)
        if len(self.asked) == self.lease_lasts:
            self.leadership.held = None
        if node in self.errors:
            raise self.errors[node]


async def follow_all(writer: LabelWriter, *, ticks: int = 1) -> list[list[str]]:
    """Lend three nodes that the view never shows as lent; the nodes asked for in each tick."""
    taken = snapshot(
        *(node(gpu(node=name), name=name) for name in ("n1", "n2", "n3")),
        pools=(pool(eviction=EvictionRule.BEST_EFFORT),),
    )
    lending = Lending(writer, writer.leadership)  # type: ignore[arg-type]
    found = []
    for _ in range(ticks):
        await lending.follow(frozenset(n.name for n in taken.nodes), taken)
        found.append(list(writer.asked))
        writer.asked.clear()
    return found


async def test_lease_that_is_lost_between_two_labels_ends_the_writing() -> None:
    assert await follow_all(LabelWriter(lease_lasts=2)) == [["n1", "n2"]]


async def test_node_that_is_gone_or_written_by_others_keeps_no_other_from_its_turn() -> None:
    gone = Rejected(Reason.NOT_FOUND, "there is no such node")
    raced = Stale(Reason.STALE_GENERATION, "written by others all the time")
    assert await follow_all(LabelWriter(errors={"n1": gone, "n2": raced})) == [["n1", "n2", "n3"]]


async def test_api_server_that_is_gone_is_asked_once_a_tick_beginning_with_another_node() -> None:
    away = Unavailable(Reason.API_UNAVAILABLE, "no answer", retry_after_seconds=1.0)
    writer = LabelWriter(errors=dict.fromkeys(("n1", "n2", "n3"), away))
    assert await follow_all(writer, ticks=4) == [["n1"], ["n2"], ["n3"], ["n1"]]


async def test_writes_that_fail_for_some_nodes_do_not_keep_others_from_their_turn() -> None:
    away = Unavailable(Reason.API_UNAVAILABLE, "no answer", retry_after_seconds=1.0)
    asked = await follow_all(LabelWriter(errors={"n1": away, "n2": away}), ticks=3)
    assert asked == [["n1"], ["n2"], ["n3", "n1"]]
