"""Disruption budgets and label selectors."""

from typing import Any

import pytest

from poolmgr import wire
from poolmgr.cluster.observe.budgets import evictable
from poolmgr.cluster.observe.selectors import selects
from tests.unit.cluster.builders import as_wire, budget


def pdb(**over: Any) -> wire.DisruptionBudget:
    return as_wire(budget(**over), wire.DisruptionBudget)


def test_pod_without_a_budget_may_be_evicted() -> None:
    assert evictable({"app": "other"}, [pdb()])


def test_budget_with_room_admits() -> None:
    assert evictable({"app": "p1"}, [pdb(allowed=1)])
    assert not evictable({"app": "p1"}, [pdb(allowed=0)])


def test_budget_whose_status_is_old_admits_none() -> None:
    assert not evictable({"app": "p1"}, [pdb(allowed=1, generation=2)])


def test_two_budgets_on_one_pod_are_refused_by_the_eviction_api() -> None:
    assert not evictable({"app": "p1"}, [pdb(allowed=1), pdb(name="second", allowed=1)])


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        ({}, {"a": "1"}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "1", "b": "2"}, True),
        ({"matchLabels": {"a": "1"}}, {}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, {"a": "2"}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {}, True),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {}, False),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {}, True),
        ({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}, {"a": "2"}, False),
    ],
)
def test_selectors_follow_the_api_server(
    selector: dict[str, Any], labels: dict[str, str], expected: bool
) -> None:
    assert selects(as_wire(selector, wire.LabelSelector), labels) is expected


def test_absent_selector_selects_nothing() -> None:
    assert not selects(None, {"a": "1"})
