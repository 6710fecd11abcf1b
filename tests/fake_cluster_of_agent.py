"""What an agent talks to besides the kernel: API server, kubelet and NVML of one node, in memory."""

import contextlib
import copy
from collections.abc import Callable, Iterable
from typing import Any

from poolmgr.agent.accelerators import load_catalogue
from poolmgr.agent.deviceplugin.allocation import Offer
from poolmgr.agent.hook_keeper import HookKeeper
from poolmgr.agent.hook_node import ContainerLimits
from poolmgr.agent.journal import Journal
from poolmgr.agent.node_agent import NodeAgent
from poolmgr.agent.nvml import NvmlGpu, NvmlReport
from poolmgr.agent.observe import NodeObserver, Pods
from poolmgr.agent.podresources import KubeletView, PodName
from poolmgr.agent.rebind import Rebinder
from poolmgr.agent.report import Reporter
from poolmgr.agent.status import NodeFacts
from poolmgr.agent.sysfs import Sysfs
from poolmgr.domain.errors import Stale
from poolmgr.domain.identifiers import GpuUuid, NodeName, PciAddress
from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.reasons import Reason
from tests.fake_node import FakeClock, FakeNode, gpu_node_body

NODE = NodeName("node-1")
CATALOGUE = load_catalogue(["nvidia", "emulated"])
RESOURCE = "emulated.poolmgr.io/BOCHS_DISPLAY"


class FakeApi:
    """One GPUNode with generation and resourceVersion, as the API server keeps it."""

    def __init__(self, node: FakeNode) -> None:
        self._tripwire = node.tripwire
        self.body = gpu_node_body(NODE)
        self.patches = 0
        self.pods: dict[PodName, str] = {}
        self.slices: dict[str, tuple[str, ...]] = {}
        self.claimers: set[PodName] = set()
        self.limits: dict[str, ContainerLimits] = {}

    async def read_or_create(self) -> dict[str, Any]:
        self._tripwire.pass_by("read GPUNode")
        return copy.deepcopy(self.body)

    async def patch_status(self, status: dict[str, Any], resource_version: str) -> dict[str, Any]:
        self._tripwire.pass_by("before patch of status")
        if resource_version != self.body["metadata"]["resourceVersion"]:
            raise Stale(Reason.STALE_GENERATION, "conflict")
        self.patches += 1
        self.body["status"] = copy.deepcopy(status)
        self._touch()
        self._tripwire.pass_by("after patch of status")
        return copy.deepcopy(self.body)

    async def list_pods(self) -> Pods:
        self._tripwire.pass_by("list pods")
        return Pods(dict(self.pods), dict(self.slices), frozenset(self.claimers))

    async def list_limits(self) -> dict[str, ContainerLimits]:
        self._tripwire.pass_by("list limits")
        return dict(self.limits)

    # -- the manager's side ------------------------------------------------------------------------------

    def want(
        self,
        modes: dict[str, Mode],
        plan_id: str = "plan-1",
        *,
        step: Step | None = None,
        moving: Iterable[str] = (),
        epoch: int = 1,
        to_mode: Mode | None = None,
    ) -> None:
        spec: dict[str, Any] = {
            "devices": [{"pciAddress": a, "mode": str(m), "planId": plan_id} for a, m in modes.items()]
        }
        if step is not None:
            devices = list(moving)
            spec["transition"] = {
                "planId": plan_id,
                "epoch": epoch,
                "toMode": str(to_mode or modes[devices[0]]),
                "devices": devices,
                "step": str(step),
                "startedAt": "2026-11-22T10:00:00Z",
                "stepStartedAt": "2026-11-22T10:00:00Z",
            }
        if spec != self.body["spec"]:
            self.body["spec"] = spec
            self.body["metadata"]["generation"] += 1
            self._touch()

    def annotate(self, name: str, value: str) -> None:
        self.body["metadata"].setdefault("annotations", {})[name] = value
        self._touch()

    def device(self, address: str) -> dict[str, Any]:
        devices: list[dict[str, Any]] = self.body.get("status", {}).get("devices", [])
        return next(d for d in devices if d["pciAddress"] == address)

    def _touch(self) -> None:
        meta = self.body["metadata"]
        meta["resourceVersion"] = str(int(meta["resourceVersion"]) + 1)


class FakeKubelet:
    def __init__(self, node: FakeNode) -> None:
        self._node = node
        self.known = True
        self.given_by_others: list[tuple[PodName, str, str]] = []
        """Pod, resource and device id."""
        self.claims: list[tuple[PodName, str]] = []
        """Pod and DRA driver."""
        self.pods: frozenset[PodName] = frozenset()
        """All on the node."""

    async def read(self, resource_names: Iterable[str]) -> KubeletView:
        self._node.tripwire.pass_by("ask the kubelet")
        if not self.known:
            return KubeletView(known=False, error="no kubelet")
        return KubeletView(
            True,
            frozenset((RESOURCE, PciAddress(a)) for a in self._node.offered),
            {(RESOURCE, PciAddress(a)): PodName("default", pod) for a, pod in self._node.given.items()},
            tuple(self.given_by_others),
            tuple(self.claims),
            self.pods,
        )


class FakePlugins:
    """Our device plugin with the kubelet behind it: what is offered is listed at once, and only a GPU on
    vfio-pci may ever be offered."""

    error = ""

    def __init__(self, node: FakeNode) -> None:
        self._node = node
        self.offers: tuple[Offer, ...] = ()

    @property
    def resource_names(self) -> frozenset[str]:
        return frozenset()

    async def set_offers(self, offers: Iterable[Offer]) -> None:
        self._node.tripwire.pass_by("before offers")
        self.offers = tuple(offers)
        self._node.offered = {o.address for o in self.offers if not o.closed}
        for address in (o.address for o in self.offers):
            if self._node.driver_of(address) != "vfio-pci":
                self._node.violations.append(f"{address} offered on {self._node.driver_of(address)!r}")
        self._node.tripwire.pass_by("after offers")

    def recently_granted(self, address: PciAddress) -> bool:
        return False

    async def stop(self) -> None: ...


class FakeNvml:
    """Shows the GPUs that are on a host driver, as the real one does."""

    def __init__(self, node: FakeNode, uuids: dict[str, str]) -> None:
        self._node = node
        self._uuids = uuids

    async def read(self) -> NvmlReport:
        return NvmlReport(
            {
                PciAddress(a): NvmlGpu(GpuUuid(self._uuids[a]), "NVIDIA A10", 23028)
                for a, d in self._node.devices.items()
                if a in self._uuids and d.driver == d.host_driver
            }
        )

    async def quiesce(self, address: PciAddress) -> str:
        return ""

    async def resume(self, address: PciAddress) -> None: ...


class NoModules:
    """Drivers are there or not; nothing can be loaded."""

    def __init__(self, node: FakeNode) -> None:
        self._node = node

    async def ensure_loaded(self, driver: str) -> bool:
        return driver in self._node.drivers

    def missing_message(self, driver: str) -> str:
        return f"there is no driver {driver}"


class AgentUnderTest:
    """An agent on a fake node; `restart` begins a new process on what the old one left behind."""

    def __init__(self, node: FakeNode, uuids: dict[str, str] | None = None) -> None:
        self.node = node
        self.api = FakeApi(node)
        self.clock = FakeClock()
        self.kubelet = FakeKubelet(node)
        self.nvml = FakeNvml(node, uuids or {})
        self.hook: HookKeeper | None = None
        self.restart()

    def restart(self) -> None:
        node = self.node
        node.tripwire.revive()
        node.offered = set()  # the kubelet drops the devices of a plugin that is gone
        self.journal = Journal(node.state_dir / "journal.json", self._journal_write)
        self.journal.load(node.boot_id)
        sysfs = Sysfs(node, node.sys, node.files)
        catalogue = CATALOGUE
        plugins = self.plugins = FakePlugins(node)
        observer = NodeObserver(sysfs, catalogue, self.kubelet, plugins, proc=node.proc)
        rebinder = Rebinder(sysfs, catalogue, NoModules(node), self.nvml, observer.holders_of, proc=node.proc)
        facts = NodeFacts(node.boot_id, "6.1", "0.1.0")
        self.agent = NodeAgent(
            NODE,
            self.api,
            observer,
            rebinder,
            plugins,
            self.nvml,
            self.journal,
            Reporter(facts),
            self.clock,
            self.hook,
        )

    async def passes(self, count: int = 6) -> None:
        """So many passes as the process would run them."""
        for _ in range(count):
            with contextlib.suppress(Stale):
                await self.agent.reconcile(copy.deepcopy(self.api.body))
            self.clock.time += 5.0

    async def until(self, done: Callable[[], bool], count: int = 40) -> None:
        for _ in range(count):
            if done():
                return
            await self.passes(1)
        raise AssertionError(f"not reached after {count} passes: {self.api.body.get('status')}")

    def _journal_write(self, path: Any, content: bytes) -> None:
        self.node.tripwire.pass_by("before journal")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)  # the real, fsyncing write has tests of its own
        self.node.tripwire.pass_by("after journal")
