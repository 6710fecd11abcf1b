"""Where a workload may run: kube-scheduler's rules, one at a time."""

import pytest

from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.placement import (
    ANYWHERE,
    FreeResources,
    HostPort,
    Needs,
    NodeTerm,
    Placement,
    Requirement,
    Taint,
    Toleration,
)

N1 = NodeName("n1")


def denied(placement: Placement, labels: dict[str, str] | None = None, *taints: Taint) -> str:
    return placement.denial(N1, labels or {}, taints)


@pytest.mark.parametrize(
    ("operator", "values", "value", "holds"),
    [
        ("In", ("a", "b"), "b", True),
        ("In", ("a",), None, False),
        ("NotIn", ("a",), "a", False),
        ("NotIn", ("a",), None, True),
        ("Exists", (), "a", True),
        ("Exists", (), None, False),
        ("DoesNotExist", (), None, True),
        ("DoesNotExist", (), "a", False),
        ("Gt", ("7",), "12", True),
        ("Gt", ("7",), "7", False),
        ("Lt", ("7",), "-3", True),
        ("Lt", ("7",), "seven", False),
        ("Lt", ("7",), None, False),
        ("Gt", ("7",), "9" * 400, False),
        ("Near", ("7",), "7", False),
    ],
)
def test_an_expression_compares_as_the_scheduler_does(
    operator: str, values: tuple[str, ...], value: str | None, holds: bool
) -> None:
    labels = {} if value is None else {"key": value}
    assert Requirement("key", operator, values).holds(labels) is holds


def test_a_node_selector_wants_every_label() -> None:
    placement = Placement(selector=(("disk", "ssd"), ("zone", "b")))
    assert not denied(placement, {"disk": "ssd", "zone": "b"})
    assert denied(placement, {"disk": "ssd", "zone": "a"}) == "its node selector wants zone=b"


def test_terms_are_alternatives_and_an_empty_one_matches_nothing() -> None:
    zone_b = NodeTerm((Requirement("zone", "In", ("b",)),))
    here = NodeTerm(fields=(Requirement("metadata.name", "In", ("n1",)),))
    assert not denied(Placement(affinity=(zone_b, here)), {"zone": "a"})
    assert denied(Placement(affinity=(NodeTerm(),))) == "its node affinity rules it out"
    assert denied(Placement(affinity=()))


def test_every_volume_has_to_be_usable_there() -> None:
    zone_a = (NodeTerm((Requirement("zone", "In", ("a",)),)),)
    zone_b = (NodeTerm((Requirement("zone", "In", ("b",)),)),)
    assert not denied(Placement(volumes=(zone_a,)), {"zone": "a"})
    assert denied(Placement(volumes=(zone_a, zone_b)), {"zone": "a"})


@pytest.mark.parametrize(
    ("toleration", "kept_off"),
    [
        (None, True),
        (Toleration("dedicated", "Exists"), False),
        (Toleration(operator="Exists"), False),
        (Toleration("dedicated", "", "gpu"), False),
        (Toleration("dedicated", "Equal", "cpu"), True),
        (Toleration("dedicated", "Exists", effect="NoExecute"), True),
        (Toleration("other", "Exists"), True),
    ],
)
def test_a_taint_keeps_off_whoever_does_not_tolerate_it(
    toleration: Toleration | None, kept_off: bool
) -> None:
    placement = Placement(tolerations=(toleration,) if toleration else ())
    assert bool(denied(placement, {}, Taint("dedicated", "gpu", "NoSchedule"))) is kept_off


def test_a_preference_keeps_nobody_off() -> None:
    assert not denied(ANYWHERE, {}, Taint("spot", "", "PreferNoSchedule"))


def test_what_cannot_be_told_admits_no_node() -> None:
    assert denied(Placement(unknown="its volume data is not known")) == "its volume data is not known"


def test_other_pods_may_rule_a_node_out() -> None:
    placement = Placement(excluded=frozenset({N1}))
    assert denied(placement)
    assert not placement.denial(NodeName("n2"), {}, ())


FREE = FreeResources(2_000, 4_096, {"pods": 2, "example.com/card": 1}, (HostPort(80, "TCP", "10.0.0.1"),))


@pytest.mark.parametrize(
    ("needs", "fits"),
    [
        (Needs(2_000, 4_096), True),
        (Needs(2_001), False),
        (Needs(0, 4_097), False),
        (Needs(requests=(("example.com/card", 1),)), True),
        (Needs(requests=(("example.com/card", 2),)), False),
        (Needs(requests=(("example.com/other", 1),)), False),
        (Needs(ports=(HostPort(80),)), False),
        (Needs(ports=(HostPort(80, "TCP", "10.0.0.2"),)), True),
        (Needs(ports=(HostPort(80, "UDP"),)), True),
    ],
)
def test_a_node_has_room_or_says_what_is_too_little(needs: Needs, fits: bool) -> None:
    assert (FREE.lacks(needs) == "") is fits


def test_whoever_comes_takes_room() -> None:
    once = FREE.without(Needs(1_500, 96, (("example.com/card", 1),), (HostPort(81),)))
    assert (once.cpu_milli, once.memory_mib, once.amounts["example.com/card"]) == (500, 4_000, 0)
    assert once.lacks(Needs(ports=(HostPort(81),))) == "its host port 81 is taken"
    assert once.without(Needs(1)).lacks(Needs(1)) == "the node already runs as many pods as it can"


def test_a_node_that_gave_away_too_much_still_takes_what_asks_for_nothing() -> None:
    assert not FreeResources(-1, -1, {}).lacks(Needs(requests=()))
