"""HAMi as far as its neighbours can tell: the plugin of each node, registration, and placement of pods.

Placement follows HAMi's scheduler: pods in order of arrival, at most `hami_binds_per_second`, one allocation
per node at a time, binpacked on nodes and GPUs. A device cordon takes effect at HAMi's next tick;
a node cordon at once.
"""

from collections.abc import Callable

from poolmgr.domain.demand import Slice
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.sharing import RegisteredGpu
from poolmgr.sim.clock import VirtualClock
from poolmgr.sim.world import NVIDIA, SimGpu, SimNode, SimPod, World
from poolmgr.wire.annotations import BEST_EFFORT_ONLY


class SimHami:
    def __init__(
        self,
        world: World,
        clock: VirtualClock,
        touch: Callable[[NodeName], None],
        started: Callable[[SimPod], None],
    ) -> None:
        self._world = world
        self._clock = clock
        self._touch = touch
        self._started = started
        self._due = False
        for node in world.nodes.values():
            self._register(node)
            self._look_at(node)
        clock.call_later(world.timings.hami_tick, self._tick)

    # The plugin of a node

    def set_plugin(self, node: SimNode, wanted: bool) -> None:
        sharing = node.sharing
        if sharing.wanted == wanted:
            return
        sharing.wanted = wanted
        if not wanted and sharing.handshake.startswith("Deleted"):
            sharing.handshake = ""  # left of an earlier time
        delay = self._world.timings.plugin_start if wanted else self._world.timings.plugin_stop
        self._clock.call_later(delay, lambda: self._follow_label(node))

    def _follow_label(self, node: SimNode) -> None:
        sharing = node.sharing
        if sharing.wanted and not sharing.pods and node.up:
            sharing.pods, sharing.ready = 1, True
            self._register(node)
        elif not sharing.wanted and sharing.pods:
            sharing.pods, sharing.ready = 0, False
            self._clock.call_later(self._world.timings.kubelet, lambda: self._dropped(node))
        self._touch(node.name)
        self.poke()

    def _dropped(self, node: SimNode) -> None:
        if not node.sharing.pods:
            node.sharing.allocatable = 0
            self._touch(node.name)

    def _register(self, node: SimNode) -> None:
        """What the plugin does once, at its start: the GPUs it finds are the GPUs it will ever know."""
        found = [g for g in node.gpus if g.driver == NVIDIA]
        for gpu in found:
            if gpu.advertised:
                self._world.violations.append(f"{node.name} {gpu.pci_address} is offered to HAMi and to VMs")
        if not found:
            return  # HAMi: "No devices found. Waiting indefinitely."
        node.sharing.registered = tuple(
            RegisteredGpu(
                g.uuid, self._world.split_count, g.memory_mib, 100, g.model, True, node.gpus.index(g)
            )
            for g in found
        )
        node.sharing.allocatable = self._world.split_count * len(found)

    def unregister(self, node: SimNode) -> None:
        node.sharing.registered = ()

    def reset(self, node: SimNode) -> None:
        """After a reboot of the node the plugin starts anew, if the label is there."""
        node.sharing.pods, node.sharing.ready, node.sharing.allocating = 0, False, ""
        node.sharing.allocatable = 0
        if node.sharing.wanted:
            self._clock.call_later(self._world.timings.plugin_start, lambda: self._follow_label(node))

    def _tick(self) -> None:
        """HAMi's scheduler looks at the nodes again."""
        for node in self._world.nodes.values():
            before = node.sharing.handshake
            self._look_at(node)
            if before != node.sharing.handshake:
                self._touch(node.name)
        self._clock.call_later(self._world.timings.hami_tick, self._tick)
        self.poke()

    def _look_at(self, node: SimNode) -> None:
        """Statements 32 to 44 of the contract (`e2e/hami/statements.yaml`), as the stand-in there does it."""
        sharing = node.sharing
        newer = sharing.version >= (2, 10)
        if not newer and not sharing.registered:
            return  # an error, at which it goes on to the next node: what it knew it goes on to know
        stamped = newer and not sharing.handshake.startswith("Requesting")
        if stamped:
            sharing.handshake = "Requesting_"
        if sharing.allocatable == 0 and sharing.known_slices > 0:
            sharing.known, sharing.known_slices = (), 0
            sharing.handshake = "" if newer else "Deleted_"
            return
        changed = stamped or sharing.allocatable != sharing.known_slices
        changed |= newer and sharing.registered != sharing.known_registration
        sharing.known_slices = sharing.allocatable
        if changed and sharing.registered and (newer or sharing.allocatable):
            sharing.known = sharing.known_registration = sharing.registered
            sharing.fence_seen = sharing.fence

    # Placement

    def poke(self) -> None:
        """Something that placement depends on changed."""
        if not self._due:
            self._due = True
            self._clock.call_later(1.0 / self._world.timings.hami_binds_per_second, self._place_next)

    def _place_next(self) -> None:
        self._due = False
        for pod in self._world.pods.values():
            if pod.node is None and not pod.terminating and not pod.gated and self._place(pod):
                self.poke()  # the next one after the client's pause
                return

    def _place(self, pod: SimPod) -> bool:
        best: tuple[float, NodeName, list[SimGpu]] | None = None
        for node in self._world.nodes.values():
            gpus = self._fitting(node, pod)
            if gpus is None:
                continue
            score = sum(self._load(g) for g in node.gpus) / len(node.gpus)
            if best is None or score > best[0]:
                best = (score, node.name, gpus)
        if best is None:
            return False
        _, name, gpus = best
        node = self._world.nodes[name]
        request = pod.request
        pod.node = name
        pod.slices = tuple(
            Slice(g.uuid, request.memory_mib or g.memory_mib, request.cores_percent) for g in gpus
        )
        node.sharing.allocating = pod.uid
        node.sharing.last_placement_at = self._clock.now()
        self._clock.call_later(self._world.timings.hami_bind, lambda: self._allocated(node, pod))
        self._touch(name)
        return True

    def _allocated(self, node: SimNode, pod: SimPod) -> None:
        if node.sharing.allocating == pod.uid:
            node.sharing.allocating = ""
        if pod.uid in self._world.pods and pod.node == node.name:
            held = [g for g in node.gpus if any(s.uuid == g.uuid for s in pod.slices)]
            if any(g.driver != NVIDIA for g in held):
                self._world.violations.append(
                    f"pod {pod.request.namespace}/{pod.request.name} was given a GPU of {node.name} "
                    "that had left its driver"
                )
            self._started(pod)
        self._touch(node.name)
        self.poke()

    def _load(self, gpu: SimGpu) -> float:
        return sum(s.memory_mib / gpu.memory_mib for _, s in self._world.slices_on(gpu.uuid))

    def _fitting(self, node: SimNode, pod: SimPod) -> list[SimGpu] | None:
        """The GPUs of the node that HAMi would give to the pod, None when it does not fit."""
        sharing, request = node.sharing, pod.request
        if node.unschedulable or not node.up or sharing.allocating or (sharing.wanted and not sharing.ready):
            return None
        if BEST_EFFORT_ONLY in node.labels and not request.best_effort:
            return None  # the node affinity that our webhook gives to every other container
        if request.placement.denial(node.name, node.labels, node.taints):
            return None
        cpu, memory = self._world.free_compute(node)
        if cpu < request.cpu_milli or memory < request.memory_request_mib:
            return None
        known = {r.uuid for r in sharing.known if r.healthy} - sharing.fence_seen
        fitting = [g for g in node.gpus if g.uuid in known - pod.excluded and self._accepts(g, pod)]
        if len(fitting) < request.gpus:
            return None
        if not sharing.wanted:  # we stopped the plugin under a scheduler that goes on to place pods
            arrival = (
                f"pod {request.namespace}/{request.name} comes to {node.name}, whose kubelet turns it away"
            )
            self._world.violations.append(f"{arrival}: HAMi's plugin is stopped there")
            return None
        fitting.sort(key=self._load, reverse=True)
        return fitting[: request.gpus]

    def _accepts(self, gpu: SimGpu, pod: SimPod) -> bool:
        request = pod.request
        wanted = request.models
        if wanted and not any(m.casefold() in gpu.model.casefold() for m in wanted):
            return False
        slices = [s for _, s in self._world.slices_on(gpu.uuid)]
        memory = sum(s.memory_mib for s in slices) + (request.memory_mib or gpu.memory_mib)
        cores = sum(s.cores_percent for s in slices) + request.cores_percent
        exclusive = request.cores_percent == 100 and bool(slices)
        return (
            not exclusive
            and memory <= gpu.memory_mib
            and cores <= 100
            and len(slices) < self._world.split_count
        )
