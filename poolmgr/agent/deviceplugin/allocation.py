"""What a container gets with a device, and which devices to prefer. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from poolmgr.domain.identifiers import PciAddress


@dataclass(frozen=True, slots=True)
class Offer:
    """A GPU that is verified on vfio-pci and meant for virtual machines."""

    address: PciAddress
    resource_name: str
    iommu_group: int
    numa_node: int | None = None
    closed: bool = False
    """Somebody may have it, and nobody new gets it: the kubelet is told that it is unhealthy, counts it no more and leaves
    its user alone."""


@dataclass(frozen=True, slots=True)
class ContainerGrant:
    """Environment and device files for one container."""

    environment: dict[str, str]
    device_files: tuple[str, ...]


def environment_name(resource_name: str) -> str:
    """KubeVirt's rule (util.ResourceNameToEnvVar): upper case, `/` and `.` become `_`, `-` stays."""
    return "PCI_RESOURCE_" + resource_name.upper().replace("/", "_").replace(".", "_")


def grant(resource_name: str, offers: Sequence[Offer]) -> ContainerGrant:
    """virt-launcher's whole contract: addresses in the environment, the group files beside /dev/vfio/vfio."""
    groups = sorted({offer.iommu_group for offer in offers})
    return ContainerGrant(
        environment={environment_name(resource_name): ",".join(offer.address for offer in offers)},
        device_files=("/dev/vfio/vfio", *(f"/dev/vfio/{group}" for group in groups)),
    )


def prefer(
    available: Iterable[str], must_include: Iterable[str], size: int, numa: Mapping[str, int | None]
) -> tuple[str, ...]:
    """`size` devices on as few NUMA nodes as can be: those that must be in, more of their nodes, then the
    node that fits the rest most tightly, then the fullest. Ties go to the lower node and address."""
    chosen = list(dict.fromkeys(must_include))
    rest = sorted(set(available) - set(chosen))
    while len(chosen) < size and rest:
        used = {numa.get(device) for device in chosen}
        left: dict[int | None, int] = {}
        for device in rest:
            left[numa.get(device)] = left.get(numa.get(device), 0) + 1
        costs = {d: _cost(numa.get(d), used, left, size - len(chosen)) for d in rest}
        best = min(rest, key=lambda device: (costs[device], device))
        chosen.append(best)
        rest.remove(best)
    return tuple(chosen[:size])


def _cost(
    node: int | None, used: set[int | None], left: Mapping[int | None, int], missing: int
) -> tuple[bool, bool, int, int]:
    suffices = left[node] >= missing
    return (
        node not in used,
        not suffices,
        left[node] if suffices else -left[node],
        -1 if node is None else node,
    )
