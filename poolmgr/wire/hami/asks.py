"""What a container asks of HAMi by its resources."""

from collections.abc import Mapping
from dataclasses import dataclass

from poolmgr.domain.demand import FULL_CORES, CardAsk
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.kube_pod import AskingSpec
from poolmgr.wire.pod_requests import is_sidecar
from poolmgr.wire.quantities import Quantity, count


@dataclass(frozen=True, slots=True)
class Ask:
    """One container's slices. HAMi places containers one by one; two of a pod may share a card."""

    cards: int
    """Distinct GPUs."""
    memory_mib: int
    """Per card; 0 where not given."""
    memory_percent: int
    """Per card, where asked as a percentage instead."""
    cores_percent: int
    """Per card; 0 where not given."""

    def as_card_ask(self, *, init: bool) -> CardAsk:
        """As it counts; `init` for a container that ends before others start."""
        cores = min(self.cores_percent, FULL_CORES)
        return CardAsk(self.cards, self.memory_mib, self.memory_percent, cores, init)


def ask_of(
    requests: Mapping[str, Quantity], limits: Mapping[str, Quantity], config: HamiConfig
) -> Ask | None:
    """None for a container that asks for no slice. Raises ValueError for text that is no quantity.

    Extended resources must have equal requests and limits; HAMi reads limits first.
    """
    if not (config.asks(requests) or config.asks(limits)):
        return None
    asked = {**requests, **limits}
    cards = count(asked[config.count]) if config.count in asked else config.default_count
    if cards <= 0:
        return None
    percent = count(asked.get(config.memory_percent, 0))
    memory = count(asked.get(config.memory, 0)) or (0 if percent else config.default_memory)
    cores = count(asked[config.cores]) if config.cores in asked else config.default_cores
    return Ask(cards, memory * config.memory_factor, percent, cores)


def asks_of(spec: AskingSpec, config: HamiConfig) -> list[tuple[str, Ask, bool]]:
    """(container, what it asks for, whether it ends before the others start) of those that ask for slices; init containers
    first. Raises ValueError as `ask_of`."""
    found = []
    for containers, first in ((spec.init_containers, True), (spec.containers, False)):
        for container in containers:
            ask = ask_of(container.resources.requests, container.resources.limits, config)
            if ask is not None:
                found.append((container.name, ask, first and not is_sidecar(container)))
    return found
