"""The node side: one simulated agent per node, keeping the contract of the real one.

It rebinds a GPU only when the transition names it and stands at Rebind with an epoch not lower than the
journal's, or when nothing moves and the GPU is not where it is wanted; never under a holder. It offers a GPU
to the kubelet exactly while that is verified on vfio-pci and wanted there. Its report is all that anyone
else learns, and a dead agent's last report stays.
"""

from collections.abc import Callable
from dataclasses import dataclass

from poolmgr.domain.directives import is_closed_to_vms
from poolmgr.domain.fleet import Gpu, Holder
from poolmgr.domain.identifiers import NodeName, PciAddress, PlanId
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.reasons import Reason
from poolmgr.sim.clock import VirtualClock
from poolmgr.sim.world import NVIDIA, VFIO, SimGpu, SimNode, SpecRead, World


def holders_of(world: World, node: SimNode, gpu: SimGpu) -> tuple[Holder, ...]:
    """Who has the device open: the guest's QEMU, the containers' processes, HAMi's own plugin."""
    if gpu.driver == VFIO:
        path = f"/dev/vfio/{gpu.iommu_group}"
        return (Holder(4000, "qemu-system-x86", gpu.allocated_to, path),) if gpu.allocated_to else ()
    if gpu.driver != NVIDIA:
        return ()
    path = f"/dev/nvidia{node.gpus.index(gpu)}"
    pods = tuple(
        Holder(5000 + n, "python", pod.uid, path)
        for n, (pod, _) in enumerate(world.slices_on(gpu.uuid))
        if pod.started_at is not None
    )
    plugin = (Holder(300, "nvidia-device-plugin", "", path),) if node.sharing.pods else ()
    operands = tuple(
        Holder(600 + n, name[:15], operand.uid, path)
        for n, (name, operand) in enumerate(node.operands.items())
        if operand.holds
    )
    return pods + plugin + operands


@dataclass
class FlipFaults:
    """Flips that are to fail, by (node, PCI address): how many more times."""

    remaining: dict[tuple[NodeName, PciAddress], int]

    def take(self, gpu: SimGpu) -> bool:
        key = (gpu.node, gpu.pci_address)
        if self.remaining.get(key, 0) <= 0:
            return False
        self.remaining[key] -= 1
        return True


class SimAgents:
    """The agents of all nodes."""

    def __init__(self, world: World, clock: VirtualClock, touch: Callable[[NodeName], None]) -> None:
        self._world = world
        self._clock = clock
        self._touch = touch
        self.faults = FlipFaults({})
        self.clung_to: set[tuple[NodeName, PciAddress]] = set()
        """GPUs that some process has open again at every last look before they would go to passthrough."""

    def poke(self, name: NodeName) -> None:
        """Something on the node changed: the agent looks after its reaction time."""
        node = self._world.nodes[name]
        if not node.agent_busy:
            node.agent_busy = True
            self._clock.call_later(self._world.timings.agent_reaction, lambda: self._sync(node))

    def _sync(self, node: SimNode) -> None:
        node.agent_busy = False
        if not (node.agent_alive and node.up) or node.frozen:
            return
        if node.speaks:
            node.read = SpecRead(dict(node.desired), node.transition)
        self._act(node, rebinding=node.speaks)
        if node.speaks:
            node.observed_generation = node.generation
            self.report(node)

    def _act(self, node: SimNode, *, rebinding: bool) -> None:
        """Do as the spec says that was read last. `rebinding`: not without reading it anew, as the agent does right before it
        takes a GPU from its driver."""
        move = node.read.transition
        stale = move is not None and move.epoch < node.highest_epoch
        if move is not None and not stale:
            node.highest_epoch = move.epoch
        for gpu in node.gpus:
            wanted = node.read.desired.get(gpu.pci_address)
            if not gpu.flipping and not gpu.quarantined:
                gpu.reason = gpu.message = ""
                if stale and move is not None and gpu.pci_address in move.devices:
                    gpu.reason = Reason.STALE_EPOCH
                    gpu.message = f"epoch {move.epoch} is older than {node.highest_epoch}; not acted on"
                elif rebinding and wanted is not None and self._may_rebind(node, gpu, wanted[0]):
                    self._rebind(node, gpu, *wanted)
            self._offer(node, gpu, wanted[0] if wanted else gpu.mode)

    def _may_rebind(self, node: SimNode, gpu: SimGpu, wanted: Mode) -> bool:
        move = node.read.transition
        if move is not None and gpu.pci_address in move.devices and move.step.order <= Step.REBIND.order:
            return move.step is Step.REBIND and wanted is move.to_mode
        # On a driver it may be in HAMi's books, as after a reboot: the manager has to open a transition.
        return gpu.mode is None

    def _rebind(self, node: SimNode, gpu: SimGpu, wanted: Mode, plan_id: PlanId) -> None:
        if gpu.mode is wanted:
            gpu.plan_id = plan_id
            return
        holders = holders_of(self._world, node, gpu)
        if wanted is Mode.PASSTHROUGH and (gpu.node, gpu.pci_address) in self.clung_to:
            holders += (Holder(7, "monitor", "", f"/dev/nvidia{node.gpus.index(gpu)}"),)
        if holders or gpu.allocated_to:
            held = holders[0] if holders else Holder(0, "kubelet", gpu.allocated_to)
            gpu.reason = Reason.HOLDER_PRESENT
            gpu.message = f"{held.path} is open in {held.command} (pid {held.pid}); not unbound"
            return
        gpu.flipping, gpu.driver = True, None
        boots = node.boots
        self._clock.call_later(
            self._world.timings.flip, lambda: self._bound(node, gpu, wanted, plan_id, boots)
        )

    def _bound(self, node: SimNode, gpu: SimGpu, wanted: Mode, plan_id: PlanId, boots: int) -> None:
        if node.boots != boots or not gpu.flipping:
            return
        if node.frozen:
            node.unfinished.append(lambda: self._bound(node, gpu, wanted, plan_id, boots))
            return
        gpu.flipping = False
        if not node.agent_alive:
            return  # died between unbind and bind: on no driver until a successor repairs it
        if self.faults.take(gpu):
            gpu.quarantined = Reason.BIND_FAILED
            gpu.message = "the driver did not take the device (injected fault)"
        else:
            gpu.driver = VFIO if wanted is Mode.PASSTHROUGH else NVIDIA
            gpu.plan_id = plan_id
            gpu.mode_since = self._clock.now()
        self.poke(node.name)

    def _offer(self, node: SimNode, gpu: SimGpu, wanted: Mode | None) -> None:
        """Advertise or withdraw; the kubelet shows it after its own delay."""
        offer = self._offers(node, gpu, wanted)
        if offer != gpu.advertised:
            self._clock.call_later(self._world.timings.kubelet, lambda: self._offered(node, gpu))

    def _offers(self, node: SimNode, gpu: SimGpu, wanted: Mode | None) -> bool:
        if gpu.driver != VFIO or wanted is not Mode.PASSTHROUGH or gpu.quarantined:
            return False
        return not is_closed_to_vms(node.directives, gpu.pci_address)

    def _offered(self, node: SimNode, gpu: SimGpu) -> None:
        if not (node.agent_alive and node.up) or node.frozen:
            return
        desired = node.read.desired.get(gpu.pci_address)
        wanted = desired[0] if desired else gpu.mode
        offer = self._offers(node, gpu, wanted)
        if offer and not gpu.advertised and any(r.uuid == gpu.uuid for r in node.sharing.registered):
            self._world.violations.append(f"{node.name} {gpu.pci_address} is offered to VMs and to HAMi")
        if offer != gpu.advertised:
            gpu.advertised = offer
            self.report(node)

    def report(self, node: SimNode) -> None:
        """Publish the node's status, if the agent can."""
        if node.speaks:
            node.reported = tuple(self._observe(node, gpu) for gpu in node.gpus)
            self._touch(node.name)

    def _observe(self, node: SimNode, gpu: SimGpu) -> Gpu:
        phase = DevicePhase.READY
        if gpu.quarantined:
            phase = DevicePhase.QUARANTINED
        elif gpu.flipping:
            phase = DevicePhase.MOVING
        elif gpu.driver is None:
            phase = DevicePhase.UNBOUND
        return Gpu(
            node=gpu.node,
            pci_address=gpu.pci_address,
            model=gpu.model,
            memory_mib=gpu.memory_mib,
            observed_mode=gpu.mode,
            phase=phase,
            uuid=gpu.uuid,
            resource_name=gpu.resource_name,
            iommu_group=gpu.iommu_group,
            numa_node=gpu.numa_node,
            nvswitch_domain=gpu.nvswitch_domain,
            holders=holders_of(self._world, node, gpu),
            allocated_to=gpu.allocated_to,
            advertised=gpu.advertised,
            plan_id=gpu.plan_id,
            reason=gpu.quarantined or gpu.reason,
            message=gpu.message,
            mode_since=gpu.mode_since,
        )

    def kill(self, name: NodeName) -> None:
        """The agent dies; what it began on the device stays as it is."""
        self._world.nodes[name].agent_alive = False
        self._touch(name)

    def start(self, name: NodeName) -> None:
        """The DaemonSet brings it back; it reads its journal and the spec and goes on."""
        self._world.nodes[name].agent_alive = True
        self.poke(name)

    def cut_off(self, name: NodeName) -> None:
        """The API server is out of its reach: it lives, finishes what it has begun and offers what it offered."""
        self._world.nodes[name].cut_off = True

    def reconnect(self, name: NodeName) -> None:
        self._world.nodes[name].cut_off = False
        self.poke(name)

    def freeze(self, name: NodeName) -> None:
        """It stands still at the worst place: its spec has just been read for the last time before a GPU is unbound."""
        node = self._world.nodes[name]
        node.read = SpecRead(dict(node.desired), node.transition)
        node.frozen = True

    def thaw(self, name: NodeName) -> None:
        """It goes on where it was, as if no time had passed, and only then reads its spec."""
        node = self._world.nodes[name]
        node.frozen = False
        self._act(node, rebinding=True)
        unfinished, node.unfinished = node.unfinished, []
        for finish in unfinished:
            finish()
        self.poke(name)
