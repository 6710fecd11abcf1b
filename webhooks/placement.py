"""Where a request may run by its own rules, read as the planner will read them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.placement import ANYWHERE, Placement
from poolmgr.wire.scheduling import SchedulingRules, placement_of, rules_in
from webhooks.fleet_view import FleetView

MOST_COMPARED = 20_000
"""Rules times nodes: some milliseconds."""


def placement_in(spec: Mapping[str, Any]) -> Placement:
    """Of the spec of a pod or an instance; anywhere where its rules are none that Kubernetes knows."""
    try:
        found = msgspec.convert(spec, SchedulingRules)
    except msgspec.ValidationError:
        return ANYWHERE
    return placement_of(
        node_selector=found.node_selector, affinity=found.affinity, tolerations=found.tolerations
    )


def denial(placement: Placement, name: NodeName, fleet: FleetView, *, shared: bool = False) -> str:
    """Why the node does not admit it; `shared` asks about the node as it is once a GPU of it is shared."""
    labels = fleet.node_labels[name]
    if shared and name in fleet.withheld_labels:
        labels = {**labels, **fleet.withheld_labels[name]}
    return placement.denial(name, labels, fleet.node_taints.get(name, ()))


def admitting(
    placement: Placement, names: Iterable[NodeName], fleet: FleetView, *, shared: bool = False
) -> list[NodeName]:
    """Those of `names` that admit it; all of them where it would take too long to tell, as nothing is refused then."""
    asked = list(names)
    if rules_in(placement) * len(asked) > MOST_COMPARED:
        return asked
    return [name for name in asked if not denial(placement, name, fleet, shared=shared)]


def why_none(
    placement: Placement, names: Iterable[NodeName], fleet: FleetView, *, shared: bool = False
) -> str:
    """Of nodes none of which admits it: what rules them out, the most frequent first."""
    why = Counter(denial(placement, name, fleet, shared=shared) for name in names)
    return "; ".join(f"{text} ({number} node(s))" for text, number in why.most_common(3))
