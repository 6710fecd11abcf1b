"""Nodes that rules about other pods rule out."""

from typing import Any

import pytest

from poolmgr import wire
from poolmgr.cluster.observe.pod_rules import Peer, PeerTable, rules_of
from poolmgr.domain.placement import ANYWHERE, Placement
from poolmgr.wire.kube_pod import PodSpec
from tests.unit.cluster.builders import Json, as_wire, launcher, node, pod, vmi
from tests.unit.cluster.planned import answer_to, host, moved, plan_of

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
HOST, ZONE = "kubernetes.io/hostname", "zone"
NODES = {"n1": "a", "n2": "a", "n3": "b", "n4": ""}
"""Name → zone; n4 has none."""
DESK = {"app": "desk"}


def selecting(key: str, labels: dict[str, str] = DESK, **over: Any) -> Json:
    return {"topologyKey": key, "labelSelector": {"matchLabels": labels}, **over}


def apart(*terms: Json) -> Json:
    return {"affinity": {"podAntiAffinity": {REQUIRED: list(terms)}}}


def near(*terms: Json) -> Json:
    return {"affinity": {"podAffinity": {REQUIRED: list(terms)}}}


def spread(key: str, skew: int = 1, **over: Any) -> Json:
    rule = {"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule"}
    return {"topologySpreadConstraints": [{**rule, "labelSelector": {"matchLabels": DESK}, **over}]}


def peer(at: str = "", labels: dict[str, str] = DESK, namespace: str = "vms", **spec: Any) -> Peer:
    return Peer(namespace, labels, at, rules=rules_of(as_wire(spec, PodSpec)))


def table(*peers: Peer) -> PeerTable:
    nodes = {
        name: as_wire(node(name, labels={HOST: name, **({ZONE: zone} if zone else {})}), wire.Node)
        for name, zone in NODES.items()
    }
    return PeerTable(peers, nodes)


def excluded(me: Peer, *others: Peer, placement: Placement = ANYWHERE) -> set[str]:
    return set(table(*others).placed(placement, me, NODES).excluded)


@pytest.mark.parametrize(
    ("rules", "others", "out"),
    [
        (apart(selecting(HOST)), [peer("n1")], {"n1"}),
        (apart(selecting(ZONE)), [peer("n1")], {"n1", "n2"}),
        (apart(selecting(HOST)), [peer("n1", namespace="other")], set()),
        (apart(selecting(HOST, namespaces=["other"])), [peer("n1", namespace="other")], {"n1"}),
        (apart(selecting(HOST, namespaceSelector={})), [peer("n1", namespace="other")], {"n1"}),
        (apart(selecting(HOST)), [peer("n1", {"app": "else"})], set()),
        (near(selecting(ZONE, {"app": "db"})), [peer("n1", {"app": "db"})], {"n3", "n4"}),
        (near(selecting(ZONE, {"app": "db"})), [], {"n1", "n2", "n3", "n4"}),
        (near(selecting(ZONE)), [], {"n4"}),  # the first of a group that selects itself
        (near(selecting(ZONE)), [peer("n4")], {"n4"}),  # one of the group where there is no zone is nowhere
        (near(selecting(ZONE)), [peer("n3")], {"n1", "n2", "n4"}),
        (spread(ZONE), [peer("n1")], {"n1", "n2", "n4"}),
        (spread(ZONE), [peer("n1"), peer("n3")], {"n4"}),
        (spread(HOST), [peer("n1")], {"n1"}),
        (spread(HOST, 2), [peer("n1")], set()),
        (spread(ZONE, minDomains=3), [peer("n1"), peer("n3")], {"n1", "n2", "n3", "n4"}),
        (spread(ZONE, whenUnsatisfiable="ScheduleAnyway"), [peer("n1")], set()),
        (spread(HOST, matchLabelKeys=["app"]), [peer("n1")], {"n1"}),
    ],
)
def test_a_rule_rules_nodes_out(rules: Json, others: list[Peer], out: set[str]) -> None:
    assert excluded(peer(**rules), *others) == out


def test_a_pod_that_ends_is_not_counted_where_pods_spread() -> None:
    going = Peer("vms", DESK, "n1", terminating=True)
    assert excluded(peer(**spread(ZONE)), going) == {"n4"}
    assert excluded(peer(**apart(selecting(HOST))), going) == {"n1"}


def test_nodes_that_the_pods_own_rules_exclude_are_no_part_of_the_spread() -> None:
    """Zone b is empty, and the pod cannot go there."""
    here = Placement(selector=((ZONE, "a"),))
    assert excluded(peer(**spread(ZONE)), peer("n1"), placement=here) == {"n3", "n4"}


def test_whom_others_want_to_be_apart_from_stays_apart_without_rules_of_its_own() -> None:
    assert excluded(peer(), peer("n1", {"app": "loud"}, **apart(selecting(ZONE)))) == {"n1", "n2"}
    assert table(peer("n1")).placed(ANYWHERE, peer(), NODES) is ANYWHERE


def test_rules_by_labels_of_namespaces_cannot_be_told() -> None:
    me = peer(**apart(selecting(HOST, namespaceSelector={"matchLabels": {"team": "x"}})))
    assert "namespaces" in table(peer("n1")).placed(ANYWHERE, me, NODES).unknown


def vm_apart(name: str, **over: Any) -> tuple[Json, Json]:
    rules = apart(selecting(HOST, {"kubevirt.io": "virt-launcher"}))
    return vmi(name), launcher(name, spec=rules, **over)


def test_a_vm_that_wants_a_host_of_its_own_gets_a_gpu_there() -> None:
    """n1 has two idle GPUs and another such machine; n2 has one idle GPU."""
    plan = plan_of(host("n1", "vss"), host("n2", "s"), vm_apart("first", node="n1"), vm_apart("second"))
    assert moved(plan) == ["n2/00>p"]


def test_two_that_want_to_be_apart_come_one_after_the_other() -> None:
    plan = plan_of(host("n1", "ss"), host("n2", "ss"), vm_apart("first"), vm_apart("second"))
    assert len(plan.moves) == 1
    assert answer_to(plan, "second") == (
        "NoCandidate",
        "its affinity to other pods is checked again once desktops/first is placed",
    )


def test_a_pod_keeps_away_from_whom_it_wants_to() -> None:
    loud = pod("loud", node="n1", limits={}, labels={"app": "loud"})
    quiet = pod("quiet", spec=apart(selecting(HOST, {"app": "loud"})))
    assert moved(plan_of(host("n1", "p"), host("n2", "p"), loud, quiet)) == ["n2/00>s"]
    assert moved(plan_of(host("n1", "p"), loud, quiet)) == []
