"""What to change on a Node to move HAMi's levers. Pure: a Node in, a merge patch out, None when it is so
already."""

from typing import Any

import msgspec

from poolmgr.cluster.hami.state import plugin_wanted
from poolmgr.cluster.hami.version import DEVICE_CORDON_SINCE, Minor
from poolmgr.domain.errors import Rejected
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.reasons import Reason
from poolmgr.wire import DaemonSet, Node
from poolmgr.wire.annotations import ASKED, BEST_EFFORT_ONLY, CORDONED, FENCED, PLUGIN_LABELS
from poolmgr.wire.hami import names
from poolmgr.wire.nodes import withheld_labels
from poolmgr.wire.text import listed

Patch = dict[str, Any]


def fence_patch(node: Node, uuids: frozenset[GpuUuid], version: Minor) -> Patch | None:
    """Close exactly `uuids` by HAMi's device cordon, leaving entries that others put there.

    The handshake goes in the same patch: HAMi's scheduler notices a missing handshake at its next tick (15 s)
    and only then reads the node's annotations again. Releases before 2.10 have no device cordon; there the
    node cordon and the pods' own `nouse-gpuuuid` close a GPU, and this changes nothing.
    """
    if version < DEVICE_CORDON_SINCE:
        return None
    annotations = node.metadata.annotations
    ours, present = set(listed(annotations.fenced)), set(listed(annotations.device_cordon))
    wanted = (present - ours) | uuids
    if ours == uuids and present == wanted:
        return None
    return _annotate(
        {
            names.DEVICE_CORDON: ",".join(sorted(wanted)) or None,
            names.HANDSHAKE: None,
            FENCED: ",".join(sorted(uuids)) or None,
        }
    )


def ask_patch(node: Node, plan: str, now: float, version: Minor) -> Patch | None:
    """Have HAMi's scheduler look at the node at its next tick, once for each plan: it re-stamps a handshake that is
    missing, and reads what the plugin has registered by then. Before 2.10 it does not care for the handshake of
    NVIDIA's GPUs and looks in any case; only the time is noted."""
    if node.metadata.annotations.asked.partition("@")[0] == plan:
        return None
    asked: dict[str, str | None] = {ASKED: f"{plan}@{now:.0f}"}
    if version >= DEVICE_CORDON_SINCE:
        asked[names.HANDSHAKE] = None
    return _annotate(asked)


def cordon_patch(node: Node, cordoned: bool, plan: str) -> Patch | None:
    """Cordon in our name, or lift a cordon that is ours. A node that someone else cordoned is left so."""
    ours = bool(node.metadata.annotations.cordoned)
    if cordoned:
        if node.spec.unschedulable:
            return None
        return {**_annotate({CORDONED: plan}), "spec": {"unschedulable": True}}
    if not ours:
        return None
    patch = _annotate({CORDONED: None, ASKED: None})
    if node.spec.unschedulable:
        patch["spec"] = {"unschedulable": None}
    return patch


def plugin_patch(node: Node, wanted: bool, plugin: DaemonSet | None) -> Patch | None:
    """Take away the label that the plugin's DaemonSet selects, or put back what was taken.

    Raises Rejected where there is no such lever: the plugin is no DaemonSet, or one without a node selector
    of its own.
    """
    remembered = withheld_labels(node)
    if wanted:
        return _restore_patch(node, remembered, plugin)
    if not plugin_wanted(node.metadata.labels, plugin):
        if plugin is not None or remembered:
            return None
        raise Rejected(
            Reason.UNSUITABLE,
            "HAMi's device plugin was not found as a DaemonSet (label "
            f"{names.COMPONENT_LABEL}={names.PLUGIN_COMPONENT}), so it cannot be stopped on one node.",
        )
    assert plugin is not None
    key = _lever(plugin)
    value = node.metadata.labels[key]
    taken = msgspec.json.encode({**remembered, key: value}, order="sorted").decode()
    return {"metadata": {"labels": {key: None}, "annotations": {PLUGIN_LABELS: taken}}}


def unregister_patch(node: Node) -> Patch | None:
    """Remove HAMi's registration, which nothing of HAMi's ever removes."""
    annotations = node.metadata.annotations
    present = {names.REGISTER: annotations.register, names.SCORE: annotations.score}
    gone: dict[str, str | None] = {name: None for name, value in present.items() if value}
    return _annotate(gone) if gone else None


def best_effort_only_patch(node: Node, on: bool) -> Patch | None:
    """Set our label or take it off, whoever set it: it is the manager's alone."""
    wanted = "true" if on else None
    if node.metadata.labels.get(BEST_EFFORT_ONLY) == wanted:
        return None
    return {"metadata": {"labels": {BEST_EFFORT_ONLY: wanted}}}


def _restore_patch(node: Node, remembered: dict[str, str], plugin: DaemonSet | None) -> Patch | None:
    labels = node.metadata.labels
    wanted = dict(plugin.spec.template.spec.node_selector) if plugin is not None else {}
    # What was taken goes back as it was, even where the DaemonSet selects something else by now.
    wanted = {**{k: v for k, v in wanted.items() if not _well_known(k)}, **remembered}
    missing = {key: value for key, value in wanted.items() if labels.get(key) != value}
    if not missing and not remembered:
        return None
    patch: Patch = {"metadata": {"annotations": {PLUGIN_LABELS: None}}}
    if missing:
        patch["metadata"]["labels"] = missing
    return patch


def _lever(plugin: DaemonSet) -> str:
    """The one label to take away: never one that Kubernetes itself keeps."""
    keys = sorted(key for key in plugin.spec.template.spec.node_selector if not _well_known(key))
    if not keys:
        raise Rejected(
            Reason.UNSUITABLE,
            f"DaemonSet {plugin.metadata.namespace}/{plugin.metadata.name} has no node selector of its own, "
            "so HAMi's device plugin cannot be stopped on one node; set devicePlugin.nvidiaNodeSelector in "
            "HAMi's chart.",
        )
    return keys[0]


def _well_known(key: str) -> bool:
    domain = key.partition("/")[0] if "/" in key else ""
    return domain.endswith(("kubernetes.io", "k8s.io"))


def _annotate(annotations: dict[str, str | None]) -> Patch:
    return {"metadata": {"annotations": annotations}}
