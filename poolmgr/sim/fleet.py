"""The simulated fleet: a whole cluster in memory behind the controller's own interfaces.

`SimulatedFleet` is the `ClusterView`; `actuators` change it; `clock` is the time. The live controller
runs on it unchanged. Read `world` for what exists, `agent`, `hami`, `kube` and `gpu_operator` for how it behaves, `actuators` for
the calls and their faults.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace

from poolmgr.domain.demand import DeviceClaim, Gate, SharedPod, Vm
from poolmgr.domain.directives import NO_DIRECTIVES
from poolmgr.domain.fleet import Gpu, Node, Pool
from poolmgr.domain.identifiers import Generation, GpuUuid, NodeName, PciAddress, WorkloadUid
from poolmgr.domain.liveness import BEAT_SECONDS, AgentSign, Heartbeats
from poolmgr.domain.modes import Mode
from poolmgr.domain.neighbours import Neighbours
from poolmgr.domain.reservation import Reservation
from poolmgr.domain.sharing import SharingState
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.sim.actuators import Actuators, Faults
from poolmgr.sim.agent import SimAgents
from poolmgr.sim.clock import VirtualClock
from poolmgr.sim.gpu_operator import SimOperator
from poolmgr.sim.hami import SimHami
from poolmgr.sim.kube import SimKube
from poolmgr.sim.world import NVIDIA, VFIO, SimGpu, SimNode, SimPod, SimSharing, SimVm, Timings, World
from poolmgr.wire.annotations import BEST_EFFORT_ONLY
from poolmgr.wire.gpu_nodes import with_directives
from poolmgr.wire.gpu_operator import neighbours_of

A10 = "NVIDIA A10"
A10_RESOURCE = "nvidia.com/GA102GL_A10"


@dataclass(frozen=True, slots=True)
class NodeShape:
    """A kind of node to build a fleet from."""

    count: int
    gpus: int
    model: str = A10
    resource_name: str = A10_RESOURCE
    memory_mib: int = 23_028
    prefix: str = "node"
    nvswitch: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    cpu_milli: int = 128_000
    host_memory_mib: int = 1_048_576


def build_nodes(shapes: Iterable[NodeShape], hami_version: tuple[int, int] = (2, 10)) -> list[SimNode]:
    """Nodes named `<prefix>-1`… with every GPU on its vendor driver."""
    nodes: list[SimNode] = []
    for shape in shapes:
        for n in range(1, shape.count + 1):
            name = NodeName(f"{shape.prefix}-{n}")
            gpus = [
                SimGpu(
                    node=name,
                    pci_address=PciAddress(f"0000:{0x10 + g:02x}:00.0"),
                    uuid=GpuUuid(f"GPU-{name}-{g}"),
                    model=shape.model,
                    memory_mib=shape.memory_mib,
                    resource_name=shape.resource_name,
                    iommu_group=10 + g,
                    numa_node=g * 2 // shape.gpus,
                    nvswitch_domain=f"{name}-nvswitch" if shape.nvswitch else "",
                )
                for g in range(shape.gpus)
            ]
            nodes.append(
                SimNode(
                    name,
                    gpus,
                    labels={"kubernetes.io/hostname": name, **dict(shape.labels)},
                    cpu_milli=shape.cpu_milli,
                    memory_mib=shape.host_memory_mib,
                    sharing=SimSharing(version=hami_version),
                )
            )
    return nodes


class SimulatedFleet:
    """A cluster that moves only when its clock does. Reading a snapshot changes nothing."""

    def __init__(
        self,
        shapes: Iterable[NodeShape],
        pools: Iterable[Pool],
        *,
        start: float = 0.0,
        timings: Timings | None = None,
        passthrough_at_start: int = 0,
        hami_version: tuple[int, int] = (2, 10),
    ) -> None:
        """`passthrough_at_start` GPUs, whole nodes first, begin in passthrough mode, advertised."""
        self.clock = VirtualClock(start)
        nodes = build_nodes(shapes, hami_version)
        remaining = passthrough_at_start
        for node in nodes:
            for gpu in node.gpus:
                if remaining > 0:
                    gpu.driver, gpu.advertised, remaining = VFIO, True, remaining - 1
        self.world = World(timings or Timings(), {n.name: n for n in nodes})
        self.pools = tuple(sorted(pools, key=lambda p: p.name))
        self.reservations: tuple[Reservation, ...] = ()
        self.synced = True
        self.faults = Faults()
        self._generation = 0
        self._confirmed_at = start
        self._waiters: list[asyncio.Future[None]] = []
        self._nodes: dict[NodeName, Node] = {}
        self.agents = SimAgents(self.world, self.clock, self._touch)
        self.kube = SimKube(self.world, self.clock, self._touch)
        self.hami = SimHami(
            self.world,
            self.clock,
            self._sharing_changed,
            self.kube.pod_started,
        )
        self.kube.agents, self.kube.hami = self.agents, self.hami
        self.operator = SimOperator(self.world, self.clock, self._touch)
        self.world.changed_on = self.agents.poke
        self.actuators = Actuators(
            self.world,
            self.clock,
            self.faults,
            self.agents,
            self.hami,
            self.kube,
            self.operator,
            self._touch,
        )
        self._heartbeats = Heartbeats()
        for node in nodes:
            node.observed_generation = node.generation
            self.agents.report(node)
            for value in ("before", "start"):  # whoever manages the fleet has heard every agent
                self._heartbeats.beat(node.name, value, start, start)

    # ClusterView

    async def snapshot(self) -> ClusterSnapshot:
        """The cluster as reported, in canonical order: nodes, pods and VMs by creation."""
        if self.faults.api_gone:
            return replace(self._view(), synced=False)
        self._confirmed_at = self.clock.now()
        return self._view()

    def _view(self) -> ClusterSnapshot:
        signs = self._signs()
        return ClusterSnapshot(
            generation=Generation(self._generation),
            taken_at=self.clock.now(),
            synced=self.synced,
            nodes=tuple(self._node(n, signs[n.name]) for n in self.world.nodes.values()),
            pools=self.pools,
            vms=tuple(self._vm(v) for v in self.world.vms.values()),
            pods=tuple(self._pod(p) for p in self.world.pods.values()),
            reservations=self.reservations,
        )

    def ages(self) -> dict[str, float]:
        """See `ClusterView`: while the API server is away nothing is confirmed."""
        away = self.clock.now() - self._confirmed_at if self.faults.api_gone else 0.0
        return {"nodes": away, "pods": away}

    async def wait_for_change(self, timeout_seconds: float, *, settle_seconds: float = 0.0) -> None:
        """See `ClusterView`. Every change ends it at once."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        entry = self.clock.call_later(timeout_seconds, lambda: self.clock.wake(waiter))
        try:
            await waiter
        finally:
            entry.cancel()

    def _touch(self, node: NodeName | None) -> None:
        """Something changed; `node` is where, None for demand that is not on a node."""
        self._generation += 1
        if node is not None:
            self._nodes.pop(node, None)
            self.kube.poke()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            self.clock.wake(waiter)

    def _sharing_changed(self, node: NodeName) -> None:
        self._touch(node)
        self.agents.poke(node)

    def _signs(self) -> dict[NodeName, AgentSign]:
        """The agents as a manager hears them that looks now."""
        now = self.clock.now()
        for node in self.world.nodes.values():
            if node.speaks:
                node.beat = int(now // BEAT_SECONDS)
            self._heartbeats.beat(node.name, str(node.beat), now, now)
        return self._heartbeats.judge(self.world.nodes, now)

    def _node(self, node: SimNode, agent: AgentSign) -> Node:
        known = self._nodes.get(node.name)
        if known is not None and known.agent is agent:
            return known
        sharing = node.sharing
        cpu, memory = self.world.free_compute(node)
        neighbours = neighbours_of(
            node.name,
            node.labels,
            self.operator.pods_on(node),
            upgrades_held_by_us=node.upgrades_held_by_us,
        )
        view = Node(
            name=node.name,
            gpus=tuple(self._gpu(node, g, neighbours) for g in node.reported),
            neighbours=neighbours,
            ready=node.up and agent.heard,
            agent=agent,
            silence_noted=node.silence_noted,
            cordoned=node.unschedulable,
            cordoned_by_us=node.cordoned_by_us,
            transition=node.transition,
            sharing=SharingState(
                version=sharing.version,
                plugin_wanted=sharing.wanted,
                plugin_pods=sharing.pods,
                plugin_ready=sharing.ready,
                allocatable=sharing.allocatable,
                registered=sharing.registered,
                handshake=sharing.handshake,
                asked_for=sharing.asked_for,
                asked_at=sharing.asked_at,
                opened_at=sharing.opened_at,
                locked_by=sharing.allocating,
                allocating=1 if sharing.allocating else 0,
                last_placement_at=sharing.last_placement_at,
                fenced=sharing.fence if sharing.handshake else frozenset(),
                closing=sharing.fence,
            ),
            revision=str(node.revision),
            labels=tuple(sorted(node.labels.items())),
            taints=node.taints,
            cpu_milli=node.cpu_milli,
            memory_mib=node.memory_mib,
            cpu_milli_free=cpu,
            memory_mib_free=memory,
            best_effort_only=BEST_EFFORT_ONLY in node.labels,
            reported=node.observed_generation == node.generation,
            backoffs=node.backoffs,
            disturbances=node.disturbances,
            retry=node.retry,
            directives=node.directives,
        )
        self._nodes[node.name] = view
        return view

    def _gpu(self, node: SimNode, gpu: Gpu, neighbours: Neighbours) -> Gpu:
        if gpu.holders:
            holders = (replace(h, service=neighbours.service_of(h.pod_uid)) for h in gpu.holders)
            gpu = replace(gpu, holders=tuple(holders))
        desired = node.desired.get(gpu.pci_address)
        pool = next((p.name for p in self.pools if p.takes(gpu.model, node.labels)), None)
        gpu = replace(gpu, pool=pool)
        if desired is not None:
            gpu = replace(gpu, desired_mode=desired[0], desired_plan_id=desired[1])
        return gpu if node.directives is NO_DIRECTIVES else with_directives(gpu, node.directives)

    def _vm(self, vm: SimVm) -> Vm:
        request = vm.request
        idle_since = None
        if vm.started_at is not None and request.idle_after_seconds is not None:
            begin = vm.started_at + request.idle_after_seconds
            idle_since = begin if begin <= self.clock.now() else None
        return Vm(
            uid=WorkloadUid(vm.uid),
            namespace=request.namespace,
            name=request.name,
            claims=(DeviceClaim(request.resource_name, request.gpus),),
            node=vm.node,
            created_at=vm.created_at,
            waiting_since=vm.created_at if vm.node is None else None,
            launcher_uid=vm.launcher_uid,
            devices=tuple((vm.node, d) for d in vm.devices) if vm.node is not None else (),
            idle_since=idle_since,
            cpu_milli=request.cpu_milli,
            memory_mib=request.memory_mib,
            placement=request.placement,
            launcher_name=f"virt-launcher-{request.name}",
            gate=Gate.OURS if vm.gated else Gate.OPEN,
        )

    def _pod(self, pod: SimPod) -> SharedPod:
        request = pod.request
        return SharedPod(
            uid=WorkloadUid(pod.uid),
            namespace=request.namespace,
            name=request.name,
            gpus=request.gpus,
            memory_mib=request.memory_mib,
            cores_percent=request.cores_percent,
            node=pod.node,
            slices=pod.slices,
            created_at=pod.created_at,
            started_at=pod.started_at,
            waiting_since=pod.created_at if pod.node is None else None,
            models=request.models,
            best_effort=request.best_effort,
            evictable=request.evictable and not pod.terminating,
            terminating=pod.terminating,
            cpu_milli=request.cpu_milli,
            memory_request_mib=request.memory_request_mib,
            placement=request.placement,
            gate=Gate.OURS if pod.gated else Gate.OPEN,
        )

    # What a test or the demo can do to it

    def set_pools(self, pools: Iterable[Pool]) -> None:
        self.pools = tuple(sorted(pools, key=lambda p: p.name))
        self._nodes.clear()
        self._touch(None)

    def reboot(self, name: NodeName) -> None:
        """The node restarts: workloads are gone, every GPU comes up on its vendor driver."""
        node = self.world.nodes[name]
        node.up, node.agent_alive, node.frozen = False, False, False
        node.unfinished.clear()
        node.boots += 1
        for gpu in node.gpus:
            gpu.driver, gpu.flipping, gpu.advertised, gpu.allocated_to = NVIDIA, False, False, ""
        self.kube.lose_workloads(name)
        self.hami.reset(node)
        self.operator.reset(node)
        self._touch(name)
        self.clock.call_later(self.world.timings.reboot, lambda: self._booted(node))

    def _booted(self, node: SimNode) -> None:
        node.up = True
        self.hami.reset(node)
        self.operator.reset(node)
        self.agents.start(node.name)
        self._touch(node.name)

    def lost_gpus(self) -> list[str]:
        """GPUs that nobody can use and nothing is about to repair: must be empty once all is quiet."""
        return [
            f"{node.name} {gpu.pci_address}"
            for node in self.world.nodes.values()
            for gpu in node.gpus
            if gpu.driver is None and not gpu.flipping and node.transition is None
        ]

    def modes(self) -> dict[Mode | None, int]:
        """How many GPUs really are in each mode; None for those on no driver."""
        counts: dict[Mode | None, int] = {}
        for node in self.world.nodes.values():
            for gpu in node.gpus:
                counts[gpu.mode] = counts.get(gpu.mode, 0) + 1
        return counts
