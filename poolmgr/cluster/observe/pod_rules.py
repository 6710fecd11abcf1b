"""Which nodes a workload's rules about other pods rule out: kube-scheduler's InterPodAffinity and PodTopologySpread.

They depend on every pod and node of the cluster, so they are worked out here, for those workloads that wait and have such
rules, or that somebody else's anti-affinity is about. Rules that select namespaces by their labels are not read: then it
cannot be told.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec

from poolmgr.cluster.observe.selectors import selects
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.placement import Placement
from poolmgr.wire import LabelSelector
from poolmgr.wire.kube_node import Node
from poolmgr.wire.kube_pod import PodSpec
from poolmgr.wire.scheduling import PodAffinityTerm, TopologySpread
from poolmgr.wire.workloads import Requirement

NAMESPACES_UNREAD = "it has rules about pods of namespaces with certain labels, which are not read"
HARD = "DoNotSchedule"
IGNORE = "Ignore"


@dataclass(frozen=True, slots=True)
class PodRules:
    """What a pod says of others; empty for nearly all."""

    near: tuple[PodAffinityTerm, ...] = ()
    apart: tuple[PodAffinityTerm, ...] = ()
    spread: tuple[TopologySpread, ...] = ()
    text: bytes = b""
    """All of it, to know equal rules by."""


def rules_of(spec: PodSpec) -> PodRules | None:
    """None where it says nothing that forbids a node."""
    affinity = spec.affinity
    found = PodRules(
        affinity.pod_affinity.required if affinity and affinity.pod_affinity else (),
        affinity.pod_anti_affinity.required if affinity and affinity.pod_anti_affinity else (),
        tuple(c for c in spec.topology_spread_constraints if c.when_unsatisfiable == HARD),
    )
    if not (found.near or found.apart or found.spread):
        return None
    text = msgspec.json.encode((found.near, found.apart, found.spread), order="deterministic")
    return replace(found, text=text)


@dataclass(frozen=True, slots=True)
class Peer:
    """A pod as rules see it."""

    namespace: str
    labels: dict[str, str]
    """The very same value for pods with the same labels."""
    node: str = ""
    terminating: bool = False
    rules: PodRules | None = None


class PeerTable:
    """All bound pods of the cluster, and its nodes."""

    def __init__(self, peers: Iterable[Peer], nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self._peers = [peer for peer in peers if peer.node in nodes]
        self._wary = [peer for peer in self._peers if peer.rules is not None and peer.rules.apart]
        self._known: dict[tuple[object, ...], Placement] = {}

    def placed(self, placement: Placement, me: Peer, names: Iterable[str]) -> Placement:
        """The placement of a waiting pod; `names` are the nodes that it is asked of. Worked out once for equal pods."""
        key = (placement, me.namespace, id(me.labels), me.rules.text if me.rules else b"")
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._placed(placement, me, names)
        return known

    def _placed(self, placement: Placement, me: Peer, names: Iterable[str]) -> Placement:
        rules = me.rules or PodRules()
        terms = (*rules.near, *rules.apart)
        if any(_by_namespace_labels(term) for term in terms):
            return replace(placement, unknown=placement.unknown or NAMESPACES_UNREAD)
        disliked = self._disliked(me)
        if me.rules is None and not disliked:
            return placement
        checks = [self._far(rules.near, me), self._crowded(rules.apart, me), disliked]
        spread = self._uneven(rules.spread, me, placement)
        excluded = frozenset(
            NodeName(name)
            for name in names
            if name in self._nodes
            and (
                any(self._at(name, key) in values for check in checks[1:] for key, values in check)
                or any(self._at(name, key) not in values for key, values in checks[0])
                or any(self._at(name, key) not in values for key, values in spread)
            )
        )
        return replace(placement, excluded=excluded, one_at_a_time=me.rules is not None)

    def _at(self, node: str, key: str) -> str | None:
        return self._nodes[node].metadata.labels.get(key)

    def _values(self, key: str, peers: Iterable[Peer]) -> set[str | None]:
        return {value for peer in peers if (value := self._at(peer.node, key)) is not None}

    def _far(self, terms: tuple[PodAffinityTerm, ...], me: Peer) -> list[tuple[str, set[str | None]]]:
        """For each term: the topology values where somebody is whom all terms select. The first of a group that selects
        itself may go anywhere where the topology is known."""
        friends = [peer for peer in self._peers if all(_is_about(term, me, peer) for term in terms)]
        found = [(term.topology_key, self._values(term.topology_key, friends)) for term in terms]
        if not any(values for _, values in found) and all(_is_about(term, me, me) for term in terms):
            return [(key, {self._at(name, key) for name in self._nodes} - {None}) for key, _ in found]
        return found

    def _crowded(self, terms: tuple[PodAffinityTerm, ...], me: Peer) -> list[tuple[str, set[str | None]]]:
        """Topology values where somebody is whom it wants to be apart from."""
        return [
            (
                term.topology_key,
                self._values(term.topology_key, (p for p in self._peers if _is_about(term, me, p))),
            )
            for term in terms
        ]

    def _disliked(self, me: Peer) -> list[tuple[str, set[str | None]]]:
        """The same the other way round. A rule by labels of namespaces may be about it, so it counts."""
        found: dict[str, set[str | None]] = {}
        for peer in self._wary:
            for term in peer.rules.apart if peer.rules else ():
                about = _by_namespace_labels(term) and selects(term.label_selector, me.labels)
                if about or _is_about(term, peer, me):
                    found.setdefault(term.topology_key, set()).update(
                        self._values(term.topology_key, (peer,))
                    )
        return list(found.items())

    def _uneven(
        self, constraints: tuple[TopologySpread, ...], me: Peer, placement: Placement
    ) -> list[tuple[str, set[str | None]]]:
        """For each constraint: the topology values that may take one more."""
        found = []
        for constraint in constraints:
            counts: Counter[str | None] = Counter()
            selector = _with_own_values(constraint, me)
            for name in self._counted(constraints, constraint, placement):
                counts[self._at(name, constraint.topology_key)] += 0
            for peer in self._peers:
                value = self._at(peer.node, constraint.topology_key)
                mine = peer.namespace == me.namespace and not peer.terminating
                if mine and value in counts and selects(selector, peer.labels):
                    counted = self._counts_node(constraints, constraint, placement, peer.node)
                    counts[value] += counted
            few = constraint.min_domains is not None and len(counts) < constraint.min_domains
            least = 0 if few else min(counts.values(), default=0)
            more = int(selects(selector, me.labels))
            found.append(
                (
                    constraint.topology_key,
                    {value for value, n in counts.items() if n + more - least <= constraint.max_skew},
                )
            )
        return found

    def _counted(
        self, constraints: tuple[TopologySpread, ...], constraint: TopologySpread, placement: Placement
    ) -> list[str]:
        return [name for name in self._nodes if self._counts_node(constraints, constraint, placement, name)]

    def _counts_node(
        self,
        constraints: tuple[TopologySpread, ...],
        constraint: TopologySpread,
        placement: Placement,
        name: str,
    ) -> bool:
        """Nodes that lack one of the topologies, or that the pod's own rules exclude, are not part of the picture."""
        labels = self._nodes[name].metadata.labels
        if any(c.topology_key not in labels for c in constraints):
            return False
        if constraint.node_affinity_policy == IGNORE:
            return True
        plain = Placement(selector=placement.selector, affinity=placement.affinity)
        return not plain.denial(NodeName(name), labels, ())


def _by_namespace_labels(term: PodAffinityTerm) -> bool:
    selector = term.namespace_selector
    return selector is not None and bool(selector.match_labels or selector.match_expressions)


def _is_about(term: PodAffinityTerm, owner: Peer, other: Peer) -> bool:
    """Whether `other` is one of those that a rule of `owner` selects."""
    if term.namespace_selector is None:
        there = other.namespace in (term.namespaces or (owner.namespace,))
    else:  # an empty one selects every namespace
        there = True
    return there and selects(term.label_selector, other.labels)


def _with_own_values(constraint: TopologySpread, me: Peer) -> LabelSelector | None:
    selector = constraint.label_selector
    if selector is None or not constraint.match_label_keys:
        return selector
    own = tuple(
        Requirement(key, "In", (me.labels[key],)) for key in constraint.match_label_keys if key in me.labels
    )
    return LabelSelector(selector.match_labels, (*selector.match_expressions, *own))
