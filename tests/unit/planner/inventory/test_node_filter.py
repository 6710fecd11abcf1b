"""Nodes that no waiting workload can tell apart are one kind, whatever the size of the fleet."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.placement import ANYWHERE, NodeTerm, Placement, Requirement, Taint, Toleration
from poolmgr.planner.inventory.node_filter import NodeFilter
from tests.unit.planner.builders import node, pod, snapshot, vm


def on(**labels: str) -> Placement:
    return Placement(selector=tuple(sorted(labels.items())))


def fleet(nodes: int = 40) -> tuple[object, ...]:
    """Nodes that differ in labels that nobody names, in two zones."""
    return tuple(
        node(f"n{n}", "s", labels=(("host", f"n{n}"), ("serial", str(n)), ("zone", "ab"[n % 2])))
        for n in range(nodes)
    )


def test_nodes_are_one_kind_while_nobody_names_anything() -> None:
    known = NodeFilter(snapshot(*fleet(), vms=(vm("v"),)))
    assert {known.kind_of(NodeName(f"n{n}")) for n in range(40)} == {0}


def test_values_that_nobody_names_make_no_difference() -> None:
    known = NodeFilter(snapshot(*fleet(), vms=(vm("v", placement=on(host="n3")),)))
    assert len({known.kind_of(NodeName(f"n{n}")) for n in range(40)}) == 2
    assert known.admitted(on(host="n3"), [NodeName(f"n{n}") for n in range(40)]) == ["n3"]


def test_what_is_compared_as_a_number_is_looked_at_whole() -> None:
    newer = Placement(affinity=(NodeTerm((Requirement("serial", "Gt", ("37",)),)),))
    known = NodeFilter(snapshot(*fleet(), vms=(vm("v", placement=newer),)))
    assert known.admitted(newer, [NodeName(f"n{n}") for n in range(40)]) == ["n38", "n39"]


def test_withheld_labels_count_for_pods_alone() -> None:
    gpu_on = on(gpu="on")
    bare = node("n", "p", withheld_labels=(("gpu", "on"),))
    known = NodeFilter(snapshot(bare, pods=(pod("p", placement=gpu_on),)))
    assert known.denial(gpu_on, NodeName("n"))
    assert not known.denial(gpu_on, NodeName("n"), shared=True)


def test_why_none_names_the_most_frequent_first() -> None:
    there = on(zone="c")
    nodes = (*fleet(3), node("t", "s", labels=(("zone", "c"),), taints=(Taint("x", "", "NoSchedule"),)))
    known = NodeFilter(snapshot(*nodes, vms=(vm("v", placement=there),)))
    assert known.why_none(there, [n.name for n in nodes]) == (
        "its node selector wants zone=c (3 node(s)); it does not tolerate the taint x (1 node(s))"
    )


LABELS = st.dictionaries(st.sampled_from(["zone", "disk"]), st.sampled_from(["a", "b", "7", "12"]))
RULES = st.builds(
    Requirement,
    st.sampled_from(["zone", "disk"]),
    st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]),
    st.lists(st.sampled_from(["a", "b", "7", "10"]), min_size=1, max_size=2).map(tuple),
)
FIELDS = st.builds(Requirement, st.just("metadata.name"), st.just("In"), st.just(("n1",)))
TERMS = st.builds(NodeTerm, st.lists(RULES, max_size=2).map(tuple), st.lists(FIELDS, max_size=1).map(tuple))
TAINTS = st.builds(
    Taint, st.sampled_from(["x", "y"]), st.just(""), st.sampled_from(["NoSchedule", "PreferNoSchedule"])
)
PLACEMENTS = st.builds(
    Placement,
    selector=LABELS.map(lambda labels: tuple(sorted(labels.items()))),
    affinity=st.none() | st.lists(TERMS, max_size=2).map(tuple),
    tolerations=st.lists(st.builds(Toleration, st.sampled_from(["x", "y"]), st.just("Exists"))).map(tuple),
    excluded=st.frozensets(st.sampled_from([NodeName("n0"), NodeName("n1")])),
)


@given(
    st.lists(st.tuples(LABELS, st.lists(TAINTS, max_size=2)), min_size=1, max_size=4),
    st.lists(PLACEMENTS, min_size=1, max_size=3),
)
def test_a_kind_answers_as_each_of_its_nodes_would(
    nodes: list[tuple[dict[str, str], list[Taint]]], placements: list[Placement]
) -> None:
    made = [
        node(f"n{n}", "s", labels=tuple(sorted(labels.items())), taints=tuple(taints))
        for n, (labels, taints) in enumerate(nodes)
    ]
    waiting = tuple(vm(f"v{n}", placement=placement) for n, placement in enumerate(placements))
    known = NodeFilter(snapshot(*made, vms=waiting))
    for placement in placements:
        for one in made:
            assert known.denial(placement, one.name) == placement.denial(
                one.name, dict(one.labels), one.taints
            )


def test_a_workload_that_is_bound_names_nothing() -> None:
    runs = replace(vm("v", placement=on(host="n3")), node=NodeName("n3"))
    known = NodeFilter(snapshot(*fleet(), vms=(runs,)))
    assert known.denials(ANYWHERE) == {0: ""}
