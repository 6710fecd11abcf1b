"""What a pod asks the scheduler for."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from poolmgr.domain.placement import HostPort
from poolmgr.wire.kube_pod import AskingSpec, Container, PodSpec, Resources
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


def effective_request(spec: AskingSpec) -> Request:
    """The larger of what runs together and what any init container needs while it runs beside the sidecars that
    were started before it; plus overhead. Requests of the pod as a whole go before those of its containers. A limit
    without a request is one, as the API server writes it out. Raises ValueError for text that is no quantity.

    O(requests): a pod may have thousands of containers, each with a resource of its own.
    """
    together, sidecars, peak = Counter[str](), Counter[str](), Counter[str]()
    for container in spec.containers:
        together.update(_amounts(_requested(container.resources)))
    for container in spec.init_containers:
        asked = _amounts(_requested(container.resources))
        if is_sidecar(container):  # it stays beside all that start after it
            sidecars.update(asked)
            asked = dict.fromkeys(asked, 0)
        for name, amount in asked.items():
            peak[name] = max(peak[name], sidecars[name] + amount)
    together.update(sidecars)
    total = together | peak  # of each the larger
    for name, amount in _amounts(spec.resources.requests).items():
        if name in NATIVE:
            total[name] = amount
    total.update(_amounts(spec.overhead))
    others = {name: amount for name, amount in total.items() if amount > 0 and name not in NATIVE}
    return Request(total["cpu"], -(-total["memory"] // MIB), others)


def host_ports(spec: PodSpec) -> tuple[HostPort, ...]:
    """Ports of the node that its containers take; the API server writes those of the host network out."""
    return tuple(
        HostPort(port.host_port, port.protocol or "TCP", port.host_ip)
        for container in (*spec.containers, *filter(is_sidecar, spec.init_containers))
        for port in container.ports
        if port.host_port
    )


def is_sidecar(container: Container) -> bool:
    """True for an init container that runs beside the others instead of ending before they start."""
    return container.restart_policy == "Always"


def _requested(resources: Resources) -> Quantities:
    limits, requests = resources.limits, resources.requests
    return requests if limits.keys() <= requests.keys() else {**limits, **requests}


def _amounts(quantities: Quantities) -> dict[str, int]:
    """CPU in thousandths, all else in whole units."""
    return {name: milli(value) if name == "cpu" else count(value) for name, value in quantities.items()}
