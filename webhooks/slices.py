"""What a pod asks of HAMi: resources of its containers and HAMi's annotations, read as HAMi reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from poolmgr.domain.charge import accepts_one_of
from poolmgr.domain.demand import CardAsk, accepts_model
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.wire.decoding import without_nulls
from poolmgr.wire.hami.asks import Ask, asks_of
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.hami.names import NOUSE_TYPE, NOUSE_UUID, USE_TYPE, USE_UUID
from poolmgr.wire.kube_pod import AskingSpec
from poolmgr.wire.pod_requests import effective_request
from poolmgr.wire.text import listed
from webhooks.kinds import PoolKind


@dataclass(frozen=True, slots=True)
class Asked:
    """What a pod asks for."""

    slices: tuple[tuple[str, Ask], ...]
    """(container, slices) of all containers that ask for any."""
    cards: Sequence[CardAsk]
    """The same as it counts."""
    extended: Mapping[str, int]
    """Of the whole pod, by resource; left out where it asks for no slice and nobody asked."""


def asked_by(pod: Mapping[str, Any], config: HamiConfig, *, extended: bool = False) -> Asked:
    """Read and counted as the manager does; `extended` resources of any pod on request, as most pods of a cluster ask for
    nothing that is looked at. Raises ValueError for what is no pod, and for text that is no quantity."""
    spec = pod.get("spec") or {}
    given = {name: spec[name] for name in AskingSpec.__struct_encode_fields__ if spec.get(name)}
    try:
        asking = msgspec.convert(given, AskingSpec)
    except msgspec.ValidationError:
        asking = msgspec.convert(without_nulls(given), AskingSpec)
    asks = asks_of(asking, config)
    return Asked(
        tuple((name, ask) for name, ask, _ in asks),
        tuple(ask.as_card_ask(init=init) for _, ask, init in asks),
        effective_request(asking).others if asks or extended else {},
    )


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

    def admit_kind(self, kind: PoolKind) -> bool:
        """See `accepts_one_of`."""
        return accepts_one_of(
            kind.model,
            kind.uuids,
            models=self.models,
            excluded_models=self.excluded_models,
            allowed_uuids=self.uuids,
            excluded_uuids=self.excluded_uuids,
        )


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
