# ruff: noqa: N802, N815 - the names are NVML's
"""The node's side of a world: PCI and proc as files, NVML's library, the kubelet's answer, our device plugin."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from e2e.node.shape import Shape
from e2e.node.shape_files import mig_minor
from e2e.nvml.state import Model
from poolmgr.agent.accelerators import load_catalogue
from poolmgr.agent.node_sources import NodeSources
from poolmgr.agent.nvml import Nvml
from poolmgr.agent.podresources import KubeletAnswer, KubeletView
from poolmgr.agent.sysfs import Sysfs
from poolmgr.agent.wire import podresources_pb2 as wire
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.modes import Mode
from tests.fake_cluster_of_agent import FakePlugins
from tests.fake_node import FakeFiles, FakeNode
from tests.fake_nvidia import FakeNvidia
from tests.guesses.world import Kind, Source, Use, W, World

MODEL = Model("NVIDIA A10", "223610de", 23028, "8.6", has_mig=True)
"""An A10 knows no MIG; here it does, so that one node has every kind of use."""
RESOURCE = "nvidia.com/GA102GL_A10"
NAMESPACE = "ml"


def address_of(gpu: int) -> PciAddress:
    return PciAddress(f"0000:{gpu + 0x10:02x}:00.0")


def _virtual(gpu: int) -> str:
    return f"0000:{gpu + 0x10:02x}:00.4"


def pod_name(use: Use) -> str:
    machine = use.kind in (Kind.VM, Kind.ADMITTED)
    return f"virt-launcher-machine-{use.gpu}" if machine else f"user-{use.gpu}"


def pod_uid(use: Use) -> str:
    return f"00000000-0000-0000-0000-{use.gpu:012d}"


def hamis_uuid(world: World, gpu: int) -> str:
    """By which HAMi gives slices of it away."""
    return f"GPU-{gpu:08x}-0000-0000-0000-00000000000a"


@dataclass(frozen=True)
class WorldShape(Shape):
    """NVIDIA's files of GPUs whose UUIDs are told."""

    reported: Mapping[int, str] = field(default_factory=dict)

    def uuid_of(self, index: int) -> str:
        return self.reported[index]


SHOWN = {W.CONSOLE, W.BOOT_DISPLAY}
DIVIDED = {W.VIRTUAL_FUNCTIONS, W.VIRTUAL_LINKS}
REFUSED: dict[Source, tuple[str, ...]] = {
    Source.PROCESS: ("/fd",),
    Source.PARTS: ("/sriov_numvfs", "/mdev_supported_types", "/bus/mdev/devices"),
    Source.CONSOLES: ("/class/vtconsole",),
}
"""How the paths end that cannot be read."""


def _is_refused(path: str, world: World) -> bool:
    return any(path.endswith(REFUSED.get(source, ())) for source in world.unreadable)


class WorldNode:
    """Lays a world's node out, and lets uses begin there."""

    def __init__(self, root: Path, world: World) -> None:
        self.world = world
        self.node = FakeNode(root)
        self.node.files = FakeFiles(self.node.number, lambda path: _is_refused(path, world))
        self.pids: dict[int, int] = {}
        """GPU → the process that NVML lists on it."""
        self.begun: list[Use] = []
        for gpu, mode in enumerate(world.modes):
            driver = "nvidia" if mode is Mode.SHARED else "vfio-pci"
            self.node.add_device(address_of(gpu), host_driver="nvidia", driver=driver)
        self.node.start_process("/dev/null", command="somebody")
        self._nvidia = FakeNvidia(self.node, self._shape())
        self.plugins = WorldPlugins(self)
        self.kubelet = WorldKubelet(self)
        self.nvml = DirectNvml(WorldNvml(self))

    def begin(self, use: Use) -> None:
        """What the node shows of the use, as its witnesses tell it."""
        self.begun.append(use)
        if use.tells & DIVIDED:
            self.node.add_device(_virtual(use.gpu), host_driver="nvidia")
        self._nvidia.lay(self._shape())
        self._hide_what_nobody_tells()
        uid = pod_uid(use)
        match use.kind:
            case Kind.COMPUTE if W.DEVICE_FILE in use.tells:
                self._open(use, f"/dev/nvidia{use.gpu}", uid)
            case Kind.RENDER if W.RENDER_NODE in use.tells:
                self._open(use, f"/dev/dri/renderD{self._nvidia.shape.render_minor(use.gpu)}", uid)
            case Kind.MIG if W.MIG_FILE in use.tells:
                self._open(use, f"/dev/nvidia-caps/nvidia-cap{mig_minor(use.gpu, 1, 0)}", uid)
            case Kind.COMPUTE | Kind.RENDER:
                self._open(use, "/dev/null", uid)  # by a number that is not seen
            case Kind.VM if W.VFIO_FILE in use.tells:
                self._open(use, f"/dev/vfio/{self.node.devices[address_of(use.gpu)].group}", uid)
            case Kind.MODESET if W.MODESET in use.tells:
                parameter = self.node.sys / "module/nvidia_drm/parameters/modeset"
                parameter.parent.mkdir(parents=True, exist_ok=True)
                parameter.write_text("Y\n")

    def _hide_what_nobody_tells(self) -> None:
        """The shape has all of it."""
        devices = self.node.sys / "bus/pci/devices"
        for use in self.begun:
            if use.tells & SHOWN and W.BOOT_DISPLAY not in use.tells:
                (devices / address_of(use.gpu) / "boot_vga").write_text("0\n")
            if use.tells & SHOWN and W.CONSOLE not in use.tells:
                for bound in self.node.sys.glob("class/vtconsole/*/bind"):
                    bound.write_text("0\n")
            for witness, name in {W.VIRTUAL_FUNCTIONS: "sriov_numvfs", W.VIRTUAL_LINKS: "virtfn0"}.items():
                if witness not in use.tells:
                    (devices / address_of(use.gpu) / name).unlink(missing_ok=True)
            if Source.CONFIGURATION in self.world.unreadable:
                (devices / address_of(use.gpu) / "config").unlink(missing_ok=True)

    def sources(self) -> NodeSources:
        sysfs = Sysfs(self.node, self.node.sys, self.node.files)
        return NodeSources(CATALOGUE, sysfs, self.kubelet, self.nvml, self.node.proc)

    def unbound(self) -> frozenset[int]:
        return frozenset(g for g in self.world.indices if f"unbind {address_of(g)}" in self.node.writes)

    def on_driver(self) -> list[int]:
        return [g for g in self.world.indices if self.node.driver_of(address_of(g)) == "nvidia"]

    def uuid_from_nvml(self, gpu: int) -> str:
        use = self._use(gpu)
        if use is not None and use.kind is Kind.RENAMED:
            return f"GPU-{gpu:08x}-ffff-ffff-ffff-00000000000b"
        twin = next((u for u in self.begun if u.kind is Kind.TWIN and W.UUIDS in u.tells), None)
        if twin is not None and gpu == neighbour(self.world, twin.gpu):
            return hamis_uuid(self.world, twin.gpu)
        return hamis_uuid(self.world, gpu)

    def uuid_from_driver(self, gpu: int) -> str:
        use = self._use(gpu)
        if use is not None and use.kind is Kind.RENAMED and W.DRIVER_UUID in use.tells:
            return hamis_uuid(self.world, gpu)
        return self.uuid_from_nvml(gpu)

    def tells(self, gpu: int, witness: W) -> bool:
        use = self._use(gpu)
        return use is not None and witness in use.tells

    def _use(self, gpu: int) -> Use | None:
        return next((use for use in self.begun if use.gpu == gpu), None)

    def _open(self, use: Use, path: str, uid: str) -> None:
        self.pids[use.gpu] = self.node.start_process(path, command="python", pod_uid=uid)

    def _shape(self) -> WorldShape:
        begun = {use.gpu: use for use in self.begun}
        console = next((g for g, u in begun.items() if u.tells & SHOWN), None)
        return WorldShape(
            gpus=tuple(address_of(gpu) for gpu in self.world.indices),
            model=MODEL,
            render=True,
            mig={g: ("1g.10gb",) for g, u in begun.items() if u.kind is Kind.MIG},
            vfs={g: (_virtual(g),) for g, u in begun.items() if u.tells & DIVIDED},
            mdevs={g: 1 for g, u in begun.items() if W.MEDIATED in u.tells},
            console_on=console,
            off_bus=frozenset(g for g, u in begun.items() if W.BUS in u.tells),
            masked=() if Source.DRIVER_FILES in self.world.unreadable else None,
            reported={gpu: self.uuid_from_driver(gpu) for gpu in self.world.indices},
        )


def neighbour(world: World, gpu: int) -> int:
    """Another GPU on the same side; itself where there is none."""
    return next((i for i in world.indices if i != gpu and world.modes[i] is world.modes[gpu]), gpu)


class WorldPlugins(FakePlugins):
    def __init__(self, world: WorldNode) -> None:
        super().__init__(world.node)
        self._world = world

    def recently_granted(self, address: PciAddress) -> bool:
        return any(
            address_of(g) == address and self._world.tells(g, W.GRANT) for g in self._world.world.indices
        )


class WorldKubelet:
    """`pod-resources` in the kubelet's own messages."""

    def __init__(self, world: WorldNode) -> None:
        self._world = world

    async def read(self, resource_names: Any) -> KubeletView:
        return (await self.ask()).view(resource_names)

    async def ask(self) -> KubeletAnswer:
        if Source.KUBELET in self._world.world.unreadable:
            return KubeletAnswer(error="no kubelet")
        devices = [wire.ContainerDevices(resource_name=RESOURCE, device_ids=sorted(self._world.node.offered))]
        pods = [self._pod(use) for use in self._world.begun]
        return KubeletAnswer(
            wire.AllocatableResourcesResponse(devices=devices),
            wire.ListPodResourcesResponse(pod_resources=pods),
        )

    def _pod(self, use: Use) -> Any:
        given, claims = [], []
        if W.KUBELET_OWN in use.tells:
            given.append(wire.ContainerDevices(resource_name=RESOURCE, device_ids=[address_of(use.gpu)]))
        if W.KUBELET_OTHERS in use.tells:
            resource, device = self._other(use)
            given.append(wire.ContainerDevices(resource_name=resource, device_ids=[device]))
        if W.KUBELET_CLAIM in use.tells:
            claims.append(
                wire.DynamicResource(claim_resources=[wire.ClaimResource(driver_name="gpu.nvidia.com")])
            )
        container = wire.ContainerResources(name="main", devices=given, dynamic_resources=claims)
        return wire.PodResources(name=pod_name(use), namespace=NAMESPACE, containers=[container])

    def _other(self, use: Use) -> tuple[str, str]:
        world, gpu = self._world.world, use.gpu
        match use.kind:
            case Kind.MIG:
                return "nvidia.com/mig-1g.10gb", mig_uuid(gpu)
            case Kind.OTHER_PLUGIN:
                return "nvidia.com/gpu.shared", f"{hamis_uuid(world, gpu)}::2"
            case Kind.SLICE:  # HAMi's id names any GPU of the node
                return "nvidia.com/gpu", f"{hamis_uuid(world, neighbour(world, gpu))}-3"
            case _:
                return "nvidia.com/gpu", f"{hamis_uuid(world, gpu)}-3"


def mig_uuid(gpu: int) -> str:
    return f"MIG-{gpu:08x}-0000-0000-0000-00000000000a"


class DirectNvml(Nvml):
    """Without the thread that a library needs which may hang."""

    def _serve(self) -> None: ...

    async def _ask(self, question: Callable[[], Any]) -> Any:
        return question()


class NvmlError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


class WorldNvml:
    """As much of pynvml as is used."""

    NVMLError = NvmlError
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_FUNCTION_NOT_FOUND = 13
    NVML_ERROR_UNKNOWN = 999
    NVML_FEATURE_ENABLED = 1
    NVML_FEATURE_DISABLED = 0
    nvmlPciInfo_t = SimpleNamespace

    def __init__(self, world: WorldNode) -> None:
        self._world = world

    def _fails(self, source: Source) -> None:
        if source in self._world.world.unreadable:
            raise NvmlError(self.NVML_ERROR_UNKNOWN)

    def nvmlInit(self) -> None:
        self._fails(Source.NVML)

    def nvmlShutdown(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return len(self._world.on_driver())

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return self._world.on_driver()[index]

    def nvmlDeviceGetHandleByPciBusId(self, bus_id: bytes) -> int:
        return next(g for g in self._world.world.indices if address_of(g).encode() == bus_id)

    def nvmlDeviceGetPciInfo(self, gpu: int) -> Any:
        return SimpleNamespace(busId=b"0000" + address_of(gpu).upper().encode())

    def nvmlDeviceGetUUID(self, gpu: int | str) -> bytes:
        return (gpu if isinstance(gpu, str) else self._world.uuid_from_nvml(gpu)).encode()

    def nvmlDeviceGetName(self, gpu: int) -> str:
        return MODEL.name

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> Any:
        return SimpleNamespace(total=MODEL.memory_mib << 20)

    def nvmlDeviceGetMinorNumber(self, gpu: int) -> int:
        return gpu

    def nvmlDeviceGetMigMode(self, gpu: int) -> list[int]:
        self._fails(Source.NVML_MIG)
        on = int(self._world.tells(gpu, W.NVML_MIG))
        return [on, on]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: int) -> int:
        return int(self._world.tells(gpu, W.NVML_MIG))

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: int, index: int) -> str:
        return mig_uuid(gpu)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: int) -> list[Any]:
        self._fails(Source.NVML_PROCESSES)
        listed = self._world.tells(gpu, W.NVML_PROCESSES)
        return [SimpleNamespace(pid=self._world.pids[gpu])] if listed else []

    def nvmlDeviceGetGraphicsRunningProcesses(self, gpu: int) -> list[Any]:
        raise NvmlError(self.NVML_ERROR_NOT_SUPPORTED)

    nvmlDeviceGetMPSComputeRunningProcesses = nvmlDeviceGetGraphicsRunningProcesses

    def nvmlDeviceGetPersistenceMode(self, gpu: int) -> int:
        return int(self._world.tells(gpu, W.PERSISTENCE))

    def nvmlDeviceSetPersistenceMode(self, gpu: int, mode: int) -> None:
        """It stays as it is."""

    def nvmlDeviceModifyDrainState(self, info: Any, state: int) -> None: ...


CATALOGUE = load_catalogue(["nvidia"])
