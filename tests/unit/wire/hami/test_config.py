"""HAMi's device configuration."""

import pytest

from poolmgr.wire.hami.config import LONGEST, HamiConfig, parse_device_config

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


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nnvidia: [*a, *a]",
        "[" * 5_000,
        "nvidia: {memoryFactor: " + "9" * 5_000 + "}",
        "nvidia: {}\n#" + "x" * LONGEST,
    ],
)
def test_text_made_to_cost_much_is_refused_and_costs_little(text: str) -> None:
    with pytest.raises(ValueError, match="HAMi's device configuration"):
        parse_device_config(text)


@pytest.mark.parametrize(
    "value", ["[1]", "{a: 1}", "-5", "1e400", "true", "''", "null", "99999999999999999999"]
)
def test_value_of_no_use_takes_the_charts_default(value: str) -> None:
    keys = ("memoryFactor", "defaultMemory", "defaultCores", "defaultGPUNum")
    text = "nvidia: {" + ", ".join(f"{key}: {value}" for key in keys) + "}"
    assert parse_device_config(text) == HamiConfig()
    assert parse_device_config("nvidia: {resourceCountName: [a]}") == HamiConfig()
