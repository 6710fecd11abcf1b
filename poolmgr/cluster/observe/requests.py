"""What a pod asks the scheduler for."""

from collections.abc import Callable

from poolmgr.wire.core import PodSpec, Quantities
from poolmgr.wire.quantities import mebibytes, milli


def effective_request(spec: PodSpec) -> tuple[int, int]:
    """(CPU in thousandths, memory in MiB) as the scheduler counts: the larger of what runs together and what
    any init container needs while it runs, plus overhead."""
    return _total(spec, "cpu", milli), _total(spec, "memory", mebibytes)


def _total(spec: PodSpec, name: str, parse: Callable[[str | int], int]) -> int:
    together = sum(_amount(c.resources.requests, name, parse) for c in spec.containers)
    peak = 0
    for container in spec.init_containers:
        amount = _amount(container.resources.requests, name, parse)
        if container.restart_policy == "Always":  # a sidecar: stays beside all that start after it
            together += amount
        else:
            peak = max(peak, amount)
    return max(together, peak) + _amount(spec.overhead, name, parse)


def _amount(quantities: Quantities, name: str, parse: Callable[[str | int], int]) -> int:
    value = quantities.get(name)
    return parse(value) if value is not None else 0
