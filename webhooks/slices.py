"""What a pod asks of HAMi: resources of its containers and HAMi's annotations, read as HAMi reads them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from poolmgr.domain.identifiers import GpuUuid
from poolmgr.wire.hami.names import NOUSE_TYPE, NOUSE_UUID, USE_TYPE, USE_UUID
from poolmgr.wire.quantities import count
from poolmgr.wire.text import listed


@dataclass(frozen=True)  # without slots, which cached_property cannot do with
class SliceResources:
    """Names of HAMi's resources in this cluster and how it counts. All of them can be changed in HAMi's
    `hami-scheduler-device` ConfigMap, so they are settings here."""

    gpus: str = "nvidia.com/gpu"
    memory: str = "nvidia.com/gpumem"
    memory_percentage: str = "nvidia.com/gpumem-percentage"
    cores: str = "nvidia.com/gpucores"
    memory_factor: int = 1
    """MiB per unit of `memory` (HAMi's `memoryFactor`)."""
    memory_scaling: float = 1.0
    """HAMi offers so many times the card's memory (`deviceMemoryScaling`)."""

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset((self.gpus, self.memory, self.memory_percentage, self.cores))


@dataclass(frozen=True, slots=True)
class SliceRequest:
    """One container's wish. HAMi places containers one by one; two of a pod may share a card."""

    container: str
    gpus: int
    """Distinct cards; 1 where only memory or cores are asked for (HAMi's default)."""
    memory_mib: int
    """Per card; 0 where not given."""
    memory_percentage: int
    cores: int


def slice_requests(pod: Mapping[str, Any], resources: SliceResources) -> tuple[SliceRequest, ...]:
    """Wishes of all containers that have one. Raises ValueError for text that is no quantity."""
    spec = pod.get("spec") or {}
    return tuple(_requests((spec.get("initContainers") or []) + (spec.get("containers") or []), resources))


def _requests(containers: list[Mapping[str, Any]], names: SliceResources) -> Iterator[SliceRequest]:
    for container in containers:
        given = container.get("resources") or {}
        asked = {**(given.get("requests") or {}), **(given.get("limits") or {})}
        if not names.names & asked.keys():
            continue
        amount = {name: count(asked.get(name, 0)) for name in names.names}
        if not any(amount.values()):
            continue
        yield SliceRequest(
            container=container.get("name", ""),
            gpus=amount[names.gpus] or 1,
            memory_mib=amount[names.memory] * names.memory_factor,
            memory_percentage=amount[names.memory_percentage],
            cores=amount[names.cores],
        )


@dataclass(frozen=True, slots=True)
class Constraints:
    """The cards a pod accepts, by its annotations."""

    models: tuple[str, ...]
    excluded_models: tuple[str, ...]
    uuids: tuple[GpuUuid, ...]
    excluded_uuids: tuple[GpuUuid, ...]

    def admit_model(self, model: str) -> bool:
        """HAMi compares parts of names without case; releases up to 2.4 put `NVIDIA-` before the product
        name, and users still write that."""
        if not self.models and not self.excluded_models:
            return True
        name = f"NVIDIA-{model}".casefold()
        return (not self.models or any(part.casefold() in name for part in self.models)) and not any(
            part.casefold() in name for part in self.excluded_models
        )


_ANYTHING = Constraints((), (), (), ())
_CONSTRAINING = frozenset((USE_TYPE, NOUSE_TYPE, USE_UUID, NOUSE_UUID))


def constraints_of(annotations: Mapping[str, str]) -> Constraints:
    if _CONSTRAINING.isdisjoint(annotations):
        return _ANYTHING
    return Constraints(
        models=listed(annotations.get(USE_TYPE)),
        excluded_models=listed(annotations.get(NOUSE_TYPE)),
        uuids=tuple(GpuUuid(uuid) for uuid in listed(annotations.get(USE_UUID))),
        excluded_uuids=tuple(GpuUuid(uuid) for uuid in listed(annotations.get(NOUSE_UUID))),
    )
