"""Which nodes may a waiting workload run on? The scheduler's filters, asked once for nodes that are all the same to it.

Of a node's labels only those matter that some waiting workload names, and of their values only those that it names.
So a fleet has few kinds of nodes, whatever its size; kinds are numbered, and each is asked once for each workload's
rules.
"""

from collections.abc import Collection, Iterable, Mapping

from poolmgr.domain.fleet import Node
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.occupancy import unbound_pods, unbound_vms
from poolmgr.domain.placement import Placement, Requirement
from poolmgr.domain.snapshot import ClusterSnapshot

COMPARED = frozenset({"Gt", "Lt"})
OTHER = "\0"
"""Stands for every value that nobody names: no label has it."""

_Kind = tuple[tuple[str | None, ...], tuple[str | None, ...], tuple[object, ...], str]


class NodeFilter:
    """Answers for one snapshot. `kind_of` is a node's number."""

    def __init__(self, snapshot: ClusterSnapshot) -> None:
        found = [vm.placement for vm in unbound_vms(snapshot.vms)]
        found += [pod.placement for pod in unbound_pods(snapshot.pods)]
        waiting = set({id(placement): placement for placement in found}.values())  # few are hashed
        self._named = _named_values(waiting)
        self._names = _named_nodes(waiting)
        self._numbers: dict[_Kind, int] = {}
        self._examples: list[Node] = []
        self._answers: dict[tuple[Placement, bool], dict[int, str]] = {}
        self._kinds = {node.name: self._number(node) for node in snapshot.nodes}

    def kind_of(self, name: NodeName) -> int:
        return self._kinds[name]

    def denials(self, placement: Placement, *, shared: bool = False) -> Mapping[int, str]:
        """For each kind of node, why workloads with this placement may not run there; empty where they may. `shared` asks
        about nodes as they are once a GPU of them is shared: with the labels that a move has taken off."""
        key = (placement, shared)
        known = self._answers.get(key)
        if known is None:
            known = self._answers[key] = {
                kind: placement.denial(node.name, _labels(node, shared), node.lasting_taints)
                for kind, node in enumerate(self._examples)
            }
        return known

    def admitted(
        self, placement: Placement, names: Collection[NodeName], *, shared: bool = False
    ) -> Collection[NodeName]:
        """Those of `names` that may run such a workload; `names` itself where all may."""
        denials, kinds = self.denials(placement, shared=shared), self._kinds
        if not any(denials.values()):
            return names
        return [name for name in names if not denials[kinds[name]]]

    def denial(self, placement: Placement, name: NodeName, *, shared: bool = False) -> str:
        """The same for one node."""
        return self.denials(placement, shared=shared)[self._kinds[name]]

    def why_none(self, placement: Placement, names: Iterable[NodeName], *, shared: bool = False) -> str:
        """Of nodes none of which admits the workload: what rules them out, the most frequent first."""
        if placement.unknown:
            return placement.unknown
        counts: dict[str, int] = {}
        for name in names:
            why = self.denial(placement, name, shared=shared)
            counts[why] = counts.get(why, 0) + 1
        order = sorted(counts, key=lambda why: (-counts[why], why))
        return "; ".join(f"{why} ({counts[why]} node(s))" for why in order[:3])

    def _number(self, node: Node) -> int:
        labels: tuple[str | None, ...] = ()
        withheld: tuple[str | None, ...] = ()
        if self._named:
            labels = self._projected(dict(node.labels))
            withheld = self._projected(dict(node.withheld_labels)) if node.withheld_labels else ()
        named = node.name if node.name in self._names else ""
        kind: _Kind = (labels, withheld, node.lasting_taints, named)
        number = self._numbers.get(kind)
        if number is None:
            number = self._numbers[kind] = len(self._examples)
            self._examples.append(node)
        return number

    def _projected(self, labels: Mapping[str, str]) -> tuple[str | None, ...]:
        found = []
        for key, values in self._named.items():
            value = labels.get(key)
            named = value is None or values is None or value in values
            found.append(value if named else OTHER)
        return tuple(found)


def _labels(node: Node, shared: bool) -> dict[str, str]:
    return {**dict(node.labels), **dict(node.withheld_labels)} if shared else dict(node.labels)


def _requirements(placement: Placement) -> Iterable[Requirement]:
    for terms in (placement.affinity or (), *placement.volumes):
        for term in terms:
            yield from term.expressions


def _named_values(placements: set[Placement]) -> dict[str, set[str] | None]:
    """Label → the values of it that make a difference; None where each one may."""
    named: dict[str, set[str] | None] = {}
    for placement in placements:
        rules = [Requirement(key, "In", (value,)) for key, value in placement.selector]
        for rule in (*rules, *_requirements(placement)):
            known = named.setdefault(rule.key, set())
            if rule.operator in COMPARED:
                named[rule.key] = None
            elif known is not None:
                known.update(rule.values)
    return named


def _named_nodes(placements: set[Placement]) -> set[str]:
    named: set[str] = set()
    for placement in placements:
        named.update(placement.excluded)
        if placement.node_name:
            named.add(placement.node_name)
        for terms in (placement.affinity or (), *placement.volumes):
            named.update(value for term in terms for rule in term.fields for value in rule.values)
    return named
