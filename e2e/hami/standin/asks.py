"""What a pod's containers ask of NVIDIA GPUs, by the configured resource names."""

from dataclasses import dataclass
from typing import Any

from e2e.hami.standin.configuration import NvidiaConfiguration
from e2e.hami.standin.quantity import whole
from e2e.hami.standin.release import Release

Json = dict[str, Any]
UNSET_PERCENT = 101
"""HAMi's own mark for "no percentage was asked for"."""
_LARGEST_INT32 = 2**31 - 1


@dataclass(frozen=True)
class Ask:
    """`count` GPUs, of each `memory` MiB or `percent` of its memory, and `cores` percent of its compute."""

    count: int
    memory: int
    percent: int
    cores: int

    def memory_on(self, total: int) -> int:
        """MiB on a GPU that has `total`."""
        if self.percent != UNSET_PERCENT and not self.memory:
            return total * self.percent // 100
        return self.memory


def ask_of(container: Json, config: NvidiaConfiguration, release: Release) -> Ask | None:
    """None where no GPU is asked for, or a number that cannot be taken."""
    resources = container.get("resources") or {}

    def amount(name: str) -> int | None:
        for part in ("limits", "requests"):
            if name and name in (resources.get(part) or {}):
                return whole(resources[part][name])
        return None

    count = amount(config.count_name)
    if count is None or count <= 0:
        return None
    factor = max(config.memory_factor, 1)
    memory = amount(config.memory_name) or 0
    if release.checks_percentage and not 0 <= memory <= _LARGEST_INT32 // factor:
        return None
    memory *= factor
    percent = amount(config.percentage_name)
    if percent is None:
        percent = UNSET_PERCENT
    elif release.checks_percentage:
        percent = min(percent, 100) if percent > 0 else UNSET_PERCENT
    if percent == UNSET_PERCENT and memory == 0:
        memory, percent = (config.default_memory, percent) if config.default_memory else (0, 100)
    cores = amount(config.cores_name)
    return Ask(count, memory, percent, config.default_cores if cores is None else cores)


def containers_of(pod: Json, release: Release) -> list[Json]:
    """The containers that an assignment has slots for, in its order."""
    spec = pod["spec"]
    first = (spec.get("initContainers") or []) if release.counts_init_containers else []
    return [*first, *spec["containers"]]


def asks_of(pod: Json, config: NvidiaConfiguration, release: Release) -> list[Ask | None]:
    """For each container of `containers_of`."""
    return [ask_of(container, config, release) for container in containers_of(pod, release)]


def app_containers_ask(pod: Json, config: NvidiaConfiguration, release: Release) -> bool:
    """Whether an ordinary container asks for a GPU: only then is the node locked for the pod's bind."""
    return any(ask_of(container, config, release) for container in pod["spec"]["containers"])
