"""HAMi's device configuration."""

import pytest

from poolmgr.wire.hami.config import HamiConfig, parse_device_config

RENAMED = """
nvidia:
  resourceCountName: example.com/vgpu
  resourceMemoryName: example.com/vgpumem
  memoryFactor: 10
  defaultMemory: 500
  defaultGPUNum: 2
  migProfileAllowlist: []
cambricon: {resourceCountName: cambricon.com/vmlu}
"""


def test_names_and_defaults_come_from_the_configuration() -> None:
    config = parse_device_config(RENAMED)
    assert (config.count, config.memory, config.cores) == (
        "example.com/vgpu",
        "example.com/vgpumem",
        "nvidia.com/gpucores",
    )
    assert (config.memory_factor, config.default_memory, config.default_count) == (10, 500, 2)


def test_empty_map_gives_the_charts_names() -> None:
    assert parse_device_config("{}") == HamiConfig()


def test_mig_table_tells_the_release() -> None:
    assert parse_device_config(RENAMED).minor_hint == (2, 10)
    assert parse_device_config("nvidia: {knownMigGeometries: []}").minor_hint == (2, 8)
    assert parse_device_config("nvidia: {}").minor_hint is None


@pytest.mark.parametrize("text", ["nvidia: [", "- a", "just text"])
def test_refuses_what_is_no_configuration(text: str) -> None:
    with pytest.raises(ValueError, match="HAMi's device configuration"):
        parse_device_config(text)
