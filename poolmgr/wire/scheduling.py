"""What a pod or a virtual machine says of the nodes that it may run on, and its decoding into the domain.

Whoever may create a pod writes these. Kubernetes bounds each of them and not how many there are: beyond `MOST` of a
kind nothing is decided on them, which is said.
"""

from collections.abc import Iterable, Mapping

import msgspec

from poolmgr.domain.placement import ANYWHERE, HostPort, NodeTerm, Placement, Requirement, Terms, Toleration
from poolmgr.wire.meta import Wire
from poolmgr.wire.workloads import LabelSelector
from poolmgr.wire.workloads import Requirement as WireRequirement

MOST = 256
"""Terms, expressions, tolerations or ports of one workload; containers or devices of one that is admitted."""
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
NATIVE = frozenset({"cpu", "memory"})
"""Resources that are counted in units of their own here."""
NOTHING: Mapping[str, int] = {}


class NodeSelectorTerm(Wire, frozen=True):
    match_expressions: tuple[WireRequirement, ...] = ()
    match_fields: tuple[WireRequirement, ...] = ()


class NodeSelector(Wire, frozen=True):
    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()


class NodeAffinity(Wire, frozen=True):
    required: NodeSelector | None = msgspec.field(name=REQUIRED, default=None)


class PodAffinityTerm(Wire, frozen=True):
    topology_key: str = ""
    label_selector: LabelSelector | None = None
    namespaces: tuple[str, ...] = ()
    namespace_selector: LabelSelector | None = None
    match_label_keys: tuple[str, ...] = ()
    mismatch_label_keys: tuple[str, ...] = ()


class PodAffinity(Wire, frozen=True):
    required: tuple[PodAffinityTerm, ...] = msgspec.field(name=REQUIRED, default=())


class Affinity(Wire, frozen=True):
    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


class WireToleration(Wire, frozen=True):
    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""


class ContainerPort(Wire, frozen=True):
    container_port: int = 0
    host_port: int = 0
    host_ip: str = msgspec.field(name="hostIP", default="")
    protocol: str = "TCP"


class ClaimSource(Wire, frozen=True):
    claim_name: str = ""


class TopologySpread(Wire, frozen=True):
    max_skew: int = 1
    topology_key: str = ""
    when_unsatisfiable: str = "DoNotSchedule"
    label_selector: LabelSelector | None = None
    min_domains: int | None = None
    node_affinity_policy: str = "Honor"
    node_taints_policy: str = "Ignore"
    match_label_keys: tuple[str, ...] = ()


class SchedulingRules(Wire, frozen=True):
    """What a pod's spec, or a machine's, says of the nodes themselves."""

    node_selector: dict[str, str] = {}
    affinity: Affinity | None = None
    tolerations: tuple[WireToleration, ...] = ()


def terms_of(selector: NodeSelector) -> Terms:
    return tuple(
        NodeTerm(_requirements(term.match_expressions), _requirements(term.match_fields))
        for term in selector.node_selector_terms
    )


def _requirements(found: Iterable[WireRequirement]) -> tuple[Requirement, ...]:
    return tuple(Requirement(r.key, r.operator, r.values) for r in found)


def placement_of(
    *,
    node_selector: Mapping[str, str],
    affinity: Affinity | None,
    tolerations: tuple[WireToleration, ...],
    ports: tuple[HostPort, ...] = (),
    requests: Mapping[str, int] = NOTHING,
) -> Placement:
    """`requests` beside CPU and memory, in whole units."""
    required = affinity.node_affinity.required if affinity and affinity.node_affinity else None
    found = Placement(
        selector=tuple(sorted(node_selector.items())),
        affinity=terms_of(required) if required is not None else None,
        tolerations=tuple(Toleration(t.key, t.operator, t.value, t.effect) for t in tolerations),
        requests=tuple(sorted(requests.items())),
        ports=ports,
    )
    if found == ANYWHERE:
        return ANYWHERE
    return (
        found if rules_in(found) <= MOST else Placement(unknown=f"it has more than {MOST} scheduling rules")
    )


def rules_in(placement: Placement) -> int:
    """How many there are to look at for each node."""
    rules = [len(placement.selector), len(placement.tolerations), len(placement.ports)]
    for term in placement.affinity or ():
        rules += [1, *(1 + len(rule.values) // MOST for rule in (*term.expressions, *term.fields))]
    return sum(rules)
