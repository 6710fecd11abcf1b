"""Life cycles: people start VMs and pods, kube-scheduler binds launchers, workloads end or are evicted."""

from collections.abc import Callable, Iterable
from functools import partial

from poolmgr.domain.identifiers import NodeName
from poolmgr.sim.agent import SimAgents
from poolmgr.sim.clock import VirtualClock
from poolmgr.sim.hami import SimHami
from poolmgr.sim.world import PodRequest, SimGpu, SimNode, SimPod, SimVm, VmRequest, World


class SimKube:
    def __init__(self, world: World, clock: VirtualClock, touch: Callable[[NodeName | None], None]) -> None:
        self._world = world
        self._clock = clock
        self._touch = touch
        self._due = False
        self.scheduler_up = True
        """False: nobody binds launchers."""
        self.agents: SimAgents
        self.hami: SimHami
        self.gave_up: list[SimVm] = []
        """VMs whose person's patience ended before a GPU was there."""
        self.finished: list[SimVm | SimPod] = []
        self.on_bound: list[Callable[[SimVm], None]] = []

    def schedule(self, requests: Iterable[VmRequest | PodRequest]) -> None:
        """Let each request appear at its time (virtual seconds)."""
        for request in requests:
            self._clock.call_at(request.at, partial(self._create, request))

    def _create(self, request: VmRequest | PodRequest) -> None:
        if isinstance(request, VmRequest):
            self.create_vm(request)
        else:
            self.create_pod(request)

    # Virtual machines

    def create_vm(self, request: VmRequest) -> SimVm:
        uid = f"vmi-{request.namespace}-{request.name}"
        vm = SimVm(uid, request, self._clock.now(), launcher_uid=f"launcher-{uid}", gated=request.gated)
        self._world.vms[uid] = vm
        if request.patience_seconds is not None:
            self._clock.call_later(request.patience_seconds, lambda: self._lose_patience(vm))
        self._touch(None)
        self.poke()
        return vm

    def _lose_patience(self, vm: SimVm) -> None:
        if vm.node is None and self._world.vms.pop(vm.uid, None) is not None:
            vm.ended = True
            self.gave_up.append(vm)
            self._touch(None)

    def poke(self) -> None:
        """Something that binding a launcher depends on changed."""
        if not self._due:
            self._due = True
            self._clock.call_later(self._world.timings.vm_bind, self._bind_launchers)

    def _bind_launchers(self) -> None:
        self._due = False
        for vm in list(self._world.vms.values()):
            if vm.node is None and not vm.gated and self.scheduler_up:
                self._bind(vm)

    def _bind(self, vm: SimVm) -> None:
        """Least allocated node first, as kube-scheduler's default does by CPU and memory."""
        best: tuple[float, SimNode, list[SimGpu]] | None = None
        for node in self._world.nodes.values():
            if node.unschedulable or not node.up:
                continue
            if vm.request.placement.denial(node.name, node.labels, node.taints):
                continue
            free = [
                g
                for g in node.gpus
                if g.advertised and not g.allocated_to and g.resource_name == vm.request.resource_name
            ]
            cpu, memory = self._world.free_compute(node)
            short = cpu < vm.request.cpu_milli or memory < vm.request.memory_mib
            if len(free) < vm.request.gpus or short:
                continue
            score = cpu / node.cpu_milli + memory / node.memory_mib
            if best is None or score > best[0]:
                best = (score, node, free[: vm.request.gpus])
        if best is None:
            return
        _, node, gpus = best
        vm.node, vm.started_at = node.name, self._clock.now()
        vm.devices = tuple(g.pci_address for g in gpus)
        for gpu in gpus:
            gpu.allocated_to = vm.launcher_uid
        self._clock.call_later(vm.request.duration_seconds, lambda: self.stop_vm(vm.uid))
        self.agents.poke(node.name)
        self._touch(node.name)
        for listener in self.on_bound:
            listener(vm)

    def stop_vm(self, uid: str) -> None:
        """The person ends the session (or the owner's policy stops it)."""
        vm = self._world.vms.get(uid)
        if vm is None or vm.ended:
            return
        vm.ended = True
        self._clock.call_later(self._world.timings.termination, lambda: self._vm_gone(vm))

    def _vm_gone(self, vm: SimVm) -> None:
        self._world.vms.pop(vm.uid, None)
        self.finished.append(vm)
        if vm.node is not None:
            for gpu in self._world.nodes[vm.node].gpus:
                if gpu.allocated_to == vm.launcher_uid:
                    gpu.allocated_to = ""
            self.agents.poke(vm.node)
        self._touch(vm.node)
        self.poke()

    # Pods

    def create_pod(self, request: PodRequest, run: int = 1) -> SimPod:
        uid = f"pod-{request.namespace}-{request.name}-{run}"
        pod = SimPod(uid, request, self._clock.now(), run=run, gated=request.gated)
        self._world.pods[uid] = pod
        self._touch(None)
        self.hami.poke()
        return pod

    def pod_started(self, pod: SimPod) -> None:
        pod.started_at = self._clock.now()
        self._clock.call_later(pod.request.duration_seconds, lambda: self._end_pod(pod))
        if pod.node is not None:
            self.agents.poke(pod.node)

    def _end_pod(self, pod: SimPod) -> None:
        if pod.uid in self._world.pods and not pod.terminating:
            pod.terminating = pod.ended = True
            self._clock.call_later(self._world.timings.termination, lambda: self._pod_gone(pod))

    def evict(self, pod: SimPod) -> None:
        """It terminates, and its owner creates it again: work done so far is lost."""
        if pod.terminating:
            return
        pod.terminating = True
        self._clock.call_later(self._world.timings.termination, lambda: self._evicted(pod))
        self._touch(pod.node)

    def _evicted(self, pod: SimPod) -> None:
        self._pod_gone(pod)
        self.create_pod(pod.request, pod.run + 1)

    def _pod_gone(self, pod: SimPod) -> None:
        if self._world.pods.pop(pod.uid, None) is None:
            return
        if pod.ended:
            self.finished.append(pod)
        if pod.node is not None:
            self.agents.poke(pod.node)
        self._touch(pod.node)
        self.hami.poke()

    # Nodes

    def lose_workloads(self, node: NodeName) -> None:
        """The node went down: its VMs end, its pods come back elsewhere."""
        for vm in [v for v in self._world.vms.values() if v.node == node]:
            vm.ended = True
            self._vm_gone(vm)
        for pod in self._world.pods_on(node):
            self._evicted(pod)
