"""HAMi's device configuration (`device-config.yaml`), as far as it is read here."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]


@dataclass(frozen=True)
class NvidiaConfiguration:
    """Section `nvidia`. Memory in MiB, cores in percent of a GPU."""

    count_name: str = ""
    memory_name: str = ""
    percentage_name: str = ""
    cores_name: str = ""
    priority_name: str = ""
    overwrite_environment: bool = False
    default_memory: int = 0
    default_cores: int = 0
    default_count: int = 0
    memory_factor: int = 0
    core_policy: str = ""
    runtime_class: str = ""
    split_count: int = 0
    memory_scaling: float = 1.0
    core_scaling: float = 1.0
    log_level: str = ""
    disable_core_limit: bool = False
    mig_geometries: tuple[Json, ...] = ()
    """2.8: which sets of MIG instances a model can be cut into (`knownMigGeometries`)."""


@dataclass(frozen=True)
class Configuration:
    nvidia: NvidiaConfiguration
    other_counts: tuple[str, ...] = ()
    """The resource by which pods ask for each other vendor's devices."""


OPTIONAL_SECTIONS = frozenset({"vnpus", "iluvatars"})
"""Ascend and Iluvatar: configured always, in use only where a flag says so."""


def read(path: Path, enabled: frozenset[str] = frozenset()) -> Configuration:
    """`enabled` names the optional sections in use. Raises OSError, or ValueError for no device configuration."""
    document = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    if not isinstance(document, dict) or not any(document.values()):
        raise ValueError(f"{path}: all configurations are empty")
    return Configuration(
        _nvidia(document.get("nvidia") or {}), tuple(_other_counts(document, OPTIONAL_SECTIONS - enabled))
    )


def _nvidia(section: Json) -> NvidiaConfiguration:
    return NvidiaConfiguration(
        count_name=section.get("resourceCountName", ""),
        memory_name=section.get("resourceMemoryName", ""),
        percentage_name=section.get("resourceMemoryPercentageName", ""),
        cores_name=section.get("resourceCoreName", ""),
        priority_name=section.get("resourcePriorityName", ""),
        overwrite_environment=section.get("overwriteEnv", False) in (True, "true"),
        default_memory=int(section.get("defaultMemory", 0)),
        default_cores=int(section.get("defaultCores", 0)),
        default_count=int(section.get("defaultGPUNum", 0)),
        memory_factor=int(section.get("memoryFactor", 0)),
        core_policy=str(section.get("gpuCorePolicy", "")),
        runtime_class=section.get("runtimeClassName") or "",
        split_count=int(section.get("deviceSplitCount", 0)),
        memory_scaling=float(section.get("deviceMemoryScaling", 1)),
        core_scaling=float(section.get("deviceCoreScaling", 1)),
        log_level=str(section.get("libCudaLogLevel", "")),
        disable_core_limit=bool(section.get("disableCoreLimit", False)),
        mig_geometries=tuple(section.get("knownMigGeometries") or ()),
    )


def _other_counts(document: Json, unused: frozenset[str]) -> list[str]:
    found: list[str] = []
    for name, section in document.items():
        if name == "nvidia" or name in unused or not section:
            continue
        if name == "enflame":
            found += [
                value for key, value in section.items() if key in ("resourceNameGCU", "resourceNameDRSGCU")
            ]
            continue
        entries = section.get("configs", [section]) if isinstance(section, dict) else section
        for entry in entries:
            found += [
                entry[key]
                for key in ("resourceCountName", "resourceVCountName", "resourceName")
                if entry.get(key)
            ]
    return found


@dataclass(frozen=True)
class NodeSettings:
    """What `config.json` says of one node, over the global configuration."""

    mode: str = "hami-core"
    hidden_uuids: frozenset[str] = field(default_factory=frozenset)
    hidden_indices: frozenset[int] = field(default_factory=frozenset)
    prefers_allocation: bool = False

    @property
    def hides(self) -> bool:
        return bool(self.hidden_uuids or self.hidden_indices)


def for_node(path: Path, node: str, config: NvidiaConfiguration) -> tuple[NvidiaConfiguration, NodeSettings]:
    """The node's own entry laid over `config`. Raises OSError and ValueError as `read` does."""
    settings = NodeSettings()
    for entry in json.loads(path.read_text()).get("nodeconfig") or []:
        if entry.get("name") != node:
            continue
        given: Json = {
            name: kind(entry[key])
            for key, name, kind in (
                ("devicesplitcount", "split_count", int),
                ("devicememoryscaling", "memory_scaling", float),
                ("devicecorescaling", "core_scaling", float),
                ("libcudaloglevel", "log_level", str),
            )
            if entry.get(key)
        }
        config = replace(config, **given)
        hidden = entry.get("filterdevices") or {}
        settings = NodeSettings(
            mode=entry.get("operatingmode") or settings.mode,
            hidden_uuids=frozenset(hidden.get("uuid") or ()),
            hidden_indices=frozenset(hidden.get("index") or ()),
            prefers_allocation=bool(entry.get("enablegetpreferredallocation")),
        )
    return config, settings
