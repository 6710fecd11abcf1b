"""The patches that pause, resume and hold: never a word that somebody else has said."""

from typing import Any

import pytest

from poolmgr.cluster.gpu_operator.node_patches import pause_patch, resume_patch, upgrades_patch
from poolmgr.wire.gpu_operator import DEPLOY, UPGRADE_SKIP
from tests.unit.cluster.builders import as_node

EXPORTER, DCGM = DEPLOY + "dcgm-exporter", DEPLOY + "dcgm"
BOTH = frozenset({EXPORTER, DCGM})
HELD = "poolmgr.io/upgrades-held"


def labels(patch: dict[str, Any] | None) -> dict[str, Any]:
    return patch["metadata"]["labels"] if patch is not None else {}


def test_what_runs_is_paused_and_what_we_paused_runs_again() -> None:
    running = as_node(labels={EXPORTER: "true", DCGM: "true"})
    paused = as_node(labels={EXPORTER: "paused-for-poolmgr", DCGM: "true"})
    assert labels(pause_patch(running, BOTH)) == dict.fromkeys(BOTH, "paused-for-poolmgr")
    assert labels(pause_patch(paused, BOTH)) == {DCGM: "paused-for-poolmgr"}
    assert labels(resume_patch(paused, BOTH)) == {EXPORTER: "true"}
    assert resume_patch(running, BOTH) is None
    assert pause_patch(running, frozenset()) is None


@pytest.mark.parametrize(
    "value", [None, "", "false", "paused-for-driver-upgrade", "paused-for-poolmgr_paused-for-driver-upgrade"]
)
def test_a_label_that_somebody_else_has_set_or_taken_off_is_not_written(value: str | None) -> None:
    node = as_node(labels={} if value is None else {EXPORTER: value})
    assert pause_patch(node, BOTH) is None
    assert resume_patch(node, BOTH) is None


def test_no_other_label_is_written_whatever_is_asked() -> None:
    asked = frozenset({DEPLOY + "driver", DEPLOY + "operator-validator", "gpu"})
    assert pause_patch(as_node(labels=dict.fromkeys(asked, "true")), asked) is None
    assert resume_patch(as_node(labels=dict.fromkeys(asked, "paused-for-poolmgr")), asked) is None


def test_upgrades_are_held_with_a_note_that_it_was_us_and_let_go_with_it() -> None:
    assert upgrades_patch(as_node(labels={}), True) == {
        "metadata": {"labels": {UPGRADE_SKIP: "true"}, "annotations": {HELD: "true"}}
    }
    ours = as_node(labels={UPGRADE_SKIP: "true"}, annotations={HELD: "true"})
    assert upgrades_patch(ours, True) is None
    assert upgrades_patch(ours, False) == {
        "metadata": {"annotations": {HELD: None}, "labels": {UPGRADE_SKIP: None}}
    }


@pytest.mark.parametrize("value", ["true", "false"])
def test_what_somebody_else_says_about_upgrades_stays(value: str) -> None:
    theirs = as_node(labels={UPGRADE_SKIP: value})
    assert upgrades_patch(theirs, True) is None
    assert upgrades_patch(theirs, False) is None
    after = as_node(labels={UPGRADE_SKIP: "false"}, annotations={HELD: "true"})
    assert upgrades_patch(after, False) == {"metadata": {"annotations": {HELD: None}}}
