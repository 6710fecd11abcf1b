"""Keeps ordinary vGPU pods off lent nodes, on which only best-effort pods may newly be placed.

While it expects virtual machines, the manager lends a node's GPUs to work that may be evicted for them: it labels
the node `poolmgr.io/best-effort-only`. Every other vGPU pod refuses that label by its own node affinity from its
creation on, so that lending a node is one write on one Node, whatever waits in the cluster (docs/adr/0015). That
needs no view of the fleet. Only pods are changed, never the templates that they are made from.
"""

from collections.abc import Mapping
from typing import Any

from poolmgr.wire.annotations import BEST_EFFORT, BEST_EFFORT_ONLY
from webhooks.review import PatchOperation, add_at

NOT_LENT: Mapping[str, str] = {"key": BEST_EFFORT_ONLY, "operator": "DoesNotExist"}
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_TERMS = ("spec", "affinity", "nodeAffinity", _REQUIRED, "nodeSelectorTerms")

Term = Mapping[str, Any]


def without_lent_nodes(pod: Mapping[str, Any]) -> tuple[PatchOperation, ...]:
    """Operations after which the pod fits the nodes that it fitted before, but for lent ones. None for a
    best-effort pod, one that is bound already, one of a DaemonSet, and one that asks something of the label itself."""
    spec = pod.get("spec") or {}
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    if annotations.get(BEST_EFFORT) == "true" or spec.get("nodeName"):
        return ()
    if any(o.get("kind") == "DaemonSet" and o.get("controller") for o in _owners(pod)):
        return ()  # it can go to one node and no other, and a rollout would wait for it
    terms = affinity_terms(pod)
    if BEST_EFFORT_ONLY in (spec.get("nodeSelector") or {}):
        return ()
    if any(_operators_on_the_label(term) - {NOT_LENT["operator"]} for term in terms):
        return ()
    if _required(pod) is None:
        return (add_at(pod, (*_TERMS, "-", "matchExpressions", "-"), NOT_LENT),)
    # Terms are alternatives, so each of them needs it: also one that another webhook added after our first call.
    # With no term at all the pod is invalid, and the API server shall say so as it would without us.
    return tuple(
        add_at(pod, (*_TERMS, index, "matchExpressions", "-"), NOT_LENT)
        for index, term in enumerate(terms)
        if _selects(term) and not _operators_on_the_label(term)
    )


def affinity_terms(pod: Mapping[str, Any]) -> list[Term]:
    """The alternatives of its required node affinity."""
    return (_required(pod) or {}).get("nodeSelectorTerms") or []


def _required(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    affinity = (pod.get("spec") or {}).get("affinity") or {}
    found: Mapping[str, Any] | None = (affinity.get("nodeAffinity") or {}).get(_REQUIRED)
    return found


def _owners(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return (pod.get("metadata") or {}).get("ownerReferences") or []


def _operators_on_the_label(term: Term) -> set[str]:
    return {
        e.get("operator", "") for e in term.get("matchExpressions") or [] if e.get("key") == BEST_EFFORT_ONLY
    }


def _selects(term: Term) -> bool:
    """An empty term selects no node (Kubernetes, NodeSelectorTerm); with an expression in it, it would."""
    return bool(term.get("matchExpressions") or term.get("matchFields"))
