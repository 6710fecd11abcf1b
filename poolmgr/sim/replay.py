"""A lean replay of weeks of demand for scoring planners: the same planner protocol, one GPU move at a time.

What the full `fleet` does with agents, kubelets and HAMi in seconds is here one number, `flip_seconds`, with
the same order of things: a GPU that is to move is closed to new workloads at once, drains, and then its node
is closed while all GPUs of the move change together. VMs are bound in order of arrival, pods are placed
binpacked in order of arrival among those that fit. Held against the full fleet by
`tests/integration/sim/test_replay_against_fleet.py`.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from poolmgr.domain.demand import DeviceClaim, SharedPod, Slice, Vm
from poolmgr.domain.fleet import Gpu, Node, Pool, Transition
from poolmgr.domain.identifiers import (
    Generation,
    GpuUuid,
    LeaseEpoch,
    NodeName,
    PciAddress,
    PlanId,
    WorkloadUid,
)
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.plan import Move
from poolmgr.domain.sharing import RegisteredGpu, SharingState
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.forecast import EPOCH_MONDAY, bin_of
from poolmgr.planner.port import Planner
from poolmgr.sim.demand import Demand, FleetPlan
from poolmgr.sim.tally import Tally

ORIGIN = EPOCH_MONDAY + 2_900 * 7 * 86_400.0
"""Unix seconds of the window's begin as planners see it: a Monday, as in the session traces."""

CARD_MIB = 24_000
"""Memory of every simulated card: openb tells shares of a card, not MiB, so one size serves all models."""


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    flip_seconds: float = 60.0
    tick_seconds: float = 10.0
    """A planner is asked so often when something has changed."""
    idle_tick_seconds: float = 60.0
    """And so often when nothing has."""
    patience_seconds: float = 300.0
    binds_per_second: float = 5.0
    on_release: bool = False
    """Ask the planner the moment a GPU falls free, before HAMi refills it: how a per-claim allocator that
    sits in the scheduler sees it. False for everything that watches from outside."""


@dataclass(slots=True)
class _Gpu:
    index: int
    node: int
    address: PciAddress
    uuid: GpuUuid
    model: int
    mode: Mode
    mode_since: float = -1e9
    desired: Mode = Mode.SHARED
    fenced: bool = False
    vm: int = -1
    used_milli: int = 0
    pods: dict[int, None] = field(default_factory=dict)

    @property
    def open_to_pods(self) -> bool:
        return self.mode is Mode.SHARED and not self.fenced


@dataclass(slots=True)
class _Node:
    name: NodeName
    gpus: list[_Gpu]
    nvswitch: bool
    move: Transition | None = None
    closed: bool = False
    """While its GPUs change driver."""
    view: Node | None = None


class Replay:
    """One run: demand and fleet in, figures out. Deterministic."""

    def __init__(
        self,
        demand: Demand,
        fleet: FleetPlan,
        pool: Pool,
        planner: Planner,
        settings: ReplaySettings,
        *,
        passthrough_at_start: int,
        memory: Any = None,
    ) -> None:
        self._demand = demand
        self._settings = settings
        self._planner = planner
        self._pool = pool
        self._models = fleet.models
        self._memory = memory
        self.now = 0.0
        self._events: list[tuple[float, int, str, int]] = []
        self._count = 0
        self._nodes: list[_Node] = []
        self._gpus: list[_Gpu] = []
        for n in range(len(fleet.gpus)):
            node = _Node(NodeName(f"node-{n:05d}"), [], bool(fleet.nvswitch[n]))
            for g in range(int(fleet.gpus[n])):
                gpu = _Gpu(
                    len(self._gpus),
                    n,
                    PciAddress(f"0000:{0x10 + g:02x}:00.0"),
                    GpuUuid(f"GPU-{n:05d}-{g}"),
                    int(fleet.model[n]),
                    Mode.SHARED,
                )
                if gpu.index < passthrough_at_start:
                    gpu.mode = gpu.desired = Mode.PASSTHROUGH
                node.gpus.append(gpu)
                self._gpus.append(gpu)
            self._nodes.append(node)
        self._by_address = {(n.name, g.address): g for n in self._nodes for g in n.gpus}
        self._registered = {
            g.uuid: RegisteredGpu(g.uuid, 10, CARD_MIB, 100, self._models[g.model], True) for g in self._gpus
        }
        self._waiting_vms: dict[int, None] = {}
        self._vm_views: dict[int, Vm] = {}
        self._vm_gpus: dict[int, list[_Gpu]] = {}
        self._queues: dict[tuple[int, int], deque[int]] = {}
        self._pod_views: dict[int, SharedPod] = {}
        self._pod_started: dict[int, float] = {}
        self._pod_gpu: dict[int, _Gpu] = {}
        self._pod_runs: dict[int, int] = {}
        self._next_bind = -1e18
        self._generation = 0
        self._dirty = True
        self.tally = Tally(demand, fleet.total, settings.flip_seconds, settings.patience_seconds)
        self.plan_seconds: list[float] = []

    # The run

    def run(self) -> Tally:
        """Replay the whole window."""
        demand, settings = self._demand, self._settings
        for vm in range(len(demand.vm_start)):
            self._at(float(demand.vm_start[vm]), "vm", vm)
        for pod in range(len(demand.pod_start)):
            self._at(float(demand.pod_start[pod]), "pod", pod)
        tick, decided = 0.0, -settings.idle_tick_seconds
        while tick < demand.horizon:
            self._drain_events(tick)
            self.now = tick
            if self._dirty or tick - decided >= settings.idle_tick_seconds:
                self._decide()
                decided = tick
            tick += settings.tick_seconds
        self._drain_events(demand.horizon)
        self.now = demand.horizon
        self._close()
        return self.tally

    def _at(self, at: float, kind: str, subject: int) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, kind, subject))

    def _drain_events(self, until: float) -> None:
        events = self._events
        while events and events[0][0] <= until:
            at, _, kind, subject = heapq.heappop(events)
            self.now = max(self.now, at)
            match kind:
                case "vm":
                    self._vm_arrives(subject)
                case "vm-end":
                    self._vm_ends(subject)
                case "vm-late":
                    self._vm_gives_up(subject)
                case "pod":
                    self._pod_arrives(subject)
                case "pod-end":
                    self._pod_ends(subject)
                case "drain-end":
                    self._drain_times_out(subject)
                case "flip":
                    self._flipped(subject)

    # VMs

    def _vm_arrives(self, vm: int) -> None:
        if self._demand.vm_end[vm] <= self.now:
            return
        self._dirty = True
        self.tally.vm_asked(vm, self.now)
        self._waiting_vms[vm] = None
        self._vm_views[vm] = self._vm_view(vm)
        self._at(float(self._demand.vm_start[vm]) + self._settings.patience_seconds, "vm-late", vm)
        self._bind_vms()
        if vm in self._waiting_vms and self._settings.on_release:
            self._decide()

    def _vm_view(self, vm: int) -> Vm:
        demand, gpus = self._demand, self._vm_gpus.get(vm, [])
        at = ORIGIN + float(demand.vm_start[vm])
        node = self._nodes[gpus[0].node].name if gpus else None
        idle_at = at + float(demand.vm_idle_after[vm])
        return Vm(
            uid=WorkloadUid(f"vm-{vm:07d}"),
            namespace="desktops",
            name=f"desktop-{vm:07d}",
            claims=(DeviceClaim(resource_of(int(demand.vm_model[vm])), int(demand.vm_gpus[vm])),),
            node=node,
            created_at=at,
            waiting_since=None if gpus else at,
            launcher_uid=f"launcher-{vm:07d}",
            devices=tuple((self._nodes[g.node].name, g.address) for g in gpus),
            patience_until=at + self._settings.patience_seconds,
            idle_since=idle_at if gpus and idle_at <= ORIGIN + self.now else None,
        )

    def _bind_vms(self) -> None:
        """Oldest first; on the node with most free GPUs of the kind, as a spreading scheduler would."""
        for vm in list(self._waiting_vms):
            wanted, model = int(self._demand.vm_gpus[vm]), int(self._demand.vm_model[vm])
            best: list[_Gpu] = []
            for node in self._nodes:
                if node.closed or node.gpus[0].model != model:
                    continue
                free = [
                    g for g in node.gpus if g.vm < 0 and g.mode is Mode.PASSTHROUGH and g.desired is g.mode
                ]
                if len(free) >= max(wanted, len(best) + 1):
                    best = free
            if not best:
                continue
            del self._waiting_vms[vm]
            taken = best[:wanted]
            self._vm_gpus[vm] = taken
            for gpu in taken:
                gpu.vm = vm
                self._soil(gpu.node)
            self._vm_views[vm] = self._vm_view(vm)
            self.tally.vm_bound(vm, self.now)
            self._at(float(self._demand.vm_end[vm]), "vm-end", vm)

    def _vm_ends(self, vm: int) -> None:
        for gpu in self._vm_gpus.pop(vm, []):
            gpu.vm = -1
            self._soil(gpu.node)
        self._vm_views.pop(vm, None)
        self.tally.vm_ended(vm, self.now)
        self._bind_vms()
        if self._settings.on_release:
            self._decide()

    def _vm_gives_up(self, vm: int) -> None:
        if vm in self._waiting_vms:
            del self._waiting_vms[vm]
            self._vm_views.pop(vm, None)
            self._dirty = True

    # Pods

    def _pod_arrives(self, pod: int) -> None:
        self._dirty = True
        self.tally.pod_asked(pod, self.now)
        key = (int(self._demand.pod_milli[pod]), int(self._demand.pod_models[pod]))
        self._queues.setdefault(key, deque()).append(pod)
        self._pod_views[pod] = self._pod_view(pod)
        self._place(only=key)

    def _pod_view(self, pod: int) -> SharedPod:
        demand, gpu = self._demand, self._pod_gpu.get(pod)
        milli, best_effort = int(demand.pod_milli[pod]), bool(demand.pod_best_effort[pod])
        memory, cores = CARD_MIB * milli // 1000, milli // 10
        mask = int(demand.pod_models[pod])
        every = mask == (1 << len(self._models)) - 1
        return SharedPod(
            uid=WorkloadUid(f"pod-{pod:07d}"),
            namespace="batch",
            name=f"job-{pod:07d}",
            memory_mib=memory,
            cores_percent=cores,
            node=self._nodes[gpu.node].name if gpu else None,
            slices=(Slice(gpu.uuid, memory, cores),) if gpu else (),
            created_at=ORIGIN + float(demand.pod_start[pod]),
            started_at=ORIGIN + self._pod_started[pod] if gpu else None,
            waiting_since=None if gpu else ORIGIN + float(demand.pod_start[pod]),
            models=() if every else tuple(m for n, m in enumerate(self._models) if mask >> n & 1),
            best_effort=best_effort,
            evictable=best_effort,
        )

    def _place(self, only: tuple[int, int] | None = None) -> None:
        """HAMi: oldest pod that fits, fullest GPU that has the room, as long as anything fits."""
        room = self._room()
        while True:
            best: tuple[int, tuple[int, int], _Gpu] | None = None
            for key in (only,) if only else tuple(self._queues):
                queue = self._queues.get(key)
                if not queue or (best is not None and queue[0] > best[0]):
                    continue
                gpu = self._fullest(room, *key)
                if gpu is not None:
                    best = (queue[0], key, gpu)
            if best is None:
                return
            pod, key, gpu = best
            self._queues[key].popleft()
            if not self._queues[key]:
                del self._queues[key]
            self._start(pod, gpu)
            if only:
                return

    def _room(self) -> list[_Gpu]:
        return [
            g
            for node in self._nodes
            if not node.closed
            for g in node.gpus
            if g.mode is Mode.SHARED and not g.fenced and g.used_milli < 1000
        ]

    def _fullest(self, room: list[_Gpu], milli: int, mask: int) -> _Gpu | None:
        best: _Gpu | None = None
        for gpu in room:
            fits = gpu.used_milli + milli <= 1000 and mask >> gpu.model & 1 and len(gpu.pods) < 10
            if fits and (best is None or gpu.used_milli > best.used_milli):
                best = gpu
        return best

    def _start(self, pod: int, gpu: _Gpu) -> None:
        milli = int(self._demand.pod_milli[pod])
        gpu.used_milli += milli
        gpu.pods[pod] = None
        self._pod_gpu[pod] = gpu
        at = max(self.now, self._next_bind)
        self._next_bind = at + 1.0 / self._settings.binds_per_second
        self._pod_started[pod] = at
        self._pod_views[pod] = self._pod_view(pod)
        self._soil(gpu.node)
        self.tally.pod_started(pod, at)
        run = self._pod_runs.get(pod, 0)
        self._at(at + float(self._demand.pod_seconds[pod]), "pod-end", pod * 64 + run)

    def _pod_ends(self, key: int) -> None:
        pod, run = divmod(key, 64)
        if self._pod_runs.get(pod, 0) != run or pod not in self._pod_gpu:
            return
        self.tally.pod_ended(pod, self.now)
        self._release(pod)

    def _release(self, pod: int) -> None:
        gpu = self._pod_gpu.pop(pod)
        gpu.used_milli -= int(self._demand.pod_milli[pod])
        del gpu.pods[pod]
        self._pod_started.pop(pod, None)
        self._pod_views.pop(pod, None)
        self._soil(gpu.node)
        if gpu.fenced:
            self._drained(self._nodes[gpu.node])
        elif self._settings.on_release and self._waiting_vms and not gpu.pods:
            self._decide()
        self._place()

    def _evict(self, pod: int) -> None:
        gpu = self._pod_gpu[pod]
        self.tally.pod_evicted(pod, self.now, self._pod_started[pod])
        self._pod_runs[pod] = self._pod_runs.get(pod, 0) + 1
        gpu.used_milli -= int(self._demand.pod_milli[pod])
        del gpu.pods[pod], self._pod_gpu[pod], self._pod_started[pod]
        self._soil(gpu.node)
        key = (int(self._demand.pod_milli[pod]), int(self._demand.pod_models[pod]))
        queue = self._queues.setdefault(key, deque())
        queue.appendleft(pod)
        self._pod_views[pod] = self._pod_view(pod)

    # Moves

    def _decide(self) -> None:
        self._dirty = False
        view = self.snapshot()
        begun = perf_counter()
        decision = self._planner.decide(view, self._memory)
        self.plan_seconds.append(perf_counter() - begun)
        self._memory = decision.memory
        groups: dict[NodeName, list[Move]] = {}
        for move in decision.plan.moves:
            groups.setdefault(move.node, []).append(move)
        for moves in groups.values():
            self._begin(moves, decision.plan.plan_id)

    def _begin(self, moves: list[Move], plan_id: PlanId) -> None:
        gpus = [self._by_address[(m.node, m.pci_address)] for m in moves]
        node = self._nodes[gpus[0].node]
        to_mode = moves[0].to_mode
        gpus = [g for g in gpus if g.mode is not to_mode and g.vm < 0]
        if node.move is not None or not gpus:
            return
        node.move = Transition(
            node.name,
            plan_id,
            LeaseEpoch(1),
            to_mode,
            tuple(g.address for g in gpus),
            Step.DRAIN,
            ORIGIN + self.now,
            ORIGIN + self.now,
            moves[0].reason,
        )
        doomed = {int(uid.removeprefix("pod-")) for move in moves for uid in move.evict}
        for gpu in gpus:
            gpu.fenced, gpu.desired = True, to_mode
            for pod in [p for p in gpu.pods if p in doomed]:
                self._evict(pod)
        self._soil(gpus[0].node)
        self.tally.move_begun(len(gpus), self.now)
        self._at(self.now + self._pool.drain_timeout_seconds, "drain-end", gpus[0].node)
        self._drained(node)
        if doomed:
            self._place()

    def _moving(self, node: _Node) -> list[_Gpu]:
        move = node.move
        return [g for g in node.gpus if move is not None and g.address in move.devices]

    def _drained(self, node: _Node) -> None:
        """Once nothing is left on any of them, the node closes and they change together."""
        gpus = self._moving(node)
        if node.closed or any(g.pods for g in gpus):
            return
        node.closed = True
        self._soil(gpus[0].node)
        self._at(self.now + self._settings.flip_seconds, "flip", gpus[0].node)

    def _drain_times_out(self, index: int) -> None:
        """As the executor does: what has not drained in time is opened again."""
        node = self._nodes[index]
        move = node.move
        if move is None or node.closed:
            return
        if ORIGIN + self.now - move.started_at < self._pool.drain_timeout_seconds - 1e-6:
            return
        for gpu in self._moving(node):
            gpu.fenced, gpu.desired = False, gpu.mode
        node.move = None
        self.tally.rolled_back(self.now)
        self._soil(index)
        self._place()

    def _flipped(self, index: int) -> None:
        node = self._nodes[index]
        for gpu in self._moving(node):
            gpu.mode = gpu.desired
            gpu.fenced = False
            gpu.mode_since = self.now
            self.tally.flipped(self.now)
        node.move, node.closed = None, False
        self._soil(index)
        self._bind_vms()
        self._place()

    # What the planner sees

    def _soil(self, node: int) -> None:
        self._nodes[node].view = None
        self._dirty = True

    def snapshot(self) -> ClusterSnapshot:
        self._generation += 1
        for node in self._nodes:
            if node.view is None:
                node.view = self._node_view(node)
        return ClusterSnapshot(
            generation=Generation(self._generation),
            taken_at=ORIGIN + self.now,
            synced=True,
            nodes=tuple(node.view for node in self._nodes if node.view is not None),
            pools=(self._pool,),
            vms=tuple(self._vm_views.values()),
            pods=tuple(self._pod_views.values()),
        )

    def _node_view(self, node: _Node) -> Node:
        gpus = tuple(self._gpu_view(node, g) for g in node.gpus)
        shared = tuple(self._registered[g.uuid] for g in node.gpus if g.mode is Mode.SHARED)
        fenced = frozenset(g.uuid for g in node.gpus if g.fenced)
        return Node(
            name=node.name,
            gpus=gpus,
            cordoned=node.closed,
            cordoned_by_us=node.closed,
            transition=node.move,
            sharing=SharingState((2, 10), True, 1, True, 10 * len(shared), shared, fenced=fenced),
        )

    def _gpu_view(self, node: _Node, gpu: _Gpu) -> Gpu:
        return Gpu(
            node=node.name,
            pci_address=gpu.address,
            model=self._models[gpu.model],
            memory_mib=CARD_MIB,
            observed_mode=gpu.mode,
            phase=DevicePhase.MOVING if gpu.fenced and node.closed else DevicePhase.READY,
            uuid=gpu.uuid,
            resource_name=resource_of(gpu.model),
            desired_mode=gpu.desired,
            pool=self._pool.name,
            iommu_group=gpu.index,
            nvswitch_domain=node.name if node.nvswitch else "",
            allocated_to=f"launcher-{gpu.vm:07d}" if gpu.vm >= 0 else "",
            advertised=gpu.mode is Mode.PASSTHROUGH and gpu.desired is gpu.mode,
            mode_since=ORIGIN + gpu.mode_since,
        )

    def _close(self) -> None:
        for vm in list(self._vm_gpus):
            self.tally.vm_ended(vm, self.now)
        for pod in list(self._pod_gpu):
            self.tally.pod_ended(pod, self.now, unfinished=True)
        self.tally.close(self.now)


def remembered(demand: Demand, models: tuple[str, ...], pool: Pool) -> Any:
    """The planner's memory as a manager that has watched the weeks before would hold it; None if none did."""
    shelves = {}
    for model, levels in zip(models, demand.weekly_history, strict=False):
        if levels:
            first = bin_of(ORIGIN) - len(levels)
            shelves[f"{pool.name}/{model}"] = {"ledger": {"first": first, "levels": list(levels)}}
    return {"shelves": shelves} if shelves else None


def resource_of(model: int) -> str:
    return f"nvidia.com/MODEL_{model}"
