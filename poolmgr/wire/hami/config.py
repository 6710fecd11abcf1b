"""HAMi's device configuration: what the resources are called here, and their defaults."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from poolmgr.wire.quantities import Quantity
from poolmgr.wire.text import LONGEST_NUMBER


@dataclass(frozen=True, slots=True)
class HamiConfig:
    """The `nvidia` section of `device-config.yaml`; the defaults are the chart's."""

    count: str = "nvidia.com/gpu"
    memory: str = "nvidia.com/gpumem"
    memory_percent: str = "nvidia.com/gpumem-percentage"
    cores: str = "nvidia.com/gpucores"
    memory_factor: int = 1
    """MiB that one unit of `memory` stands for."""
    default_memory: int = 0
    """Units of `memory` given where none was asked for; 0 means the whole card."""
    default_cores: int = 0
    default_count: int = 1
    """Cards given where only memory or cores were asked for."""
    memory_scaling: float = 1.0
    """HAMi offers so many times the card's memory (`deviceMemoryScaling`)."""
    minor_hint: tuple[int, int] | None = field(default=None, compare=False)
    """What the shape of the file tells about HAMi's release, where it tells anything."""

    @property
    def names(self) -> tuple[str, ...]:
        """The resources by which a container asks for a slice."""
        return self.count, self.memory, self.memory_percent, self.cores

    def asks(self, requests: Mapping[str, Quantity]) -> bool:
        """True when a container with these requests or limits wants a slice."""
        return (
            self.count in requests
            or self.memory in requests
            or self.memory_percent in requests
            or self.cores in requests
        )


LONGEST = 64 * 1024
"""Characters; the chart's own file has 8 KiB. A ConfigMap may have a million."""
MOST_NODES = 10_000
"""Values, keys and lists; the chart's own file has some hundred. Each takes its time: this loader is Python's own."""
DEEPEST = 32


class _Loader(yaml.SafeLoader):
    """Without aliases: ten lines of them can stand for more than fits into memory."""

    nodes = depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases (*name), which poolmgr does not accept")
        self.nodes += 1
        self.depth += 1
        if self.nodes > MOST_NODES or self.depth > DEEPEST:
            raise yaml.YAMLError(f"it has more than {MOST_NODES} values, or more than {DEEPEST} levels")
        found = super().compose_node(parent, index)
        self.depth -= 1
        return found


def parse_device_config(text: str) -> HamiConfig:
    """From the ConfigMap's text. Keys that are missing or of no use take the chart's defaults; raises ValueError for
    what is no YAML map of a bounded size."""
    if len(text) > LONGEST:
        raise ValueError(f"HAMi's device configuration has {len(text)} characters, over {LONGEST}")
    try:
        document = yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"HAMi's device configuration is not YAML: {str(error)[:300]}") from error
    if not isinstance(document, dict):
        raise ValueError("HAMi's device configuration is not a YAML map")
    section = document.get("nvidia")
    nvidia: dict[str, Any] = section if isinstance(section, dict) else {}
    default = HamiConfig()
    return HamiConfig(
        count=_name(nvidia.get("resourceCountName"), default.count),
        memory=_name(nvidia.get("resourceMemoryName"), default.memory),
        memory_percent=_name(nvidia.get("resourceMemoryPercentageName"), default.memory_percent),
        cores=_name(nvidia.get("resourceCoreName"), default.cores),
        memory_factor=max(1, _whole(nvidia.get("memoryFactor"), 1)),
        default_memory=_whole(nvidia.get("defaultMemory"), 0),
        default_cores=_whole(nvidia.get("defaultCores"), 0),
        default_count=_whole(nvidia.get("defaultGPUNum"), 0) or 1,
        minor_hint=_minor_hint(nvidia),
    )


def _name(value: object, default: str) -> str:
    return value if isinstance(value, str) and value else default


def _whole(value: object, default: int) -> int:
    """YAML's numbers are of any length, and `true` is one, too."""
    return value if type(value) is int and 0 <= value < 10**LONGEST_NUMBER else default


def _minor_hint(nvidia: dict[str, Any]) -> tuple[int, int] | None:
    # 2.10 renamed the MIG geometry table, and both names are always rendered by the charts.
    if "migProfileAllowlist" in nvidia:
        return (2, 10)
    if "knownMigGeometries" in nvidia:
        return (2, 8)
    return None
