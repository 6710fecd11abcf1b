"""The patches that move HAMi's levers."""

from typing import Any

import pytest

from poolmgr import wire
from poolmgr.cluster.hami.node_patches import (
    ask_patch,
    best_effort_only_patch,
    cordon_patch,
    fence_patch,
    plugin_patch,
    unregister_patch,
)
from poolmgr.domain.errors import Rejected
from poolmgr.domain.identifiers import GpuUuid
from tests.unit.cluster.builders import GPU_A, GPU_B, as_node, as_wire, plugin, register

A, B = GpuUuid(GPU_A), GpuUuid(GPU_B)


def daemon_set(**over: Any) -> wire.DaemonSet:
    return as_wire(plugin(**over), wire.DaemonSet)


def annotations(patch: dict[str, Any] | None) -> dict[str, Any]:
    assert patch is not None
    found = patch["metadata"]["annotations"]
    assert isinstance(found, dict)
    return found


def test_fence_removes_the_handshake_in_the_same_patch() -> None:
    assert annotations(fence_patch(as_node(), frozenset({A}), (2, 10))) == {
        "hami.io/device-cordon": GPU_A,
        "hami.io/node-handshake": None,
        "poolmgr.io/fenced": GPU_A,
    }


def test_fence_that_stands_is_not_written_again() -> None:
    node = as_node(annotations={"hami.io/device-cordon": GPU_A, "poolmgr.io/fenced": GPU_A})
    assert fence_patch(node, frozenset({A}), (2, 10)) is None


def test_fence_keeps_what_others_cordoned() -> None:
    node = as_node(annotations={"hami.io/device-cordon": f"{GPU_A},{GPU_B}", "poolmgr.io/fenced": GPU_A})
    lifted = annotations(fence_patch(node, frozenset(), (2, 10)))
    assert (lifted["hami.io/device-cordon"], lifted["poolmgr.io/fenced"]) == (GPU_B, None)


def test_lifting_the_last_fence_removes_the_annotation() -> None:
    node = as_node(annotations={"hami.io/device-cordon": GPU_A, "poolmgr.io/fenced": GPU_A})
    assert annotations(fence_patch(node, frozenset(), (2, 10)))["hami.io/device-cordon"] is None


def test_someone_elses_entry_for_the_same_gpu_is_made_live_by_us() -> None:
    node = as_node(annotations={"hami.io/device-cordon": GPU_A})
    assert annotations(fence_patch(node, frozenset({A}), (2, 10)))["hami.io/node-handshake"] is None


def test_someone_elses_entry_outlives_ours_for_the_same_gpu() -> None:
    node = as_node(annotations={"hami.io/device-cordon": GPU_A})
    closed = annotations(fence_patch(node, frozenset({A, B}), (2, 10)))
    assert closed["hami.io/device-cordon"] == ",".join(sorted((GPU_A, GPU_B)))
    assert set(closed["poolmgr.io/fenced"].split(",")) == {f"{GPU_A}*", GPU_B}
    kept = {key: value for key, value in closed.items() if value}
    assert fence_patch(as_node(annotations=kept), frozenset({A, B}), (2, 10)) is None
    lifted = annotations(fence_patch(as_node(annotations=kept), frozenset(), (2, 10)))
    assert (lifted["hami.io/device-cordon"], lifted["poolmgr.io/fenced"]) == (GPU_A, None)


def test_opening_changes_a_label_once_the_scheduler_was_asked_to_look() -> None:
    asked = as_node(annotations={"poolmgr.io/asked": "ab12@1800000000"})
    assert cordon_patch(asked, False, "ab12") == {
        "metadata": {
            "annotations": {"poolmgr.io/cordoned": None, "poolmgr.io/asked": None},
            "labels": {"poolmgr.io/opened": "1800000000"},
        }
    }
    assert cordon_patch(as_node(), False, "ab12") is None


def test_a_clean_up_of_an_earlier_time_is_not_taken_for_the_one_that_is_waited_for() -> None:
    node = as_node(
        labels={"gpu": "on"}, annotations={"hami.io/node-handshake": "Deleted_2026-01-01 00:00:00"}
    )
    assert annotations(plugin_patch(node, False, daemon_set()))["hami.io/node-handshake"] is None
    stamped = as_node(
        labels={"gpu": "on"}, annotations={"hami.io/node-handshake": "Requesting_2026-01-01 00:00:00"}
    )
    assert "hami.io/node-handshake" not in annotations(plugin_patch(stamped, False, daemon_set()))


def test_the_scheduler_is_asked_once_for_each_plan() -> None:
    patch = ask_patch(as_node(annotations={"poolmgr.io/asked": "old@1"}), "ab12", 1_800_000_000.4, (2, 10))
    assert patch == {
        "metadata": {
            "annotations": {"hami.io/node-handshake": None, "poolmgr.io/asked": "ab12@1800000000"},
        }
    }
    asked = as_node(annotations={"poolmgr.io/asked": "ab12@1800000000"})
    assert ask_patch(asked, "ab12", 1_800_000_100.0, (2, 10)) is None


def test_of_a_release_that_does_not_care_for_the_handshake_only_the_time_is_noted() -> None:
    patch = ask_patch(as_node(), "ab12", 1_800_000_000.0, (2, 9))
    assert patch == {"metadata": {"annotations": {"poolmgr.io/asked": "ab12@1800000000"}}}


def test_older_release_has_no_device_cordon() -> None:
    assert fence_patch(as_node(), frozenset({A}), (2, 9)) is None


def test_cordon_is_marked_with_its_plan() -> None:
    patch = cordon_patch(as_node(), True, "ab12")
    assert patch == {
        "metadata": {"annotations": {"poolmgr.io/cordoned": "ab12"}},
        "spec": {"unschedulable": True},
    }


def test_cordon_of_another_is_neither_taken_over_nor_lifted() -> None:
    foreign = as_node(unschedulable=True)
    assert cordon_patch(foreign, True, "ab12") is None
    assert cordon_patch(foreign, False, "ab12") is None


def test_own_cordon_is_lifted() -> None:
    node = as_node(unschedulable=True, annotations={"poolmgr.io/cordoned": "ab12"})
    assert cordon_patch(node, False, "ab12") == {
        "metadata": {"annotations": {"poolmgr.io/cordoned": None, "poolmgr.io/asked": None}},
        "spec": {"unschedulable": None},
    }


def test_mark_left_on_a_node_that_an_admin_uncordoned_is_removed_alone() -> None:
    node = as_node(annotations={"poolmgr.io/cordoned": "ab12"})
    assert cordon_patch(node, False, "x") == {
        "metadata": {"annotations": {"poolmgr.io/cordoned": None, "poolmgr.io/asked": None}}
    }


def test_stopping_the_plugin_remembers_the_label_and_putting_back_restores_its_value() -> None:
    node = as_node(labels={"gpu": "on", "zone": "a"})
    patch = plugin_patch(node, False, daemon_set())
    assert patch is not None
    assert patch["metadata"] == {
        "labels": {"gpu": None},
        "annotations": {"poolmgr.io/plugin-labels": '{"gpu":"on"}'},
    }
    stopped = as_node(labels={"zone": "a"}, annotations={"poolmgr.io/plugin-labels": '{"gpu":"on"}'})
    assert plugin_patch(stopped, False, daemon_set()) is None
    back = plugin_patch(stopped, True, daemon_set())
    assert back is not None
    assert back["metadata"] == {"annotations": {"poolmgr.io/plugin-labels": None}, "labels": {"gpu": "on"}}
    assert plugin_patch(node, True, daemon_set()) is None


def test_label_goes_back_even_where_the_daemonset_is_gone_by_now() -> None:
    stopped = as_node(labels={}, annotations={"poolmgr.io/plugin-labels": '{"gpu":"on"}'})
    back = plugin_patch(stopped, True, None)
    assert back is not None
    assert back["metadata"]["labels"] == {"gpu": "on"}


def test_node_that_never_had_the_label_gets_the_daemonsets() -> None:
    back = plugin_patch(as_node(labels={}), True, daemon_set())
    assert back is not None
    assert back["metadata"]["labels"] == {"gpu": "on"}


def test_kubernetes_own_labels_are_never_the_lever() -> None:
    selector = {"kubernetes.io/os": "linux", "hami": "yes"}
    node = as_node(labels={"kubernetes.io/os": "linux", "hami": "yes"})
    patch = plugin_patch(node, False, daemon_set(node_selector=selector))
    assert patch is not None
    assert patch["metadata"]["labels"] == {"hami": None}


@pytest.mark.parametrize(
    "label", ["nvidia.com/gpu.present", "nvidia.com/gpu.product", "nvidia.com/gpu.deploy.driver"]
)
def test_labels_that_nvidias_operators_put_back_are_never_the_lever(label: str) -> None:
    node = as_node(labels={label: "true"})
    with pytest.raises(Rejected, match=r"devicePlugin\.nvidiaNodeSelector"):
        plugin_patch(node, False, daemon_set(node_selector={label: "true"}))


def test_the_gpu_operators_label_for_programs_of_others_is_paused_and_never_taken_off() -> None:
    client = "nvidia.com/gpu.deploy.client"
    plugin_ = daemon_set(node_selector={client: "true"})
    assert plugin_patch(as_node(labels={client: "true"}), False, plugin_) == {
        "metadata": {"labels": {client: "paused-for-poolmgr"}}
    }
    paused = as_node(labels={client: "paused-for-poolmgr"})
    assert plugin_patch(paused, False, plugin_) is None
    back = plugin_patch(paused, True, plugin_)
    assert back is not None and back["metadata"]["labels"] == {client: "true"}
    assert plugin_patch(as_node(labels={client: "paused-for-driver-upgrade"}), True, plugin_) is None


def test_plugin_without_a_selector_of_its_own_cannot_be_stopped_and_says_what_to_set() -> None:
    node = as_node(labels={"kubernetes.io/os": "linux"})
    with pytest.raises(Rejected, match=r"devicePlugin\.nvidiaNodeSelector"):
        plugin_patch(node, False, daemon_set(node_selector={"kubernetes.io/os": "linux"}))


def test_missing_daemonset_cannot_be_stopped() -> None:
    with pytest.raises(Rejected, match="was not found as a DaemonSet"):
        plugin_patch(as_node(), False, None)


def test_unregistering_removes_registration_and_score_once() -> None:
    node = as_node(
        annotations={"hami.io/node-nvidia-register": register(GPU_A), "hami.io/node-nvidia-score": "[]"}
    )
    assert annotations(unregister_patch(node)) == {
        "hami.io/node-nvidia-register": None,
        "hami.io/node-nvidia-score": None,
    }
    assert unregister_patch(as_node()) is None


def test_node_is_lent_and_taken_back_by_our_label_alone() -> None:
    lend = {"metadata": {"labels": {"poolmgr.io/best-effort-only": "true"}}}
    take_back = {"metadata": {"labels": {"poolmgr.io/best-effort-only": None}}}
    assert best_effort_only_patch(as_node(labels={}), on=True) == lend
    lent = as_node(labels={"poolmgr.io/best-effort-only": "true", "gpu": "on"})
    assert best_effort_only_patch(lent, on=False) == take_back


@pytest.mark.parametrize(("labels", "on"), [({"poolmgr.io/best-effort-only": "true"}, True), ({}, False)])
def test_label_that_is_as_wanted_is_not_written_again(labels: dict[str, str], on: bool) -> None:
    assert best_effort_only_patch(as_node(labels=labels), on) is None


def test_label_with_a_value_of_somebody_else_is_made_ours_or_removed() -> None:
    labelled = as_node(labels={"poolmgr.io/best-effort-only": "no"})
    for on, value in ((True, "true"), (False, None)):
        patch = best_effort_only_patch(labelled, on)
        assert patch is not None
        assert patch["metadata"]["labels"] == {"poolmgr.io/best-effort-only": value}
