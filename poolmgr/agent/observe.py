"""One look at the node: PCI, holders, kubelet and, before anything is moved, the pods."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from poolmgr.agent.accelerators import Catalogue
from poolmgr.agent.assignments import CLAIM_DRIVERS_WITHOUT_GPUS, Names, assign
from poolmgr.agent.driverfiles import DriverFiles
from poolmgr.agent.holders import BY_KUBELET, UNKNOWN_FILES, find_holders, holders_by_nvml
from poolmgr.agent.inventory import Accelerator, inspect, nvidia_files, scan
from poolmgr.agent.nvml import NvmlReport
from poolmgr.agent.observed import Doubt, ObservedGpu
from poolmgr.agent.podresources import KubeletView, PodName
from poolmgr.agent.sysfs import Sysfs
from poolmgr.domain.fleet import Holder
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.modes import Mode

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
    slices: Mapping[str, tuple[str, ...]] | None = None
    """GPU UUID → pods that the sharing layer placed on it; None where it was not asked for."""
    claimers: frozenset[PodName] | None = None
    """Those that use ResourceClaims, likewise."""

    def of(self, names: Collection[PodName]) -> "Pods":
        """What it says of these pods alone: others may have ended since."""
        if self.slices is None or self.claimers is None:
            return self
        shown = frozenset(map(str, names))
        slices = {uuid: tuple(pod for pod in there if pod in shown) for uuid, there in self.slices.items()}
        held = {uuid: there for uuid, there in slices.items() if there}
        return Pods(self.uids, held, self.claimers.intersection(names))


@dataclass(frozen=True, slots=True)
class Observation:
    gpus: dict[PciAddress, ObservedGpu]
    kubelet: KubeletView
    pods: frozenset[PodName] = frozenset()
    """Those to which the kubelet gave one of the GPUs, or a slice of any."""


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
        claim_drivers_without_gpus: Iterable[str] = CLAIM_DRIVERS_WITHOUT_GPUS,
    ) -> None:
        self._sysfs = sysfs
        self._catalogue = catalogue
        self._kubelet = kubelet
        self._plugins = plugins
        self._proc = proc
        self._harmless = frozenset(claim_drivers_without_gpus)
        self._nvml = NvmlReport()

    async def observe(
        self, nvml: NvmlReport, uuids: Mapping[PciAddress, str], pods: Pods, *, listed_now: bool = True
    ) -> Observation:
        """All GPUs as they are now. `nvml` is its last answer, `uuids` are those known of old. Of `pods` that were listed a
        while ago only those count that the kubelet still has."""
        self._nvml = nvml
        gpus = [self._with_nvml(gpu) for gpu in scan(self._sysfs, self._catalogue, self._proc)]
        holders = find_holders(gpus, self._proc, self._sysfs.files)
        resources = {gpu.resource_name for gpu in gpus} | self._plugins.resource_names
        stuck = self._sysfs.addresses_in_flight()
        kubelet = await self._kubelet.read(resources)
        if not listed_now:
            pods = pods.of(kubelet.pods)
        names = _names(gpus, nvml, uuids)
        given = assign(
            kubelet,
            names,
            slices=pods.slices,
            claimers=pods.claimers,
            claim_drivers_without_gpus=self._harmless,
        )
        uuids_reported = Counter(uuid for gpu in gpus if (uuid := _reported_uuid(gpu, nvml)))
        observed = {}
        for gpu in gpus:
            at, uuid = gpu.address, _reported_uuid(gpu, nvml)
            shown = nvml.gpus.get(at)
            has, others = self._allocated_to(at, given.pods.get(at, ()), pods)
            observed[at] = ObservedGpu(
                gpu=gpu,
                holders=(*self._with_nvmls(at, holders[at]), *others),
                allocated_to=has,
                shared_pods=tuple(
                    sorted({pod for name in names.of(at) for pod in (pods.slices or {}).get(name, ())})
                ),
                listed=(gpu.resource_name, at) in kubelet.listed,
                kubelet_known=kubelet.known,
                write_in_flight=any(f.address in stuck for f in gpu.functions),
                mig_enabled=shown.mig_enabled if shown is not None else None,
                uuid=uuid,
                doubts=(
                    *given.any_gpu,
                    *(
                        (*given.shared_gpus, *_contradictions(gpu, nvml, uuids_reported))
                        if gpu.mode is Mode.SHARED
                        else ()
                    ),
                ),
            )
        return Observation(
            observed, kubelet, given.of_hami.union(pod for there in given.pods.values() for pod in there)
        )

    def holders_of(self, gpu: Accelerator) -> tuple[Holder, ...]:
        """The last look before an unbind: device files are read anew, too."""
        found = inspect(self._sysfs, self._catalogue, gpu.address, self._proc)
        if found is None:
            return ()
        now = self._with_nvml(found)
        if now.mode is Mode.SHARED and not now.device_files_known:
            return (Holder(0, "a process that could not be seen", path=UNKNOWN_FILES),)
        holders = find_holders([now], self._proc, self._sysfs.files)[gpu.address]
        return self._with_nvmls(gpu.address, holders)

    def _with_nvml(self, gpu: Accelerator) -> Accelerator:
        """With the device file that NVML tells of, which is there to be told where the driver's own file is hidden."""
        shown = self._nvml.gpus.get(gpu.address)
        if shown is None or shown.minor in (None, gpu.driver_minor) or gpu.mode is not Mode.SHARED:
            return gpu
        file = nvidia_files(DriverFiles(shown.minor))
        return replace(gpu, device_files=(*gpu.device_files, *file), device_files_known=True)

    def _with_nvmls(self, address: PciAddress, found: tuple[Holder, ...]) -> tuple[Holder, ...]:
        shown = self._nvml.gpus.get(address)
        known = {holder.pid for holder in found}
        pids = [pid for pid in shown.processes if pid not in known] if shown is not None else ()
        return (*found, *holders_by_nvml(pids, self._proc, self._sysfs.files))

    def _allocated_to(
        self, address: PciAddress, given: Sequence[PodName], pods: Pods
    ) -> tuple[str, tuple[Holder, ...]]:
        """The pod that has it, and further ones, as where it is time-sliced."""
        if given:
            first, *others = [pods.uids.get(pod, str(pod)) for pod in given]
            return first, tuple(Holder(0, "", uid, BY_KUBELET) for uid in others)
        return (BEING_ADMITTED if self._plugins.recently_granted(address) else ""), ()


def _reported_uuid(gpu: Accelerator, nvml: NvmlReport) -> str:
    """As it is reported now: what is known of old may be of a card that was there before."""
    shown = nvml.gpus.get(gpu.address)
    return shown.uuid if shown is not None else gpu.driver_uuid


def _names(gpus: Iterable[Accelerator], nvml: NvmlReport, uuids: Mapping[PciAddress, str]) -> Names:
    known = {uuid: address for address, uuid in uuids.items() if uuid}
    known |= {gpu.driver_uuid: gpu.address for gpu in gpus if gpu.driver_uuid}
    known |= {shown.uuid: address for address, shown in nvml.gpus.items()}
    return Names(
        known,
        {mig: address for address, shown in nvml.gpus.items() for mig in shown.mig_uuids},
        frozenset(gpu.address for gpu in gpus),
        frozenset(gpu.vendor.resource_prefix for gpu in gpus),
    )


def _contradictions(gpu: Accelerator, nvml: NvmlReport, uuids: Mapping[str, int]) -> tuple[Doubt, ...]:
    shown, found = nvml.gpus.get(gpu.address), []
    if shown is not None and gpu.driver_uuid not in ("", shown.uuid):
        what = f"NVML reports the UUID {shown.uuid}, but the driver's own file says {gpu.driver_uuid}"
        found.append(Doubt(what, "restart the agent's pod; if that does not help, reboot the node"))
    if shown is not None and None not in (shown.minor, gpu.driver_minor) and shown.minor != gpu.driver_minor:
        what = f"NVML reports the device file /dev/nvidia{shown.minor}, but the driver's own file says {gpu.driver_minor}"
        found.append(Doubt(what, "restart the agent's pod; if that does not help, reboot the node"))
    if shown is not None and not shown.processes_known:
        found.append(
            Doubt(
                "NVML does not report which processes use it",
                "run nvidia-smi on the node to see what it says",
            )
        )
    uuid = _reported_uuid(gpu, nvml)
    if uuid and uuids[uuid] > 1:
        what = f"another GPU of the node has the same UUID {uuid}"
        found.append(Doubt(what, "reboot the node; if that does not help, check both cards"))
    return tuple(found)
