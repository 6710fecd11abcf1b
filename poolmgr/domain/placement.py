"""Where a workload may run: what it asks of a node beside GPUs, and kube-scheduler's answer for one node.

The rules are those of kube-scheduler's filters (NodeName, NodeUnschedulable, TaintToleration, NodeAffinity, NodePorts,
NodeResourcesFit), and of VolumeBinding for the nodes that bound volumes name. What depends on other pods (pod affinity,
topology spread) comes as `excluded`, worked out where all pods are known. e2e/controlplane/test_placement.py holds the
rules against the real scheduler.

What cannot be read is `unknown`, and admits no node: a GPU must not move for a guess.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from poolmgr.domain.identifiers import NodeName

UNSCHEDULABLE_TAINT = "node.kubernetes.io/unschedulable"
"""What the node controller puts on a cordoned node."""
BLOCKING_EFFECTS = frozenset({"NoSchedule", "NoExecute"})
ANY_ADDRESS = frozenset({"", "0.0.0.0", "::"})

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Taint:
    key: str
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True)
class Toleration:
    key: str = ""
    operator: str = ""
    """Equal (also when empty), Exists, Lt or Gt."""
    value: str = ""
    effect: str = ""
    """Empty matches every effect."""

    def tolerates(self, taint: Taint) -> bool:
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        match self.operator:
            case "" | "Equal":
                return bool(self.key) and self.value == taint.value
            case "Exists":
                return True
            case _:  # Lt and Gt are behind a feature gate that is off
                return False


@dataclass(frozen=True, slots=True)
class Requirement:
    """One expression of a node selector."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Labels) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case "Gt" | "Lt" if len(self.values) == 1:
                have, bound = _whole(value), _whole(self.values[0])
                if have is None or bound is None:
                    return False
                return have > bound if self.operator == "Gt" else have < bound
            case _:
                return False


@dataclass(frozen=True, slots=True)
class NodeTerm:
    """One alternative of a node selector; one that says nothing matches no node."""

    expressions: tuple[Requirement, ...] = ()
    """Of labels."""
    fields: tuple[Requirement, ...] = ()
    """Of `metadata.name`, the only field that there is."""

    def matches(self, labels: Labels, name: str) -> bool:
        if not self.expressions and not self.fields:
            return False
        return all(e.holds(labels) for e in self.expressions) and all(
            f.holds({"metadata.name": name}) for f in self.fields
        )


Terms = tuple[NodeTerm, ...]
"""Alternatives."""


@dataclass(frozen=True, slots=True)
class HostPort:
    port: int
    protocol: str = "TCP"
    address: str = ""
    """Empty for every address of the node."""

    def clashes(self, other: "HostPort") -> bool:
        return (
            self.port == other.port
            and self.protocol == other.protocol
            and (self.address in ANY_ADDRESS or other.address in ANY_ADDRESS or self.address == other.address)
        )


@dataclass(frozen=True, slots=True)
class Placement:
    """What a workload asks of the node that it is to run on, apart from GPUs, CPU and memory."""

    node_name: str = ""
    selector: tuple[tuple[str, str], ...] = ()
    affinity: Terms | None = None
    """None where nothing is required."""
    volumes: tuple[Terms, ...] = ()
    """For each of its volumes that not every node can mount, the nodes that can."""
    tolerations: tuple[Toleration, ...] = ()
    requests: tuple[tuple[str, int], ...] = ()
    """Extended resources and ephemeral storage (bytes), other than those that poolmgr or HAMi gives out."""
    ports: tuple[HostPort, ...] = ()
    excluded: frozenset[NodeName] = frozenset()
    """Nodes that its rules about other pods (affinity, anti-affinity, spread) rule out."""
    one_at_a_time: bool = False
    """It has such rules: where the next one may run depends on where this one goes."""
    unknown: str = ""
    """Why it cannot be told where it may run; a part of a sentence, empty when it can."""

    def denial(self, name: NodeName, labels: Labels, taints: Iterable[Taint]) -> str:
        """Why the workload may not run on a node, whatever is free there; empty when it may.

        `taints` without the one of a cordon that a move of ours has set: it is lifted with the move.
        """
        if self.unknown:
            return self.unknown
        if self.node_name and self.node_name != name:
            return f"it requests node {self.node_name}"
        for taint in taints:
            if taint.effect in BLOCKING_EFFECTS and not any(t.tolerates(taint) for t in self.tolerations):
                return f"it does not tolerate the taint {taint.key}"
        for key, value in self.selector:
            if labels.get(key) != value:
                return f"its node selector wants {key}={value}"
        if self.affinity is not None and not any(term.matches(labels, name) for term in self.affinity):
            return "its node affinity rules it out"
        for terms in self.volumes:
            if not any(term.matches(labels, name) for term in terms):
                return "one of its volumes cannot be used there"
        if name in self.excluded:
            return "its affinity or anti-affinity to other pods rules it out"
        return ""


ANYWHERE = Placement()


@dataclass(frozen=True, slots=True)
class Needs:
    """How much of a node's own resources one workload takes."""

    cpu_milli: int = 0
    memory_mib: int = 0
    requests: tuple[tuple[str, int], ...] = ()
    ports: tuple[HostPort, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.cpu_milli or self.memory_mib or self.requests or self.ports)


NOTHING = Needs()


@dataclass(frozen=True, slots=True)
class FreeResources:
    """What a node has left, beside GPUs."""

    cpu_milli: int
    memory_mib: int
    amounts: Mapping[str, int]
    """Other resources by name; one that is not there is not offered. `pods`: how many more it takes."""
    ports: tuple[HostPort, ...] = ()
    """Taken."""

    def lacks(self, needs: Needs) -> str:
        """What is too little for `needs`, as a part of a sentence; empty when there is enough."""
        if needs.cpu_milli > self.cpu_milli and needs.cpu_milli:
            return f"it needs {needs.cpu_milli / 1_000:g} CPUs, but only {self.cpu_milli / 1_000:g} are left"
        if needs.memory_mib > self.memory_mib and needs.memory_mib:
            return f"it needs {needs.memory_mib} MiB of memory, but only {self.memory_mib} are left"
        if self.amounts.get("pods", 1) < 1:
            return "the node already runs as many pods as it can"
        for name, amount in needs.requests:
            have = self.amounts.get(name, 0)
            if amount > have:
                return f"it needs {amount} {name}, but only {have} are left"
        for port in needs.ports:
            if any(port.clashes(taken) for taken in self.ports):
                return f"its host port {port.port} is taken"
        return ""

    def without(self, needs: Needs) -> "FreeResources":
        """What is left once a workload with `needs` is there."""
        amounts = dict(self.amounts)
        for name, amount in needs.requests:
            amounts[name] = amounts.get(name, 0) - amount
        if "pods" in amounts:
            amounts["pods"] -= 1
        return FreeResources(
            self.cpu_milli - needs.cpu_milli,
            self.memory_mib - needs.memory_mib,
            amounts,
            (*self.ports, *needs.ports),
        )


LONGEST_INTEGER = 20
"""Characters of a 64-bit integer with its sign."""


def _whole(text: str | None) -> int | None:
    """Go's strconv.ParseInt in base 10; None for what it refuses."""
    if text is None or not 0 < len(text) <= LONGEST_INTEGER or not text.isascii():
        return None
    digits = text[1:] if text[0] in "+-" else text
    if not digits.isdigit():
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None
