"""What agents, kubelets, HAMi and virt-controller do while GPUs move, as far as the manager can see it.

Nothing here is measured. Each answers within a fraction of a second, where real ones take up to a minute: a move that
is over sooner makes room for the next VM.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bench.live import fleet, workloads
from bench.live.fill import Api, Tell, run_pod
from bench.live.fleet import GPU_LABEL, SYSTEM, Json, Model, Size
from bench.live.workloads import MACHINES
from poolmgr.domain.errors import PoolError
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.liveness import BEAT_SECONDS
from poolmgr.kit.clock import SystemClock
from poolmgr.wire import kinds
from poolmgr.wire.instants import to_rfc3339_micro
from poolmgr.wire.lease import agent_lease_name

REACTION_SECONDS = 0.3
"""Of an agent that rebinds a GPU, and of HAMi's scheduler."""
REGISTER, HANDSHAKE = "hami.io/node-nvidia-register", "hami.io/node-handshake"
SLICES = "nvidia.com/gpu"


@dataclass(slots=True)
class Desktop:
    """A VM that was asked for while the manager was watched."""

    name: str
    model: Model
    created_at: float
    """Monotonic seconds, when the API server had taken it."""
    begun_at: float | None = None
    """When the watch showed a move for it."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    launcher_uid: str = ""
    node: str = ""


@dataclass(slots=True)
class Counterparts:
    """`run` until cancelled. `desktops` are all VMs that `start_vm` has asked for."""

    api: Api
    size: Size
    monotonic: Callable[[], float]
    tell: Tell
    desktops: list[Desktop] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)
    """Numbers of the nodes where something has moved."""
    _moving: dict[str, str] = field(default_factory=dict)
    """Node → plan of the move that was last seen there."""
    _plugin_off: set[str] = field(default_factory=set)
    """Nodes without HAMi's plugin at the moment."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(kinds.GPU_NODES, self._gpu_node))
            group.create_task(self._follow(kinds.NODES, self._node))
            group.create_task(self._beat())

    async def _beat(self) -> None:
        """Every agent's heartbeat, spread over its time as those of real ones are."""
        while True:
            for node in range(self.size.nodes):
                name = agent_lease_name(NodeName(fleet.node_name(node)))
                renewed = {"spec": {"renewTime": to_rfc3339_micro(SystemClock().now())}}
                try:
                    await self.api.patch(kinds.LEASES, name, renewed, namespace=fleet.AGENTS)
                except PoolError as error:
                    self.tell(f"the heartbeat of {name} was not taken: {error.message}")
                await asyncio.sleep(BEAT_SECONDS / self.size.nodes)

    async def start_vm(self, number: int) -> Desktop:
        """As a user: a VirtualMachine; then as virt-controller: its instance and its launcher pod."""
        model = fleet.MODELS[number % len(fleet.MODELS)]
        desktop = Desktop(f"new-{number:05d}", model, 0.0)
        body = workloads.machine(desktop.name, model.resource)
        self.desktops.append(desktop)
        await self.api.create(kinds.VIRTUAL_MACHINES, body, namespace=MACHINES)
        desktop.created_at = self.monotonic()
        vmi = await self.api.create(
            kinds.VIRTUAL_MACHINE_INSTANCES,
            workloads.instance(desktop.name, model.resource, None),
            namespace=MACHINES,
        )
        pod = workloads.launcher_pod(desktop.name, vmi["metadata"]["uid"], model, None)
        stored = await self.api.create(kinds.PODS, pod, namespace=MACHINES)
        desktop.launcher_uid = stored["metadata"]["uid"]
        return desktop

    async def end_vms(self) -> None:
        """Delete what `start_vm` made, and put every node back to how it was at first. Nobody else may be at work."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for desktop in self.desktops:
            await self.api.delete(kinds.PODS, f"virt-launcher-{desktop.name}", namespace=MACHINES)
            for kind in (kinds.VIRTUAL_MACHINE_INSTANCES, kinds.VIRTUAL_MACHINES):
                await self.api.delete(kind, desktop.name, namespace=MACHINES)
        self.desktops.clear()
        for node in self.touched:
            await self._restore(node)
        self.touched.clear()

    async def _restore(self, node: int) -> None:
        name, spec = fleet.node_name(node), fleet.gpu_node(self.size, node)["spec"]
        left = dict.fromkeys(("transition", "backoffs", "disturbances"), None)
        stored = await self.api.patch(kinds.GPU_NODES, name, {"spec": spec | left})
        held = {d["pciAddress"]: d.get("allocatedTo", "") for d in stored["status"]["devices"]}
        devices = []
        for gpu in range(self.size.gpus):
            launcher = held.get(fleet.pci_address(gpu), "") if gpu < self.size.vms_per_node else ""
            devices.append(fleet.device(self.size, node, gpu, launcher))
        status = fleet.node_status(stored["metadata"]["generation"], devices)
        await self.api.patch(kinds.GPU_NODES, name, {"status": status}, subresource="status")
        fresh = fleet.kubernetes_node(self.size, node)
        keys = ("poolmgr.io/cordoned", "poolmgr.io/fenced", "poolmgr.io/asked", "poolmgr.io/plugin-labels")
        mine = dict.fromkeys((*keys, "hami.io/device-cordon"), None)
        metadata = {
            "labels": fresh["metadata"]["labels"],
            "annotations": fresh["metadata"]["annotations"] | mine,
        }
        await self.api.patch(kinds.NODES, name, {"metadata": metadata, "spec": {"unschedulable": None}})
        slices = fleet.SPLIT * (self.size.gpus - self.size.vms_per_node)
        await self._offer(name, {SLICES: slices, fleet.model_of(node).resource: self.size.vms_per_node})
        with contextlib.suppress(PoolError):  # it is there already
            await run_pod(self.api, workloads.ordinary_pod(node, 0))

    async def _follow(self, kind: kinds.Kind, react: Callable[[Json], None]) -> None:
        """Every object now, then every change. A connection that breaks is opened again."""
        while True:
            try:
                query = {"watch": "1", "timeoutSeconds": "3000"}
                async with self.api.client.watch(kind.path(), query, read_timeout_seconds=3600.0) as lines:
                    async for line in lines:
                        event = msgspec.json.decode(line)
                        if event["type"] in ("ADDED", "MODIFIED"):
                            react(event["object"])
            except PoolError as error:
                self.tell(f"the benchmark's watch of {kind} is opened again: {error.message}")
                await asyncio.sleep(1.0)

    # The agent, and the kubelet with our device plugin

    def _gpu_node(self, found: Json) -> None:
        name, spec, status = found["metadata"]["name"], found["spec"], found.get("status") or {}
        move = spec.get("transition")
        if move is not None and self._moving.get(name) != move["planId"]:
            self._moving[name] = move["planId"]
            self.touched.add(int(name.rsplit("-", 1)[1]))
            self._begun(name, move, status)
        if move is None and self._moving.pop(name, None) is not None:
            self._spawn(self._bind(name))
        if status.get("devices") and found["metadata"]["generation"] > status["observedGeneration"]:
            self._spawn(self._report(found))

    def _begun(self, node: str, move: Json, status: Json) -> None:
        """Moves are for whoever has waited longest for that model."""
        resources = {d["pciAddress"]: d.get("resourceName") for d in status.get("devices", ())}
        for address in move["devices"]:
            waiting = (
                d for d in self.desktops if d.begun_at is None and d.model.resource == resources.get(address)
            )
            first = next(waiting, None)
            if first is not None and move["toMode"] == "Passthrough":
                first.begun_at, first.node = self.monotonic(), node
                first.begun.set()

    async def _report(self, found: Json) -> None:
        name, spec, status = found["metadata"]["name"], found["spec"], found["status"]
        move = spec.get("transition")
        wanted = {d["pciAddress"]: d for d in spec.get("devices", ())}
        rebinds = move["devices"] if move is not None and move["step"] == "Rebind" else []
        if rebinds:
            await asyncio.sleep(REACTION_SECONDS)
        for device in status["devices"]:
            order = wanted.get(device["pciAddress"])
            if order is None:
                continue
            if device["pciAddress"] in rebinds:
                device["mode"], device["planId"] = order["mode"], order["planId"]
            device["advertised"] = device["mode"] == order["mode"] == "Passthrough"
        report = {"observedGeneration": found["metadata"]["generation"], "devices": status["devices"]}
        await self.api.patch(kinds.GPU_NODES, name, {"status": report}, subresource="status")
        if rebinds:
            resource = fleet.model_of(int(name.rsplit("-", 1)[1])).resource
            await self._offer(name, {resource: sum(d["advertised"] for d in status["devices"])})

    async def _bind(self, node: str) -> None:
        """The scheduler and the kubelet, once the move on `node` is over: its VM gets the GPU."""
        desktop = next((d for d in self.desktops if d.node == node and d.launcher_uid), None)
        if desktop is None:
            return
        stored = await self.api.get(kinds.GPU_NODES, node)
        free = [
            d
            for d in stored["status"]["devices"]
            if d["mode"] == "Passthrough"
            and not d.get("allocatedTo")
            and d["resourceName"] == desktop.model.resource
        ]
        if not free:
            return
        desktop.node = ""
        pod = f"virt-launcher-{desktop.name}"
        target = {"metadata": {"name": pod}, "target": {"kind": "Node", "name": node}}
        await self.api.create(kinds.PODS, target, namespace=MACHINES, subresource="binding")
        free[0]["allocatedTo"] = desktop.launcher_uid
        devices = {"status": {"devices": stored["status"]["devices"]}}
        await self.api.patch(kinds.GPU_NODES, node, devices, subresource="status")
        running = {"status": {"phase": "Running", "nodeName": node}}
        await self.api.patch(kinds.VIRTUAL_MACHINE_INSTANCES, desktop.name, running, namespace=MACHINES)

    # HAMi

    def _node(self, found: Json) -> None:
        metadata = found["metadata"]
        annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
        if REGISTER in annotations and HANDSHAKE not in annotations:
            self._spawn(self._handshake(metadata["name"]))
        name, wanted = metadata["name"], labels.get(GPU_LABEL[0]) == GPU_LABEL[1]
        if wanted and name in self._plugin_off:
            self._plugin_off.discard(name)
            self._spawn(self._plugin_starts(name))
        elif not wanted and name not in self._plugin_off:
            self._plugin_off.add(name)
            self._spawn(self._plugin_ends(name))

    async def _handshake(self, node: str) -> None:
        await asyncio.sleep(REACTION_SECONDS)
        stamp = {"metadata": {"annotations": {HANDSHAKE: "Requesting_2026-11-02 09:00:00"}}}
        await self.api.patch(kinds.NODES, node, stamp)

    async def _plugin_ends(self, node: str) -> None:
        await self.api.delete(kinds.PODS, f"hami-device-plugin-{node.rsplit('-', 1)[1]}", namespace=SYSTEM)
        await self._offer(node, {SLICES: 0})

    async def _plugin_starts(self, name: str) -> None:
        node = int(name.rsplit("-", 1)[1])
        stored = await self.api.get(kinds.GPU_NODES, name)
        modes = {d["pciAddress"]: d["mode"] for d in stored["status"]["devices"]}
        shared = [g for g in range(self.size.gpus) if modes[fleet.pci_address(g)] == "Shared"]
        await run_pod(self.api, workloads.ordinary_pod(node, 0))
        registered = {REGISTER: fleet.register(node, shared)}
        await self.api.patch(kinds.NODES, name, {"metadata": {"annotations": registered}})
        await self._offer(name, {SLICES: fleet.SPLIT * len(shared)})

    async def _offer(self, node: str, numbers: dict[str, int]) -> None:
        """What the kubelet shows of these resources on its Node."""
        amounts = {name: str(number) for name, number in numbers.items()}
        body = {"status": {"allocatable": amounts, "capacity": amounts}}
        await self.api.patch(kinds.NODES, node, body, subresource="status")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside the watch. What fails is told: a move may then take longer, and nothing else."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.tell(f"the benchmark could not answer for a node: {error}")
