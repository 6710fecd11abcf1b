"""What a pod asks the scheduler for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from poolmgr.domain.placement import HostPort
from poolmgr.wire.kube_pod import Container, PodSpec
from poolmgr.wire.meta import Quantities
from poolmgr.wire.quantities import count, milli
from poolmgr.wire.scheduling import NATIVE

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Request:
    """One pod's, as the scheduler counts it."""

    cpu_milli: int
    memory_mib: int
    """Rounded up."""
    others: Mapping[str, int]
    """Extended resources in whole units, ephemeral storage in bytes; none that is zero."""


def effective_request(spec: PodSpec) -> Request:
    """The larger of what runs together and what any init container needs while it runs beside the sidecars that
    were started before it; plus overhead. Requests of the pod as a whole go before those of its containers."""
    names = {name for c in (*spec.containers, *spec.init_containers) for name in c.resources.requests}
    names.update(spec.overhead)
    others = {}
    for name in names - NATIVE:
        if (amount := _total(spec, name, count)) > 0:
            others[name] = amount
    return Request(_total(spec, "cpu", milli), -(-_total(spec, "memory", count) // MIB), others)


def host_ports(spec: PodSpec) -> tuple[HostPort, ...]:
    """Ports of the node that its containers take; the API server writes those of the host network out."""
    return tuple(
        HostPort(port.host_port, port.protocol or "TCP", port.host_ip)
        for container in (*spec.containers, *filter(_is_sidecar, spec.init_containers))
        for port in container.ports
        if port.host_port
    )


def _is_sidecar(container: Container) -> bool:
    return container.restart_policy == "Always"


def _total(spec: PodSpec, name: str, parse: Callable[[str | int], int]) -> int:
    overhead = _amount(spec.overhead, name, parse)
    if name in spec.resources.requests and name in NATIVE:
        return _amount(spec.resources.requests, name, parse) + overhead
    together = sum(_amount(c.resources.requests, name, parse) for c in spec.containers)
    peak = sidecars = 0
    for container in spec.init_containers:
        amount = _amount(container.resources.requests, name, parse)
        if _is_sidecar(container):  # it stays beside all that start after it
            sidecars += amount
            peak = max(peak, sidecars)
        else:
            peak = max(peak, sidecars + amount)
    return max(together + sidecars, peak) + overhead


def _amount(quantities: Quantities, name: str, parse: Callable[[str | int], int]) -> int:
    value = quantities.get(name)
    return parse(value) if value is not None else 0
