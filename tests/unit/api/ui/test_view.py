"""What the page says: first whether there is anything to do, then everything else, never by colour alone."""

from dataclasses import replace

import pytest

from poolmgr.api.ui.view import MAX_NODES, make_view
from poolmgr.domain.census import take_census
from poolmgr.domain.fleet import Node
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.plan import Refusal, Subject, SubjectKind, Verdict
from poolmgr.domain.reasons import Reason
from tests.showcase import NOW, fleet, gpu, plan, pool, vm

LEADING = Verdict(True, Reason.ADMITTED, "leading")


def quiet_fleet(**changes: object):
    node = Node(NodeName("n1"), (gpu("n1", 1), gpu("n1", 2, Mode.PASSTHROUGH)))
    return fleet(**({"nodes": (node,), "vms": (), "pods": ()} | changes))


@pytest.mark.parametrize(
    ("snapshot", "mood", "headline"),
    [
        (fleet(), "trouble", "1 GPU needs a human"),
        (quiet_fleet(vms=(vm("a"), vm("b"))), "waiting", "2 workloads wait for a GPU"),
        (quiet_fleet(), "quiet", "All quiet"),
        (
            fleet(nodes=(replace(fleet().nodes[1], gpus=fleet().nodes[1].gpus[:2]),), vms=(), pods=()),
            "busy",
            "1 move under way, nobody waits",
        ),
    ],
)
def test_headline_says_the_worst_thing_first(snapshot, mood: str, headline: str) -> None:
    view = make_view(take_census(snapshot), plan(), LEADING)
    assert (view.mood, view.headline) == (mood, headline)


def test_standby_says_that_it_does_not_act() -> None:
    view = make_view(
        take_census(fleet()), None, Verdict(False, Reason.NOT_LEADER, "another manager holds the lease")
    )
    assert (view.mood, view.detail) == ("blind", "Another manager holds the lease.")


def test_every_tile_has_a_sign_or_is_idle_and_a_label_in_words() -> None:
    view = make_view(take_census(fleet()), plan(), LEADING)
    tiles = [tile for node in view.nodes for tile in node.tiles]
    assert [(t.look, t.sign) for t in tiles] == [
        ("vm inuse", "VM"),
        ("vm inuse", "VM"),
        ("shared inuse share-2", "1"),
        ("shared idle", ""),
        ("shared inuse share-2", "1"),
        ("shared moving", "→"),
        ("none trouble", "!"),
        ("vm idle", ""),
    ]
    assert tiles[0].label.startswith(
        "0000:01:00.0 on rack-1: given to a VM\nNVIDIA A10, 24576 MiB\nVM cad/grace"
    )
    assert "moving to VMs, Drain" in tiles[5].label
    assert "needs a human (UnbindTimedOut)" in tiles[6].label
    assert len({t.key for t in tiles}) == len(tiles)


def test_an_idle_tile_says_why_it_stays_where_it_is() -> None:
    why = Refusal(
        Subject(SubjectKind.GPU, "n1", "0000:02:00.0"), Reason.IN_PLACE, "kept ready: as on earlier days"
    )
    view = make_view(take_census(quiet_fleet()), replace(plan(), refusals=(why,)), LEADING)
    labels = [tile.label for tile in view.nodes[0].tiles]
    assert labels[1].endswith("Kept ready: as on earlier days.")
    assert "earlier days" not in labels[0]


def test_who_waits_comes_with_the_reason_of_the_newest_plan() -> None:
    machine, container = make_view(take_census(fleet()), plan(), LEADING).waiting[::-1]
    assert (machine.name, machine.wants, machine.since) == ("cad/ada-workstation", "1 × GA102GL_A10", "45 s")
    assert (machine.code, machine.why) == ("MoveUnderWay", "An A10 of rack-2 is on its way.")
    assert (container.name, container.wants) == ("ml/training-7", "6144 MiB, 25 % compute")
    assert container.why == "No decision about it yet."


def test_move_shows_where_it_stands() -> None:
    [move] = make_view(take_census(fleet()), plan(), LEADING).moves
    assert (move.node, move.to_side, move.since) == ("rack-2", "VMs", "40 s")
    assert dict(move.steps)["Fence"] == "done"
    assert dict(move.steps)["Drain"] == "now"
    assert dict(move.steps)["Rebind"] == "ahead"


def test_pool_shows_numbers_targets_and_bounds() -> None:
    [card] = make_view(take_census(fleet()), plan(), LEADING).pools
    passthrough, shared = card.sides
    assert (passthrough.gpus, passthrough.used, passthrough.target, passthrough.bounds) == (
        3,
        2,
        "4",
        "0 to 6",
    )
    assert (shared.target, shared.bounds) == ("3", "1 to no limit")


def test_large_fleet_shows_nodes_where_something_goes_on() -> None:
    quiet = [Node(NodeName(f"n-{i}"), (gpu(f"n-{i}", 1),)) for i in range(MAX_NODES + 5)]
    loud = Node(NodeName("zz"), (gpu("zz", 1, None, phase=DevicePhase.QUARANTINED),))
    view = make_view(take_census(fleet(nodes=(*quiet, loud))), None, LEADING)
    assert view.nodes_left_out == 6
    assert "zz" in [node.name for node in view.nodes]


def test_nodes_are_in_the_order_that_people_count() -> None:
    nodes = tuple(Node(NodeName(name), ()) for name in ("n-10", "n-2", "n-1"))
    assert [n.name for n in make_view(take_census(fleet(nodes=nodes)), None, LEADING).nodes] == [
        "n-1",
        "n-2",
        "n-10",
    ]


def test_gpus_outside_every_pool_are_counted_and_shown() -> None:
    alone = Node(NodeName("n1"), (gpu("n1", 1, pool=None, mode_since=NOW),))
    view = make_view(take_census(fleet(nodes=(alone,), pools=(pool(),), vms=(), pods=())), None, LEADING)
    assert view.count.gpus == 1
    assert len(view.nodes[0].tiles) == 1
