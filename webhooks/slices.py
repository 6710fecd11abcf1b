"""What a pod asks of HAMi: resources of its containers and HAMi's annotations, read as HAMi reads them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from poolmgr.domain.demand import CardAsk, accepts_model
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.wire.hami.asks import Ask, ask_of
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.hami.names import NOUSE_TYPE, NOUSE_UUID, USE_TYPE, USE_UUID
from poolmgr.wire.quantities import count
from poolmgr.wire.text import listed


def slice_requests(pod: Mapping[str, Any], config: HamiConfig) -> tuple[tuple[str, Ask], ...]:
    """(container, what it asks for) of all containers that ask for slices. Raises ValueError for text that is no
    quantity."""
    spec = pod.get("spec") or {}
    return tuple(_requests((spec.get("initContainers") or []) + (spec.get("containers") or []), config))


def extended_requests(pod: Mapping[str, Any]) -> Counter[str]:
    """How much the pod's containers ask for of each resource, beside CPU, memory and the like. Raises ValueError as above."""
    spec = pod.get("spec") or {}
    asked: Counter[str] = Counter()
    for container in (spec.get("initContainers") or []) + (spec.get("containers") or []):
        given = container.get("resources") or {}
        for name, amount in {**(given.get("requests") or {}), **(given.get("limits") or {})}.items():
            if "/" in name:
                asked[name] += count(amount)
    return asked


def card_asks(pod: Mapping[str, Any], config: HamiConfig) -> tuple[CardAsk, ...]:
    """The same as the planner counts it. Raises ValueError as above."""
    spec = pod.get("spec") or {}
    init = spec.get("initContainers") or []
    ending = [container for container in init if container.get("restartPolicy") != "Always"]
    beside = [container for container in init if container.get("restartPolicy") == "Always"]
    beside += spec.get("containers") or []
    asks = [ask.as_card_ask(init=True) for _, ask in _requests(ending, config)]
    return (*asks, *(ask.as_card_ask(init=False) for _, ask in _requests(beside, config)))


def _requests(containers: list[Mapping[str, Any]], config: HamiConfig) -> Iterator[tuple[str, Ask]]:
    for container in containers:
        given = container.get("resources") or {}
        ask = ask_of(given.get("requests") or {}, given.get("limits") or {}, config)
        if ask is not None:
            yield container.get("name", ""), ask


@dataclass(frozen=True, slots=True)
class Constraints:
    """The cards a pod accepts, by its annotations."""

    models: tuple[str, ...]
    excluded_models: tuple[str, ...]
    uuids: tuple[GpuUuid, ...]
    excluded_uuids: tuple[GpuUuid, ...]

    def admit_model(self, model: str) -> bool:
        """See `accepts_model`."""
        return accepts_model(model, self.models, self.excluded_models)


_ANYTHING = Constraints((), (), (), ())
CONSTRAINING = frozenset((USE_TYPE, NOUSE_TYPE, USE_UUID, NOUSE_UUID))


def constraints_of(annotations: Mapping[str, str]) -> Constraints:
    if CONSTRAINING.isdisjoint(annotations):
        return _ANYTHING
    return Constraints(
        models=listed(annotations.get(USE_TYPE)),
        excluded_models=listed(annotations.get(NOUSE_TYPE)),
        uuids=tuple(GpuUuid(uuid) for uuid in listed(annotations.get(USE_UUID))),
        excluded_uuids=tuple(GpuUuid(uuid) for uuid in listed(annotations.get(NOUSE_UUID))),
    )
