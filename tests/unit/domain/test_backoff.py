"""How long whoever failed rests, and what moves may cost a node within an hour."""

from hypothesis import given
from hypothesis import strategies as st

from poolmgr.domain import backoff
from poolmgr.domain.backoff import (
    CLOSED_SECONDS_AN_HOUR,
    GPU_SECONDS,
    HOUR,
    JITTER,
    LONGEST_SECONDS,
    NODE_SECONDS,
    PLUGIN_STOPS_AN_HOUR,
    WHOLE_NODE,
    Backoff,
    Disturbance,
)
from poolmgr.domain.identifiers import NodeName, PciAddress
from poolmgr.domain.reasons import Reason
from tests.builders import NOW

N1, ADDRESS, OTHER = NodeName("n1"), PciAddress("0000:00:01.0"), PciAddress("0000:00:02.0")


def failed(known: tuple[Backoff, ...], *whom: PciAddress, at: float = NOW) -> tuple[Backoff, ...]:
    return backoff.failed(known, N1, whom, Reason.BIND_FAILED, "the driver did not take it", at)


def test_pauses_double_up_to_a_limit_and_are_spread() -> None:
    known: tuple[Backoff, ...] = ()
    now, pauses = NOW, []
    for _ in range(12):
        known = failed(known, ADDRESS, at=now)
        pauses.append(known[0].until - now)
        now = known[0].until
    for n, pause in enumerate(pauses):
        least = min(LONGEST_SECONDS, GPU_SECONDS * 2**n)
        assert least <= pause <= least * (1 + JITTER)
    assert len({round(p / min(LONGEST_SECONDS, GPU_SECONDS * 2**n), 3) for n, p in enumerate(pauses)}) > 6


def test_nodes_that_fail_together_are_not_tried_together() -> None:
    ends = {backoff.failed((), NodeName(f"n{k}"), (WHOLE_NODE,), "", "", NOW)[0].until for k in range(20)}
    assert len(ends) == 20
    assert min(ends) >= NOW + NODE_SECONDS


def test_a_success_ends_the_row_of_its_gpus_and_their_node_alone() -> None:
    known = failed((), WHOLE_NODE, ADDRESS, OTHER)
    assert [b.pci_address for b in backoff.succeeded(known, (ADDRESS,))] == [OTHER]


def test_a_failure_long_ago_counts_no_more() -> None:
    before = failed(failed((), ADDRESS), ADDRESS)
    assert before[0].failures == 2
    late = before[0].until + backoff.REMEMBERED_SECONDS
    assert failed(before, ADDRESS, at=late - 1)[0].failures == 3
    assert failed(before, ADDRESS, at=late)[0].failures == 1
    assert failed(before, OTHER, at=late) == failed((), OTHER, at=late), "it is not kept for ever either"


def test_the_sentence_says_until_when_why_and_how_to_end_it() -> None:
    known = failed((), ADDRESS)
    said = backoff.gpu_rests(N1, ADDRESS, known, NOW)
    assert said and said.reason is Reason.RECENTLY_FAILED
    for part in (
        f"is not moved before {backoff.utc(known[0].until)}",
        "the driver did not take it",
        "kubectl annotate gpunode n1 poolmgr.io/retry=0000:00:01.0",
    ):
        assert part in said.message
    assert not backoff.gpu_rests(N1, OTHER, known, NOW)
    assert not backoff.node_rests(N1, known, (), NOW)
    assert not backoff.gpu_rests(N1, ADDRESS, known, known[0].until)


def test_whoever_asks_for_a_gpu_means_its_node_as_well() -> None:
    known = failed((), WHOLE_NODE, ADDRESS, OTHER)
    assert [b.pci_address for b in backoff.retried(known, f" {ADDRESS} ")] == [OTHER]
    assert backoff.retried(known, "all") == ()


def test_as_many_stops_of_the_plugin_as_may_be_and_no_more() -> None:
    known: tuple[Disturbance, ...] = ()
    for n in range(PLUGIN_STOPS_AN_HOUR):
        assert not backoff.node_rests(N1, (), known, NOW + n)
        known = backoff.ended(backoff.begun(known, NOW + n, again=False), NOW + n, NOW + n)
    said = backoff.node_rests(N1, (), known, NOW + 60)
    assert said and said.reason is Reason.DISTURBANCE_SPENT
    assert f"{PLUGIN_STOPS_AN_HOUR} time(s)" in said.message
    assert not backoff.node_rests(N1, (), known, NOW + HOUR + 2)


def test_as_many_seconds_of_cordon_as_may_be_and_no_more() -> None:
    long = (Disturbance(NOW, 1, CLOSED_SECONDS_AN_HOUR),)
    said = backoff.node_rests(N1, (), long, NOW + CLOSED_SECONDS_AN_HOUR)
    assert said.reason is Reason.DISTURBANCE_SPENT
    assert not backoff.node_rests(N1, (), (Disturbance(NOW, 1, 60.0),), NOW + 60)


def test_a_second_stop_within_a_move_is_counted_with_it_and_its_end_closes_both() -> None:
    known = backoff.begun(backoff.begun((), NOW, again=False), NOW + 100, again=True)
    assert known == (Disturbance(NOW, 2),)
    assert backoff.ended(known, NOW - 5, NOW + 160) == (Disturbance(NOW, 2, 160.0),)
    assert backoff.ended(known, NOW + 5, NOW + 160) == known, "that move did not stop the plugin"


def test_what_is_more_than_an_hour_old_is_dropped_as_the_next_begins() -> None:
    old = (Disturbance(NOW - 2 * HOUR, 1, 60.0),)
    assert backoff.begun(old, NOW, again=False) == (Disturbance(NOW, 1),)


seconds = st.floats(0.0, 3 * HOUR)
pauses = st.lists(
    st.builds(
        lambda address, end: Backoff(address, "", "", 1, NOW, NOW + end),
        st.sampled_from((WHOLE_NODE, ADDRESS)),
        seconds,
    ),
    max_size=3,
).map(tuple)
costs = st.lists(
    st.builds(
        lambda at, stops, long: Disturbance(NOW - at, stops, long),
        seconds,
        st.integers(1, 12),
        st.floats(1.0, 2_000.0),
    ),
    max_size=4,
).map(tuple)


@given(pauses, costs, seconds)
def test_nothing_changes_before_the_instant_that_is_named(
    known: tuple[Backoff, ...], cost: tuple[Disturbance, ...], later: float
) -> None:
    def answers(now: float) -> tuple[bool, bool]:
        return bool(backoff.node_rests(N1, known, cost, now)), bool(
            backoff.gpu_rests(N1, ADDRESS, known, now)
        )

    until = backoff.steady_until(known, cost, NOW)
    assert until > NOW
    if NOW + later < until:
        assert answers(NOW + later) == answers(NOW)
