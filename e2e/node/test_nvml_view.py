"""What NVML is told of the node's GPUs."""

import yaml

from e2e.node.guest.nvml_view import gpu_uuid, render

PROFILE = "version: '1.0'\ndevice_defaults:\n  name: NVIDIA L40S\ndevices:\n  - index: 0\n    uuid: GPU-of-the-profile\n"
NODE = ["0000:00:10.0", "0000:00:11.0"]


def test_a_gpu_keeps_uuid_and_minor_number_when_its_neighbour_leaves() -> None:
    both = yaml.safe_load(render(PROFILE, NODE, NODE))["devices"]
    (left,) = yaml.safe_load(render(PROFILE, NODE, NODE[1:]))["devices"]
    assert [device["pci"]["bus_id"] for device in both] == NODE
    assert left == both[1] | {"index": 0}, "only the index moves up, as with a real driver"
    assert both[0]["uuid"] == gpu_uuid(NODE[0]) != both[1]["uuid"]


def test_without_gpus_there_is_an_empty_list_and_the_profile_stays() -> None:
    told = yaml.safe_load(render(PROFILE, NODE, []))
    assert told["devices"] == []
    assert told["device_defaults"]["name"] == "NVIDIA L40S"
