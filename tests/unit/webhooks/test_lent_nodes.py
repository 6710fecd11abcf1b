"""Which nodes a pod fits after the patch: judged by the scheduler's rules, written here once more."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolmgr.wire.annotations import BEST_EFFORT_ONLY
from tests.unit.webhooks.objects import applied, container, pod
from webhooks.lent_nodes import without_lent_nodes

Json = dict[str, Any]
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
NOT_LENT = {"key": BEST_EFFORT_ONLY, "operator": "DoesNotExist"}
ZONE_A = {"key": "zone", "operator": "In", "values": ["a"]}
ON_N1 = {"key": "metadata.name", "operator": "In", "values": ["n1"]}


def vgpu_pod(*terms: Json, annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    """Asks for a slice; with `terms`, of the nodes that one of them selects."""
    new = pod(container(gpu=1), annotations=annotations)
    if terms:
        new["spec"]["affinity"] = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}}}
    new["spec"].update(spec)
    return new


def terms_after(new: Json) -> Any:
    after = applied(without_lent_nodes(new), new)
    return after["spec"]["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]


def test_a_pod_without_affinity_gets_one_term_by_one_operation() -> None:
    (operation,) = without_lent_nodes(vgpu_pod())
    assert operation == {
        "op": "add",
        "path": "/spec/affinity",
        "value": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [NOT_LENT]}]}}},
    }


@pytest.mark.parametrize(
    ("affinity", "path"),
    [
        (None, "/spec/affinity"),
        ({}, "/spec/affinity/nodeAffinity"),
        ({"podAffinity": {}}, "/spec/affinity/nodeAffinity"),
        ({"nodeAffinity": None}, "/spec/affinity/nodeAffinity"),
        ({"nodeAffinity": {PREFERRED: []}}, f"/spec/affinity/nodeAffinity/{REQUIRED}"),
    ],
)
def test_only_what_is_missing_is_added(affinity: Json | None, path: str) -> None:
    new = vgpu_pod(affinity=affinity)
    assert [operation["path"] for operation in without_lent_nodes(new)] == [path]
    assert terms_after(new) == [{"matchExpressions": [NOT_LENT]}]


def test_every_alternative_refuses_lent_nodes() -> None:
    assert terms_after(vgpu_pod({"matchExpressions": [ZONE_A]}, {"matchFields": [ON_N1]})) == [
        {"matchExpressions": [ZONE_A, NOT_LENT]},
        {"matchFields": [ON_N1], "matchExpressions": [NOT_LENT]},
    ]


def test_an_alternative_added_after_our_first_call_is_closed_too() -> None:
    fenced = {"matchExpressions": [ZONE_A, NOT_LENT]}
    assert without_lent_nodes(vgpu_pod(fenced)) == ()
    assert terms_after(vgpu_pod(fenced, {"matchFields": [ON_N1]})) == [
        fenced,
        {"matchFields": [ON_N1], "matchExpressions": [NOT_LENT]},
    ]


def test_an_empty_term_goes_on_selecting_no_node() -> None:
    assert without_lent_nodes(vgpu_pod({}, {"matchExpressions": [], "matchFields": None})) == ()


ONLY_LENT = {"key": BEST_EFFORT_ONLY, "operator": "Exists"}


@pytest.mark.parametrize(
    "new",
    [
        vgpu_pod(annotations={"poolmgr.io/best-effort": "true"}),
        vgpu_pod(nodeName="n1"),
        vgpu_pod(nodeSelector={BEST_EFFORT_ONLY: "true"}),
        vgpu_pod({"matchExpressions": [ZONE_A]}, nodeSelector={BEST_EFFORT_ONLY: "true"}),
        vgpu_pod({"matchExpressions": [ZONE_A]}, {"matchExpressions": [ONLY_LENT]}),
        vgpu_pod(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": []}}}),
        vgpu_pod(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": None}}}),
        vgpu_pod(affinity={"nodeAffinity": {REQUIRED: {}}}),
    ],
    ids=[
        "best effort",
        "bound",
        "selector",
        "selector and terms",
        "asks for lent",
        "invalid",
        "null",
        "bare",
    ],
)
def test_these_are_left_alone(new: Json) -> None:
    assert without_lent_nodes(new) == ()


@pytest.mark.parametrize("word", ["", "false", "True", "yes"])
def test_only_the_word_true_makes_a_pod_best_effort(word: str) -> None:
    assert without_lent_nodes(vgpu_pod(annotations={"poolmgr.io/best-effort": word}))


def test_liking_lent_nodes_is_no_leave_to_go_there() -> None:
    like = {"weight": 1, "preference": {"matchExpressions": [ONLY_LENT]}}
    assert terms_after(vgpu_pod(affinity={"nodeAffinity": {PREFERRED: [like]}})) == [
        {"matchExpressions": [NOT_LENT]}
    ]


def fits(new: Json, labels: dict[str, str], name: str) -> bool:
    """NodeSelector and required node affinity as kube-scheduler reads them (component-helpers, nodeaffinity)."""
    spec = new["spec"]
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(REQUIRED)
    return required is None or any(
        term_fits(term, labels, name) for term in required["nodeSelectorTerms"] or []
    )


def term_fits(term: Json, labels: dict[str, str], name: str) -> bool:
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False
    return all(holds(e, labels) for e in expressions) and all(
        holds(f, {"metadata.name": name}) for f in fields
    )


def holds(expression: Json, labels: dict[str, str]) -> bool:
    found, values = labels.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return found in values
        case "NotIn":
            return found not in values
        case "Exists":
            return found is not None
        case "DoesNotExist":
            return found is None
        case "Gt":
            return found is not None and found.isdigit() and int(found) > int(values[0])
        case other:
            raise AssertionError(other)


def absent_or(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Drawn four times of six: what is nested deep must come up often enough."""
    there = st.sampled_from([True, True, True, True, None, ...])
    return there.flatmap(lambda what: strategy if what is True else st.just(what))


def records(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    """Objects of which each field is absent, null or drawn."""
    drawn = st.fixed_dictionaries({name: absent_or(strategy) for name, strategy in fields.items()})
    return drawn.map(lambda found: {key: value for key, value in found.items() if value is not ...})


values = st.sampled_from(["a", "b", "1", "7"])
expressions = st.one_of(
    st.builds(
        lambda key, operator, chosen: {"key": key, "operator": operator, "values": chosen},
        st.sampled_from(["zone", "size"]),
        st.sampled_from(["In", "NotIn"]),
        st.lists(values, min_size=1, max_size=2),
    ),
    st.builds(lambda limit: {"key": "size", "operator": "Gt", "values": [limit]}, st.sampled_from("05")),
    st.builds(
        lambda key, operator: {"key": key, "operator": operator},
        st.sampled_from(["zone", "size"]),
        st.sampled_from(["Exists", "DoesNotExist"]),
    ),
    st.just(NOT_LENT),
)
fields = st.builds(
    lambda operator, name: {"key": "metadata.name", "operator": operator, "values": [name]},
    st.sampled_from(["In", "NotIn"]),
    st.sampled_from(["n1", "n2"]),
)
terms = records(matchExpressions=st.lists(expressions, max_size=3), matchFields=st.lists(fields, max_size=1))
preferred = st.lists(
    st.builds(lambda term, weight: {"weight": weight, "preference": term}, terms, st.integers(1, 100)),
    max_size=2,
)
node_affinities = st.builds(
    lambda liked, term_list: liked | ({REQUIRED: {"nodeSelectorTerms": term_list}} if term_list else {}),
    records(**{PREFERRED: preferred}),
    st.lists(terms, max_size=3),
)
specs = records(
    nodeSelector=st.dictionaries(st.sampled_from(["zone", "size"]), values, max_size=2),
    affinity=records(
        nodeAffinity=node_affinities,
        podAffinity=st.just({REQUIRED: [{"topologyKey": "zone"}]}),
        podAntiAffinity=st.just({PREFERRED: []}),
    ),
)
node_labels = st.dictionaries(st.sampled_from(["zone", "size"]), values, max_size=2)


def without_required(new: Json) -> Json:
    """The pod less what may be changed in it; parents that only held that are gone too."""
    rest = copy.deepcopy(new)
    affinity = rest["spec"].get("affinity") or {}
    node_affinity = affinity.get("nodeAffinity") or {}
    node_affinity.pop(REQUIRED, None)
    if not node_affinity:
        affinity.pop("nodeAffinity", None)
    if not affinity:
        rest["spec"].pop("affinity", None)
    return rest


@given(specs, st.lists(st.tuples(node_labels, st.sampled_from(["n1", "n2"])), min_size=4, max_size=12))
def test_the_pod_fits_the_nodes_that_it_fitted_before_but_for_lent_ones(
    spec: Json, nodes: list[tuple[dict[str, str], str]]
) -> None:
    new = vgpu_pod(**spec)
    before = copy.deepcopy(new)
    patch = without_lent_nodes(new)
    after = applied(patch, new)
    for labels, name in nodes:
        for lent in ({}, {BEST_EFFORT_ONLY: "true"}):
            assert fits(after, labels | lent, name) == (fits(before, labels, name) and not lent)
    assert without_lent_nodes(after) == ()
    assert without_required(after) == without_required(before)
    assert new == before
    given_terms = ((before["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(REQUIRED)
    assert len(patch) <= (len(given_terms["nodeSelectorTerms"]) if given_terms else 1)


def test_a_pod_of_a_daemonset_is_left_alone() -> None:
    """It can go to one node and no other, and a rollout would wait for it."""
    new = vgpu_pod({"matchFields": [ON_N1]})
    assert without_lent_nodes(new)
    new["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "name": "d", "uid": "u", "controller": True}]
    assert without_lent_nodes(new) == ()
