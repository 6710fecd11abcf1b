"""The contract's fifth part: bind, and the lock on a node."""

from datetime import UTC, datetime, timedelta

import pytest

from e2e.controlplane.client import Json
from e2e.hami.contract import shows
from e2e.hami.lab import Lab

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def lock(lab: Lab, node: str) -> str:
    return lab.annotations_of_node(node).get("hami.io/mutex.lock", "")


def set_lock(lab: Lab, node: str, owner: str = "", *, minutes_ago: float = 0) -> str:
    at = (datetime.now(UTC) - timedelta(minutes=minutes_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
    value = f"{at},{lab.namespace},{owner}" if owner else at
    lab.annotate_node(node, **{"mutex.lock": value})
    return value


def assigned(lab: Lab, name: str, node: str) -> Json:
    """A pod that filter has given a place on the node."""
    lab.place(name, node)
    return lab.get_pod(name)


@shows(80)
def test_bind_locks_the_node_and_leaves_it_locked(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    assert lab.bind(assigned(lab, "one", node), node) == ""
    at, namespace, name = lock(lab, node).split(",")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(at.replace("Z", "+00:00"))) < timedelta(minutes=2)
    assert (namespace, name) == (lab.namespace, "one")
    pod = lab.get_pod("one")
    assert pod["spec"]["nodeName"] == node
    assert pod["metadata"]["annotations"]["hami.io/bind-phase"] == "allocating"
    assert pod["metadata"]["annotations"]["hami.io/bind-time"].isdigit()


@shows(81, 87)
def test_a_locked_node_refuses_others(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    assert lab.bind(assigned(lab, "one", node), node) == ""
    held = lock(lab, node)
    assert "has been locked within 5m0s" in lab.bind(assigned(lab, "two", node), node)
    assert lock(lab, node) == held
    reported = lab.until("the event", lambda: [m for r, m in lab.events_of("two") if r == "BindingFailed"])
    assert "has been locked within" in reported[0]
    assert not lab.get_pod("two")["spec"].get("nodeName")


@shows(82)
def test_an_old_lock_and_a_dead_pods_lock_are_taken_over(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    lab.pod("alive")
    set_lock(lab, node, "alive", minutes_ago=4.5)
    one = assigned(lab, "one", node)
    assert "has been locked" in lab.bind(one, node)
    set_lock(lab, node, "alive", minutes_ago=5.1)
    assert lab.bind(one, node) == ""
    set_lock(lab, node, "never-was")
    assert lab.bind(assigned(lab, "two", node), node) == ""
    assert lock(lab, node).endswith(f",{lab.namespace},two")


@shows(83)
def test_2_10_lets_a_failing_bind_give_a_bare_lock_away(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    set_lock(lab, node)
    one = assigned(lab, "one", node)
    assert "has been locked" in lab.bind(one, node)
    assert lock(lab, node) == ""
    assert lab.bind(one, node) == ""


@shows(84)
def test_2_8_keeps_a_bare_lock(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    held = set_lock(lab, node)
    one = assigned(lab, "one", node)
    assert "has been locked" in lab.bind(one, node)
    assert lock(lab, node) == held
    set_lock(lab, node, minutes_ago=5.1)
    assert lab.bind(one, node) == ""


@shows(85)
def test_2_8_refuses_the_locks_own_pod(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    one = assigned(lab, "one", node)
    set_lock(lab, node, "one")
    assert "has been locked" in lab.bind(one, node)
    assert lock(lab, node) == "", "it gives away what it took for its own"


@shows(86)
def test_2_10_binds_the_locks_own_pod(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    one = assigned(lab, "one", node)
    held = set_lock(lab, node, "one")
    assert lab.bind(one, node) == ""
    assert lock(lab, node) == held
