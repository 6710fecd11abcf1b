"""What to change on a Node to move HAMi's levers. Pure: a Node in, a merge patch out, None when it is so
already."""

import msgspec

from poolmgr.cluster.hami.state import THEIRS, fence_marks, plugin_wanted
from poolmgr.cluster.hami.version import DEVICE_CORDON_SINCE, Minor
from poolmgr.cluster.node_writer import Patch
from poolmgr.domain.errors import Rejected
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.reasons import Reason
from poolmgr.wire import DaemonSet, Node
from poolmgr.wire.annotations import ASKED, BEST_EFFORT_ONLY, CORDONED, FENCED, OPENED, PLUGIN_LABELS
from poolmgr.wire.gpu_operator import PAUSABLE, PAUSED, restored_by_others
from poolmgr.wire.hami import names
from poolmgr.wire.nodes import withheld_labels
from poolmgr.wire.text import listed


def fence_patch(node: Node, uuids: frozenset[GpuUuid], version: Minor) -> Patch | None:
    """Close exactly `uuids` by HAMi's device cordon, leaving entries that others put there, now and afterwards.

    The handshake goes in the same patch: HAMi's scheduler notices a missing handshake at its next tick (15 s)
    and only then reads the node's annotations again. Releases before 2.10 have no device cordon; there the
    node cordon and the pods' own `nouse-gpuuuid` close a GPU, and this changes nothing.
    """
    if version < DEVICE_CORDON_SINCE:
        return None
    annotations = node.metadata.annotations
    marks, present = fence_marks(annotations.fenced), set(listed(annotations.device_cordon))
    theirs = present - {uuid for uuid, before in marks.items() if not before}
    wanted = theirs | uuids
    if marks == {uuid: uuid in theirs for uuid in uuids} and present == wanted:
        return None
    ours = sorted(f"{uuid}{THEIRS}" if uuid in theirs else uuid for uuid in uuids)
    return _annotate(
        {
            names.DEVICE_CORDON: ",".join(sorted(wanted)) or None,
            names.HANDSHAKE: None,
            FENCED: ",".join(ours) or None,
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
    """Cordon in our name, or open the node: lift a cordon that is ours. A node that someone else cordoned is left so.

    Once HAMi's scheduler has been asked to look, opening changes a label, too. kube-scheduler tries pods that HAMi turned away
    anew when a node changes in what it looks at, and older ones do not look at annotations.
    """
    annotations = node.metadata.annotations
    if cordoned:
        if node.spec.unschedulable:
            return None
        return {**_annotate({CORDONED: plan}), "spec": {"unschedulable": True}}
    if not annotations.cordoned and not annotations.asked:
        return None
    patch = _annotate({CORDONED: None, ASKED: None})
    if annotations.asked:
        patch["metadata"]["labels"] = {OPENED: annotations.asked.rpartition("@")[2]}
    if annotations.cordoned and node.spec.unschedulable:
        patch["spec"] = {"unschedulable": None}
    return patch


def plugin_patch(node: Node, wanted: bool, plugin: DaemonSet | None) -> Patch | None:
    """Take away (or pause, where it is the GPU operator's) the label that the plugin's DaemonSet selects, or put back what
    was taken.

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
    stale = node.metadata.annotations.handshake.startswith("Deleted")
    # 2.9 and older do not look at a handshake. One that is left of an earlier time must not say that they are done now.
    forgets: dict[str, str | None] = {names.HANDSHAKE: None} if stale else {}
    key = _lever(plugin)
    if (
        key in PAUSABLE
    ):  # taken off, the GPU operator would put it back at once; it honours a value that is there
        return {"metadata": {"labels": {key: PAUSED}, **({"annotations": forgets} if forgets else {})}}
    value = node.metadata.labels[key]
    taken = msgspec.json.encode({**remembered, key: value}, order="sorted").decode()
    return {"metadata": {"labels": {key: None}, "annotations": {PLUGIN_LABELS: taken, **forgets}}}


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
    wanted = {**{k: v for k, v in wanted.items() if not restored_by_others(k)}, **remembered}
    missing = {
        key: value
        for key, value in wanted.items()
        if (labels.get(key) == PAUSED if key in PAUSABLE else labels.get(key) != value)
    }
    if not missing and not remembered:
        return None
    patch: Patch = {"metadata": {"annotations": {PLUGIN_LABELS: None}}}
    if missing:
        patch["metadata"]["labels"] = missing
    return patch


def _lever(plugin: DaemonSet) -> str:
    """The one label to change: never one that Kubernetes or NVIDIA's operators would put back."""
    keys = sorted(key for key in plugin.spec.template.spec.node_selector if not restored_by_others(key))
    if not keys:
        raise Rejected(
            Reason.UNSUITABLE,
            f"DaemonSet {plugin.metadata.namespace}/{plugin.metadata.name} has no node selector of its own, "
            "so HAMi's device plugin cannot be stopped on one node; set devicePlugin.nvidiaNodeSelector in "
            "HAMi's chart.",
        )
    return keys[0]


def _annotate(annotations: dict[str, str | None]) -> Patch:
    return {"metadata": {"annotations": annotations}}
