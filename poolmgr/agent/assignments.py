"""Whom the kubelet gave which GPU, by whatever device plugin or DRA driver; and what it gave that may be any of them. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from poolmgr.agent.observed import Doubt
from poolmgr.agent.podresources import KubeletView, PodName
from poolmgr.domain.identifiers import PciAddress

CLAIM_DRIVERS_WITHOUT_GPUS = ("compute-domain.nvidia.com", "dra.cpu", "dra.net")
"""DRA drivers that give no GPU: NVIDIA's memory channels between nodes, the CPU driver and DRANET of Kubernetes SIGs."""
_REPLICA = re.compile(r"::\d+$")
_COUNTER = re.compile(r"-\d+$")
_PCI_ADDRESS = re.compile(r"(?:0000)?([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])")
_MIG_OF_OLD = re.compile(r"MIG-(GPU-[^/]+)/\d+/\d+")
_GPU_RESOURCE = re.compile(r"([^/]+)/(?:gpu|mig-|vgpu)")
"""Resources by which GPUs are given away."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the node's GPUs are known by."""

    uuids: Mapping[str, PciAddress]
    mig: Mapping[str, PciAddress] = field(default_factory=dict)
    """UUID of a MIG device → the GPU that it is on."""
    addresses: frozenset[PciAddress] = frozenset()
    domains: frozenset[str] = frozenset()
    """Of their vendors' resources, e.g. `nvidia.com`."""

    def of(self, address: PciAddress) -> tuple[str, ...]:
        """All UUIDs of a GPU: one that it had before may still stand in an annotation."""
        return tuple(uuid for uuid, owner in self.uuids.items() if owner == address)


@dataclass(frozen=True, slots=True)
class Assignments:
    pods: dict[PciAddress, tuple[PodName, ...]] = field(default_factory=dict)
    any_gpu: tuple[Doubt, ...] = ()
    """About every GPU of the node."""
    shared_gpus: tuple[Doubt, ...] = ()
    """About those that are on their host drivers."""
    of_hami: frozenset[PodName] = frozenset()
    """Pods with a slice, of which only HAMi's annotation says where it is."""


def assign(
    kubelet: KubeletView,
    names: Names,
    *,
    slices: Mapping[str, Iterable[str]] | None = None,
    claimers: frozenset[PodName] | None = None,
    claim_drivers_without_gpus: Iterable[str] = CLAIM_DRIVERS_WITHOUT_GPUS,
) -> Assignments:
    """`slices` (pods by the UUID of the GPU that HAMi put them on) and `claimers` (pods that use ResourceClaims) are what
    the API server says; None where it was not asked."""
    pods: dict[PciAddress, dict[PodName, None]] = {}
    shared: list[Doubt] = []
    of_hami: set[PodName] = set()
    placed = None if slices is None else {pod for there in slices.values() for pod in there}
    for (_, address), pod in kubelet.given.items():
        pods.setdefault(address, {})[pod] = None
    for pod, resource, device in kubelet.given_by_others:
        found = _gpu_of(device, names)
        if found is not None:
            pods.setdefault(found, {})[pod] = None
        elif _COUNTER.sub("", device) in names.uuids:
            # HAMi's ids are counters: which GPU it chose stands in its annotation alone.
            of_hami.add(pod)
            if placed is not None and str(pod) not in placed:
                shared.append(_nameless(pod, resource, device, "HAMi's annotation does not place the pod"))
        elif device.startswith(("GPU-", "MIG-")) or _may_be_one(resource, device, names):
            shared.append(_nameless(pod, resource, device, "no GPU of this node has that name"))
    for uuid in (slices or {}).keys() - names.uuids.keys():
        whose = min(slices[uuid], default="") if slices else ""
        shared.append(
            Doubt(
                f"HAMi has put pod {whose} on {uuid or 'a GPU without a UUID'}, but no GPU of this node has that UUID",
                "check that NVML works on the node",
            )
        )
    harmless = frozenset(claim_drivers_without_gpus)
    claims = [
        Doubt(
            f"pod {pod} has a device of {driver or 'a DRA driver'} through a ResourceClaim, and nothing says which GPU that is, if any",
            "delete the pod, or, if the driver never gives a GPU, add it to agent.claimDriversWithoutGPUs",
        )
        for pod, driver in kubelet.claims
        if driver not in harmless
    ]
    unseen = (claimers or frozenset()) - {pod for pod, _ in kubelet.claims}
    claims += [
        Doubt(
            f"pod {pod} uses a ResourceClaim that the kubelet does not report",
            "enable the kubelet's feature gate KubeletPodResourcesDynamicResources, or delete the pod",
        )
        for pod in sorted(unseen, key=str)
    ]
    placements = {address: tuple(there) for address, there in pods.items()}
    return Assignments(placements, tuple(claims), tuple(shared), frozenset(of_hami))


def _gpu_of(device: str, names: Names) -> PciAddress | None:
    """The GPU that another plugin's device id names: `GPU-<uuid>`, `MIG-<uuid>`, with `::<n>` where it is time-sliced, or a
    PCI address."""
    name = _REPLICA.sub("", device)
    if name in names.uuids:
        return names.uuids[name]
    if name in names.mig:
        return names.mig[name]
    of_old = _MIG_OF_OLD.fullmatch(name)
    if of_old is not None:
        return names.uuids.get(of_old[1])
    address = _PCI_ADDRESS.fullmatch(name.lower())
    return PciAddress(address[1]) if address is not None and address[1] in names.addresses else None


def _may_be_one(resource: str, device: str, names: Names) -> bool:
    """For a device of a name that nobody here knows; another card's PCI address is none of them."""
    kind = _GPU_RESOURCE.match(resource)
    return kind is not None and kind[1] in names.domains and not _PCI_ADDRESS.fullmatch(device.lower())


def _nameless(pod: PodName, resource: str, device: str, why: str) -> Doubt:
    return Doubt(
        f"the kubelet gave pod {pod} the device {device} of {resource}, but {why}",
        "delete the pod, or keep such pods off this node",
    )
