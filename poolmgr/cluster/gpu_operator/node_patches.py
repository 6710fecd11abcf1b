"""What to change on a Node to pause and resume services beside the driver, and to hold upgrades of the driver.

Pure. Only labels that say `true` are paused, and only what says that we paused it is set to `true` again: a label that
somebody else has set otherwise is never written.
"""

from poolmgr.cluster.node_writer import Patch
from poolmgr.wire import Node
from poolmgr.wire.annotations import UPGRADES_HELD
from poolmgr.wire.gpu_operator import PAUSABLE, PAUSED, RUNS, UPGRADE_SKIP


def pause_patch(node: Node, labels: frozenset[str]) -> Patch | None:
    """Pause these services, of those that run."""
    present = node.metadata.labels
    return _labels({label: PAUSED for label in labels & PAUSABLE if present.get(label) == RUNS})


def resume_patch(node: Node, labels: frozenset[str]) -> Patch | None:
    """Resume these, of those that we paused."""
    present = node.metadata.labels
    return _labels({label: RUNS for label in labels & PAUSABLE if present.get(label) == PAUSED})


def upgrades_patch(node: Node, held: bool) -> Patch | None:
    """Hold upgrades in our name, or let them go on where it was we who held them. One that somebody else holds, or lets
    happen all the same, is left so."""
    label, ours = node.metadata.labels.get(UPGRADE_SKIP), bool(node.metadata.annotations.upgrades_held)
    if held:
        if label is not None:
            return None
        return {"metadata": {"labels": {UPGRADE_SKIP: RUNS}, "annotations": {UPGRADES_HELD: RUNS}}}
    if not ours:
        return None
    patch: Patch = {"metadata": {"annotations": {UPGRADES_HELD: None}}}
    if label == RUNS:
        patch["metadata"]["labels"] = {UPGRADE_SKIP: None}
    return patch


def _labels(changed: dict[str, str]) -> Patch | None:
    return {"metadata": {"labels": dict(sorted(changed.items()))}} if changed else None
