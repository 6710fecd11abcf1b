"""SharingState: what HAMi shows of one node."""

from typing import Any

import pytest

from poolmgr import wire
from poolmgr.cluster.hami.state import HamiInstall, lock_owner, sharing_state
from poolmgr.cluster.observe.pods import HamiPlacement, PluginPod
from poolmgr.domain.sharing import SharingState
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.hami.register import UNREADABLE
from tests.unit.cluster.builders import GPU_A, GPU_B, as_node, as_wire, plugin, register

NOW = 1_800_000_000.0


def state(version: tuple[int, int] = (2, 10), **over: Any) -> SharingState:
    install = HamiInstall(version, HamiConfig(), as_wire(plugin(), wire.DaemonSet))
    placements = over.pop("placements", ())
    pods = over.pop("pods", ())
    return sharing_state(as_node(**over), install, placements, pods, NOW)


def test_running_node_shows_plugin_slices_and_registration() -> None:
    found = state(
        annotations={"hami.io/node-nvidia-register": register(GPU_A, GPU_B)},
        pods=[PluginPod("hami", "uid-plugin", True)],
        placements=[HamiPlacement("n1", NOW - 9, False), HamiPlacement("n1", NOW - 5, True)],
    )
    assert (found.plugin_wanted, found.plugin_pods, found.plugin_ready) == (True, 1, True)
    assert found.allocatable == 20
    assert [gpu.uuid for gpu in found.registered] == [GPU_A, GPU_B]
    assert (found.allocating, found.last_placement_at) == (1, NOW - 5)


def test_node_without_the_daemonsets_label_does_not_want_the_plugin() -> None:
    assert not state(labels={"gpu": "off"}).plugin_wanted


def test_gpu_is_fenced_only_once_the_scheduler_has_stamped_the_node_again() -> None:
    cordon = {"hami.io/device-cordon": f"{GPU_A},{GPU_B}", "poolmgr.io/fenced": GPU_A}
    assert state(annotations=cordon).fenced == frozenset()
    stamped = {**cordon, "hami.io/node-handshake": "Requesting_2026-11-22 10:00:00"}
    assert state(annotations=stamped).fenced == {GPU_A}
    assert state(annotations=cordon).closing == {GPU_A}, "it is written all the same"


def test_a_gpu_that_somebody_else_had_closed_before_counts_as_closed() -> None:
    annotations = {
        "hami.io/device-cordon": f"{GPU_A},{GPU_B}",
        "poolmgr.io/fenced": f"{GPU_A}*,{GPU_B}",
        "hami.io/node-handshake": "Requesting_2026-11-22 10:00:00",
    }
    assert state(annotations=annotations).fenced == {GPU_A, GPU_B}


@pytest.mark.parametrize(
    ("annotation", "read"),
    [("ab12@1800000000", ("ab12", 1.8e9)), ("ab12@soon", ("ab12", 0.0)), ("", ("", 0.0))],
)
def test_for_whom_and_when_the_scheduler_was_asked(annotation: str, read: tuple[str, float]) -> None:
    found = state(annotations={"poolmgr.io/asked": annotation})
    assert (found.asked_for, found.asked_at) == read


@pytest.mark.parametrize(("label", "read"), [("1800000000", 1.8e9), ("yes", 0.0), ("", 0.0)])
def test_since_when_the_node_is_open_again(label: str, read: float) -> None:
    assert state(labels={"poolmgr.io/opened": label}).opened_at == read


def test_fence_that_someone_removed_does_not_count() -> None:
    annotations = {"poolmgr.io/fenced": GPU_A, "hami.io/node-handshake": "Requesting_2026-11-22 10:00:00"}
    assert state(annotations=annotations).fenced == frozenset()


def test_older_release_has_no_device_cordon_whatever_the_annotation_says() -> None:
    annotations = {
        "hami.io/device-cordon": GPU_A,
        "poolmgr.io/fenced": GPU_A,
        "hami.io/node-handshake": "Requesting_2026-11-22 10:00:00",
    }
    assert state((2, 8), annotations=annotations).fenced == frozenset()


def test_registration_that_cannot_be_read_still_is_one() -> None:
    (gpu,) = state(annotations={"hami.io/node-nvidia-register": "[{"}).registered
    assert gpu.uuid == UNREADABLE
    assert not gpu.healthy


def test_lock_names_its_owner_until_hami_would_drop_it() -> None:
    assert lock_owner("2026-11-22T10:00:00Z,ml,train", 1795341600.0 + 299) == "ml/train"
    assert lock_owner("2026-11-22T10:00:00Z,ml,train", 1795341600.0 + 301) == ""
    assert lock_owner("2026-11-22T10:00:00Z", 1795341600.0) == "2026-11-22T10:00:00Z"
    assert lock_owner("garbage", NOW) == "garbage"
    assert lock_owner("", NOW) == ""
