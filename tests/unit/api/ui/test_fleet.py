"""The picture of the nodes: every node can be reached, and nothing on a card is older than it says."""

from dataclasses import replace

from poolmgr.api.ui.fleet import NODES_A_PAGE, NodeCard, Picture, node_card
from poolmgr.domain.backoff import WHOLE_NODE, Backoff
from poolmgr.domain.census import Census, CensusCache, take_census
from poolmgr.domain.fleet import Node
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Refusal, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from tests.showcase import NOW, fleet, gpu, plan


class Drawn:
    """Counts what is drawn."""

    def __init__(self) -> None:
        self.cards: list[NodeCard] = []

    def __call__(self, card: NodeCard) -> str:
        self.cards.append(card)
        return "\n".join(tile.label for tile in card.tiles)

    def names(self) -> list[str]:
        names = [card.name for card in self.cards]
        self.cards.clear()
        return names


def many(number: int) -> Census:
    nodes = tuple(Node(NodeName(f"n-{n}"), (gpu(f"n-{n}", 1),)) for n in range(1, number + 1))
    return take_census(fleet(nodes=nodes, vms=(), pods=()))


def test_every_tile_has_a_sign_or_is_idle_and_a_label_in_words() -> None:
    cards = [node_card(part, (), NOW) for part in take_census(fleet()).nodes]
    tiles = [tile for card in cards for tile in card.tiles]
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
    assert "needs attention (UnbindTimedOut)" in tiles[6].label
    assert len({t.key for t in tiles}) == len(tiles)


def test_an_idle_tile_says_why_it_stays_where_it_is() -> None:
    why = Refusal(Subject(SubjectKind.GPU, "n1", "0000:02:00.0"), Reason.IN_PLACE, "kept ready: as before")
    node = Node(NodeName("n1"), (gpu("n1", 1), gpu("n1", 2, Mode.PASSTHROUGH)))
    census = take_census(fleet(nodes=(node,), vms=(), pods=()))
    drawn = Drawn()
    Picture(drawn).view(census, replace(plan(), refusals=(why,)), 1)
    first, second = (tile.label for tile in drawn.cards[0].tiles)
    assert second.endswith("Kept ready: as before.")
    assert "Kept ready" not in first


def test_nodes_are_in_the_order_that_people_count() -> None:
    nodes = tuple(Node(NodeName(name), ()) for name in ("n-10", "n-2", "n-1"))
    view = Picture(Drawn()).view(take_census(fleet(nodes=nodes)), None, 1)
    assert [name for name, _ in view.cards] == ["n-1", "n-2", "n-10"]


def test_every_node_of_a_large_fleet_is_on_one_page() -> None:
    census, picture = many(2 * NODES_A_PAGE + 5), Picture(Drawn())
    views = [picture.view(census, None, page) for page in (1, 2, 3)]
    assert [name for view in views for name, _ in view.cards] == [f"n-{n}" for n in range(1, 206)]
    assert [(v.first, v.last, v.total, v.pages) for v in views] == [
        (1, 100, 205, 3),
        (101, 200, 205, 3),
        (201, 205, 205, 3),
    ]
    assert picture.view(census, None, 99) == views[2]


def test_counts_come_first_where_one_page_does_not_show_all() -> None:
    assert Picture(Drawn()).view(many(5), None, 1).rows == ()
    [row] = Picture(Drawn()).view(many(NODES_A_PAGE + 1), None, 1).rows
    assert (row.pool, row.gpus, row.idle, row.vms) == ("desktops", 101, 101, 0)


def test_card_is_drawn_again_only_where_something_changed() -> None:
    cache, drawn = CensusCache(), Drawn()
    picture = Picture(drawn)
    nodes = tuple(Node(NodeName(f"n-{n}"), (gpu(f"n-{n}", 1),)) for n in (1, 2))
    view = fleet(nodes=nodes, vms=(), pods=())
    picture.view(cache.take(view), None, 1)
    assert drawn.names() == ["n-1", "n-2"]
    picture.view(cache.take(replace(view, taken_at=NOW + 1)), None, 1)
    assert drawn.names() == []
    cordoned = replace(nodes[1], cordoned=True)
    picture.view(cache.take(replace(view, nodes=(nodes[0], cordoned))), None, 1)
    assert drawn.names() == ["n-2"]
    why = Refusal(Subject(SubjectKind.GPU, "n-1", "0000:01:00.0"), Reason.IN_PLACE, "kept ready")
    picture.view(cache.take(replace(view, nodes=(nodes[0], cordoned))), replace(plan(), refusals=(why,)), 1)
    assert drawn.names() == ["n-1"]


def test_age_on_a_card_is_what_it_says() -> None:
    cache, drawn = CensusCache(), Drawn()
    picture = Picture(drawn)
    node = Node(NodeName("n1"), (gpu("n1", 1, mode_since=NOW - 30),))
    view = fleet(nodes=(node,), vms=(), pods=())
    for later, says in (
        (0, "30 s"),
        (5, "35 s"),
        (40, "1 min"),
        (89, "1 min"),
        (91, "2 min"),
        (200, "3 min"),
    ):
        now = cache.take(replace(view, taken_at=NOW + later))
        [(_, card)] = picture.view(now, None, 1).cards
        assert f"for containers since {says}" in card


def test_a_node_that_rests_after_a_failed_move_says_so_while_it_does() -> None:
    part = take_census(fleet()).nodes[0]
    resting = Backoff(WHOLE_NODE, "StepTimedOut", "Detach took over 240 s", 1, NOW - 60, NOW + 60)
    seen = replace(part, node=replace(part.node, backoffs=(resting,)))
    assert [node_card(seen, (), at).note for at in (NOW, NOW + 60)] == ["paused", ""]
