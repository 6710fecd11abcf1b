"""HAMi's device configuration: what the resources are called here, and their defaults."""

from dataclasses import dataclass, field
from typing import Any

import yaml


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
    minor_hint: tuple[int, int] | None = field(default=None, compare=False)
    """What the shape of the file tells about HAMi's release, where it tells anything."""

    def asks(self, requests: dict[str, str | int]) -> bool:
        """True when a container with these requests or limits wants a slice."""
        return (
            self.count in requests
            or self.memory in requests
            or self.memory_percent in requests
            or self.cores in requests
        )


def parse_device_config(text: str) -> HamiConfig:
    """From the ConfigMap's text. Missing keys take the chart's defaults; raises ValueError on no YAML map."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"HAMi's device configuration is no YAML: {error}") from error
    if not isinstance(document, dict):
        raise ValueError("HAMi's device configuration is no YAML map")
    section = document.get("nvidia")
    nvidia: dict[str, Any] = section if isinstance(section, dict) else {}
    default = HamiConfig()
    return HamiConfig(
        count=str(nvidia.get("resourceCountName") or default.count),
        memory=str(nvidia.get("resourceMemoryName") or default.memory),
        memory_percent=str(nvidia.get("resourceMemoryPercentageName") or default.memory_percent),
        cores=str(nvidia.get("resourceCoreName") or default.cores),
        memory_factor=max(1, int(nvidia.get("memoryFactor") or 1)),
        default_memory=int(nvidia.get("defaultMemory") or 0),
        default_cores=int(nvidia.get("defaultCores") or 0),
        default_count=int(nvidia.get("defaultGPUNum") or 1),
        minor_hint=_minor_hint(nvidia),
    )


def _minor_hint(nvidia: dict[str, Any]) -> tuple[int, int] | None:
    # 2.10 renamed the MIG geometry table, and both names are always rendered by the charts.
    if "migProfileAllowlist" in nvidia:
        return (2, 10)
    if "knownMigGeometries" in nvidia:
        return (2, 8)
    return None
