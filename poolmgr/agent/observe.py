"""One look at the node: PCI, holders, kubelet and, before anything is moved, the pods."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from poolmgr.agent.accelerators import Catalogue
from poolmgr.agent.decisions import ObservedGpu
from poolmgr.agent.holders import DeviceNumber, device_number_of, find_holders
from poolmgr.agent.inventory import Accelerator, inspect, scan
from poolmgr.agent.podresources import KubeletView, PodName
from poolmgr.agent.sysfs import Sysfs
from poolmgr.domain.fleet import Holder
from poolmgr.domain.identifiers import PciAddress

BEING_ADMITTED = "being-admitted"
"""Stands for the pod's UID while the kubelet admits it: it is not in the kubelet's list yet."""


class Kubelet(Protocol):
    async def read(self, resource_names: Iterable[str]) -> KubeletView: ...


class Plugins(Protocol):
    """The device plugin, as `deviceplugin.registry.PluginRegistry` provides it."""

    error: str

    @property
    def resource_names(self) -> frozenset[str]: ...

    async def set_offers(self, offers: Any) -> None: ...

    def recently_granted(self, address: PciAddress) -> bool: ...

    async def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods on this node, as the API server knows them."""

    uids: Mapping[PodName, str] = field(default_factory=dict)
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """GPU UUID → pods that the sharing layer placed on it."""


@dataclass(frozen=True, slots=True)
class Observation:
    gpus: dict[PciAddress, ObservedGpu]
    kubelet: KubeletView


class NodeObserver:
    """Reads, never writes."""

    def __init__(
        self,
        sysfs: Sysfs,
        catalogue: Catalogue,
        kubelet: Kubelet,
        plugins: Plugins,
        *,
        proc: Path = Path("/proc"),
        number_of: Callable[[str], DeviceNumber | None] = device_number_of,
    ) -> None:
        self._sysfs = sysfs
        self._catalogue = catalogue
        self._kubelet = kubelet
        self._plugins = plugins
        self._proc = proc
        self._number_of = number_of

    async def observe(
        self, uuids: Mapping[PciAddress, str], mig: Mapping[PciAddress, bool], pods: Pods
    ) -> Observation:
        """All GPUs as they are now. `uuids` are those known of old, `mig` says which are in MIG mode, of those that NVML
        shows."""
        gpus = scan(self._sysfs, self._catalogue, self._proc)
        holders = find_holders(gpus, self._proc, self._number_of)
        resources = {gpu.resource_name for gpu in gpus} | self._plugins.resource_names
        stuck = self._sysfs.addresses_in_flight()
        kubelet = await self._kubelet.read(resources)
        observed = {
            gpu.address: ObservedGpu(
                gpu=gpu,
                holders=holders[gpu.address],
                allocated_to=self._allocated_to(gpu, uuids.get(gpu.address, ""), kubelet, pods),
                shared_pods=pods.slices.get(uuids.get(gpu.address, ""), ()),
                listed=(gpu.resource_name, gpu.address) in kubelet.listed,
                kubelet_known=kubelet.known,
                write_in_flight=any(f.address in stuck for f in gpu.functions),
                mig_enabled=mig.get(gpu.address),
                uuid=uuids.get(gpu.address, ""),
            )
            for gpu in gpus
        }
        return Observation(observed, kubelet)

    def holders_of(self, gpu: Accelerator) -> tuple[Holder, ...]:
        """The last look before an unbind: device files are read anew, too."""
        now = inspect(self._sysfs, self._catalogue, gpu.address, self._proc)
        return find_holders([now], self._proc, self._number_of)[gpu.address] if now is not None else ()

    def _allocated_to(self, gpu: Accelerator, uuid: str, kubelet: KubeletView, pods: Pods) -> str:
        pod = kubelet.given.get((gpu.resource_name, gpu.address)) or kubelet.given_by_others.get(gpu.address)
        if pod is None and uuid:
            pod = kubelet.given_by_others.get(uuid)
        if pod is not None:
            return pods.uids.get(pod, f"{pod.namespace}/{pod.name}")
        return BEING_ADMITTED if self._plugins.recently_granted(gpu.address) else ""
