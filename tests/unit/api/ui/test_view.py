"""What the page says: first whether there is anything to do, then everything else, never by colour alone."""

from dataclasses import replace

import pytest

from poolmgr.api.ui.view import MAX_COMPARED, MAX_QUOTAS, MAX_WAITING, make_view
from poolmgr.domain.census import take_census
from poolmgr.domain.demand import Vm
from poolmgr.domain.fleet import Node
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.liveness import AgentSign
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import QuotaUse, Verdict
from poolmgr.domain.reasons import Reason
from tests.showcase import NOW, fleet, gpu, plan, pod, pool, vm

LEADING = Verdict(True, Reason.ADMITTED, "leading")


def quiet_fleet(**changes: object):
    node = Node(NodeName("n1"), (gpu("n1", 1), gpu("n1", 2, Mode.PASSTHROUGH)))
    return fleet(**({"nodes": (node,), "vms": (), "pods": ()} | changes))


@pytest.mark.parametrize(
    ("snapshot", "mood", "headline"),
    [
        (fleet(), "trouble", "1 GPU needs attention"),
        (quiet_fleet(vms=(vm("a"), vm("b"))), "waiting", "2 VMs wait for a GPU"),
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


N1 = quiet_fleet().nodes[0]
SILENT = AgentSign(heard=False, since=NOW - 300, silent=True)


@pytest.mark.parametrize(
    ("nodes", "pools", "mood", "headline", "detail"),
    [
        (
            (replace(N1, agent=SILENT, ready=False),),
            None,
            "trouble",
            "1 agent is silent",
            "moves on n1 until",
        ),
        ((replace(N1, ready=False),), None, "trouble", "1 node is not ready", "the node and its agent"),
        (
            (replace(N1, agent=SILENT, ready=False), replace(N1, name=NodeName("n2"), ready=False)),
            None,
            "trouble",
            "1 agent is silent",
            "Also: 1 node is not ready.",
        ),
        (
            (replace(N1, agent=AgentSign(heard=False), ready=False),),
            None,
            "busy",
            "1 agent has not been heard yet",
            "just",
        ),
        ((), None, "trouble", "No GPU is in a pool", "No agent has reported yet"),
        ((replace(N1, gpus=()),), None, "trouble", "No GPU is in a pool", "1 agent reports none"),
        (
            (replace(N1, gpus=tuple(replace(g, pool=None) for g in N1.gpus)),),
            (),
            "trouble",
            "No GPU is in a pool",
            "2 GPUs are there, and no GPUPool selects them",
        ),
    ],
)
def test_it_is_never_quiet_while_somebody_does_not_answer_or_there_is_nothing(
    nodes, pools, mood: str, headline: str, detail: str
) -> None:
    changes = {"nodes": nodes} | ({} if pools is None else {"pools": pools})
    view = make_view(take_census(quiet_fleet(**changes)), None, LEADING)
    assert (view.mood, view.headline) == (mood, headline)
    assert detail in view.detail


def test_standby_says_that_it_does_not_act() -> None:
    view = make_view(
        take_census(fleet()), None, Verdict(False, Reason.NOT_LEADER, "another manager holds the lease")
    )
    assert (view.mood, view.detail) == ("blind", "Another manager holds the lease.")


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


def test_pool_shows_its_quotas_those_who_hold_most_first() -> None:
    def use(n: int) -> QuotaUse:
        limit = None if n else 1.5
        return QuotaUse(pool().name, f"ns{n}", limit, 1.0, used=0.5 if n else 1.25, waiting=0.0)

    made = replace(plan(), quota_uses=tuple(map(use, range(MAX_QUOTAS, -1, -1))))
    [card] = make_view(take_census(fleet()), made, LEADING).pools
    assert (card.quotas[0].namespace, card.quotas[0].used, card.quotas[0].limit) == ("ns0", "1.25", "1.5")
    assert (len(card.quotas), card.quotas_left_out, card.quotas[1].limit) == (MAX_QUOTAS, 1, "no limit")


def test_gpus_outside_every_pool_are_counted() -> None:
    alone = Node(NodeName("n1"), (gpu("n1", 1, pool=None, mode_since=NOW),))
    view = make_view(take_census(fleet(nodes=(alone,), pools=(pool(),), vms=(), pods=())), None, LEADING)
    assert view.count.gpus == 1


def _of_its_own(n: int) -> Vm:
    """A VM that waits for another number of GPUs than every other."""
    found = vm(f"v{n}", created_at=NOW - n)
    return replace(found, claims=tuple(replace(claim, count=n + 1) for claim in found.claims))


def test_workloads_that_wait_for_the_same_are_one_row_and_the_other_stands_out() -> None:
    queue = tuple(vm(f"v{n}", created_at=NOW - n) for n in range(40))
    view = make_view(take_census(quiet_fleet(vms=(*queue, _of_its_own(3)), pods=(pod("p"),))), None, LEADING)
    assert view.headline == "41 VMs and 1 pod wait for a GPU"
    names = {row.name: row.size for row in view.waiting}
    assert names == {"cad/v39, cad/v38, cad/v37 and 37 more": 40, "cad/v3": 1, "ml/p": 1}
    assert {row.size: row.since for row in view.waiting}[40] == "up to 39 s"
    assert view.waiting_left_out == 0


def test_groups_count_in_what_is_left_out() -> None:
    queue = (*(vm(f"v{n}", created_at=NOW - 9) for n in range(MAX_COMPARED)), vm("last", created_at=NOW))
    view = make_view(take_census(quiet_fleet(vms=queue)), None, LEADING)
    assert [row.size for row in view.waiting] == [MAX_COMPARED]
    assert view.waiting_left_out == 1


def test_move_says_what_its_step_waits_for() -> None:
    rack = fleet().nodes[1]
    busy = fleet(pods=(pod("train", on=rack.gpus[1]),))
    [move] = make_view(take_census(busy), plan(), LEADING).moves
    assert move.step == "Drain"
    assert "ml/train" in move.waits_for, "who is on the GPU"


def test_long_queue_shows_who_has_waited_longest_and_counts_the_others() -> None:
    queue = tuple(_of_its_own(n) for n in range(MAX_WAITING + 7))
    view = make_view(take_census(quiet_fleet(vms=queue)), None, LEADING)
    assert view.headline == f"{MAX_WAITING + 7} VMs wait for a GPU"
    assert (len(view.waiting), view.waiting_left_out) == (MAX_WAITING, 7)
    assert view.waiting[0].name == f"cad/v{MAX_WAITING + 6}"


def test_a_pool_shows_what_is_recommended_and_not_made() -> None:
    made = plan()
    [shown] = make_view(take_census(fleet()), replace(made, moves=()), LEADING).pools
    assert shown.recommended == ""
    recommended = tuple(replace(move, recommended=True) for move in made.moves)
    [shown] = make_view(take_census(fleet()), replace(made, moves=recommended), LEADING).pools
    assert shown.recommended.startswith("1 move recommended and not made; the first one: ")
