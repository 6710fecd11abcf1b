"""The onlooker tells what changed, and would notice a GPU that is offered twice or lost."""

import json
from typing import Any

from e2e.controlplane.hami import REGISTER_ANNOTATION, registered
from e2e.story.scene import Scene, changes, scene, violations

WHOLE = "emulated.poolmgr.io/BOCHS_DISPLAY"


def _gpu_node(*devices: dict[str, Any], transition: dict[str, Any] | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = {"devices": []}
    if transition:
        spec["transition"] = transition
    return {"metadata": {"name": "n1"}, "spec": spec, "status": {"devices": list(devices)}}


def _device(address: str, **fields: Any) -> dict[str, Any]:
    shown = {"pciAddress": address, "uuid": f"GPU-{address[8:10]}", "driver": "bochs-drm", "mode": "Shared"}
    return shown | {"phase": "Ready", "advertised": False} | fields


def _node(uuids: list[str], **allocatable: str) -> dict[str, Any]:
    annotations = {REGISTER_ANNOTATION: json.dumps([registered(uuid) for uuid in uuids])} if uuids else {}
    return {"metadata": {"name": "n1", "annotations": annotations}, "status": {"allocatable": allocatable}}


def _scene(node: dict[str, Any], gpu_node: dict[str, Any]) -> Scene:
    return scene([node], [gpu_node], [], [])


SHARED = _scene(
    _node(["GPU-10", "GPU-11"], **{"nvidia.com/gpu": "20"}),
    _gpu_node(_device("0000:00:10.0"), _device("0000:00:11.0")),
)
MOVED_DEVICE = _device("0000:00:10.0", driver="vfio-pci", mode="Passthrough", advertised=True)
MOVED = _scene(
    _node(["GPU-11"], **{"nvidia.com/gpu": "10", WHOLE: "1"}),
    _gpu_node(MOVED_DEVICE, _device("0000:00:11.0")),
)


def test_a_clean_move_breaks_no_rule() -> None:
    assert violations(SHARED, MOVED) == []
    assert violations(MOVED, SHARED) == []


def test_a_gpu_that_hami_still_has_while_vms_may_take_it_is_noticed() -> None:
    seen = _scene(_node(["GPU-10", "GPU-11"]), _gpu_node(MOVED_DEVICE, _device("0000:00:11.0")))
    assert violations(SHARED, seen) == [
        "0000:00:10.0 on n1 is advertised to VMs while HAMi has it registered"
    ]


def test_a_report_of_an_earlier_boot_is_not_taken_for_an_offer() -> None:
    node = _node(["GPU-10", "GPU-11"])
    node["status"]["nodeInfo"] = {"bootID": "second"}
    gpu_node = _gpu_node(MOVED_DEVICE, _device("0000:00:11.0"))
    gpu_node["status"]["bootId"] = "first"
    assert violations(SHARED, _scene(node, gpu_node)) == []
    gpu_node["status"]["bootId"] = "second"
    assert len(violations(SHARED, _scene(node, gpu_node))) == 1


def test_a_kubelet_that_offers_more_cards_than_there_are_is_noticed() -> None:
    gpu_node = _gpu_node(_device("0000:00:10.0"), _device("0000:00:11.0"))
    seen = _scene(_node(["GPU-11"], **{"nvidia.com/gpu": "20", WHOLE: "1"}), gpu_node)
    assert len(violations(SHARED, seen)) == 1
    assert "offers 3 cards" in violations(SHARED, seen)[0]


def test_a_gpu_that_vanishes_from_the_report_is_noticed() -> None:
    seen = _scene(_node(["GPU-11"]), _gpu_node(_device("0000:00:11.0")))
    assert violations(SHARED, seen) == ["0000:00:10.0 on n1 is no longer reported"]


def test_a_move_is_told_step_by_step_and_its_effect_on_the_gpu() -> None:
    transition = {"planId": "p1", "toMode": "Passthrough", "devices": ["0000:00:10.0"], "step": "Fence"}
    moving = _scene(
        _node(["GPU-10", "GPU-11"], **{"nvidia.com/gpu": "20"}),
        _gpu_node(
            _device("0000:00:10.0"),
            _device("0000:00:11.0"),
            transition=transition | {"message": "VM jane waits"},
        ),
    )
    assert changes(SHARED, moving) == [("manager", "0000:00:10.0 to Passthrough: Fence. VM jane waits")]
    assert ("agent", "0000:00:10.0: driver bochs-drm → vfio-pci") in changes(moving, MOVED)
    assert ("agent", "0000:00:10.0: offered to VMs") in changes(moving, MOVED)
    assert ("manager", "the move on n1 has ended") in changes(moving, MOVED)
    assert ("hami", "registered on n1: GPU-11") in changes(moving, MOVED)
    assert changes(MOVED, MOVED) == []
