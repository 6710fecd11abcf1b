"""Data files of accelerators and the names they give."""

from pathlib import Path

import pytest

from poolmgr.agent.accelerators import built_in, load_catalogue
from poolmgr.domain.errors import Rejected


def test_every_built_in_file_loads() -> None:
    assert set(built_in()) >= {"nvidia", "emulated"}
    load_catalogue(built_in())


@pytest.mark.parametrize(
    ("device_id", "resource"),
    [
        ("2236", "nvidia.com/GA102GL_A10"),
        ("1eb8", "nvidia.com/TU104GL_TESLA_T4"),
        ("20b0", "nvidia.com/GA100_A100_SXM4_40GB"),
        ("1e30", "nvidia.com/TU102GL_QUADRO_RTX_6000_8000"),
        ("25b6", "nvidia.com/GA107GL_A2___A16"),  # each of " / " becomes one
        ("20f3", "nvidia.com/GA100_A800SXM480GB"),  # hyphens are dropped
        ("2342", "nvidia.com/GH100_GH200_120GB___480GB"),
        ("2571", "nvidia.com/GA106_RTX_A2000_12GB"),
        ("2704", "nvidia.com/AD103_GEFORCE_RTX_4080"),
        ("ffff", "nvidia.com/FFFF"),
    ],
)
def test_resource_names_are_those_of_existing_permit_lists(device_id: str, resource: str) -> None:
    assert load_catalogue(["nvidia"]).vendors[0].resource_name(device_id) == resource


def test_no_two_products_of_different_memory_share_a_resource() -> None:
    vendor = load_catalogue(["nvidia"]).vendors[0]
    memory: dict[str, int] = {}
    for device_id, product in vendor.devices.items():
        assert memory.setdefault(vendor.resource_name(device_id), product.memory_mib) == product.memory_mib


def test_emulated_devices_are_seen_only_when_asked_for() -> None:
    assert load_catalogue(["nvidia"]).match("1234", "0380") is None
    assert load_catalogue(["nvidia", "emulated"]).match("1234", "0380") is not None


def test_audio_and_nvswitch_of_the_vendor_are_no_gpus() -> None:
    catalogue = load_catalogue(["nvidia"])
    assert catalogue.match("10de", "0403") is None
    assert catalogue.match("10de", "0680") is None
    assert catalogue.is_nvswitch("10de", "0680")


def test_a_site_may_bring_its_own_file(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(
        "vendorId: '1002'\nvendorName: AMD\nclasses: ['0380']\nhostDrivers: [amdgpu]\n"
        "resourcePrefix: amd.com\ndevices: {}\n"
    )
    assert load_catalogue([str(file)]).match("1002", "0380") is not None


def test_a_wrong_file_is_named_with_its_mistake(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("vendorId: '1002'\nclases: ['0380']\n")
    with pytest.raises(Rejected, match=r"wrong.yaml.*clases"):
        load_catalogue([str(file)])
    with pytest.raises(Rejected, match=r"'intel'.*built-in ones are emulated, nvidia"):
        load_catalogue(["intel"])
