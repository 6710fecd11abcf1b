"""A lean replay of weeks of demand for scoring planners: the same planner protocol, one GPU move at a time.

What the full `fleet` does with agents, kubelets and HAMi in seconds is here one number, `flip_seconds`, with
the same order of things: a GPU that is to move is closed to new workloads at once, drains, and then its node
is closed while all GPUs of the move change together. VMs are bound in order of arrival, pods are placed
binpacked in order of arrival among those that fit. Held against the full fleet by
`tests/integration/bench/test_replay_against_fleet.py`.
"""

from time import perf_counter
from typing import Any

import numpy as np

from bench.replay.backlog import Backlog, Chooser, OpenGpus, fullest, open_gpus, shape_of, takes_pods
from bench.replay.demand import Demand, FleetPlan
from bench.replay.node_moves import NodeMoves
from bench.replay.outages import outages_of
from bench.replay.state import (
    ORIGIN,
    ReplayFleet,
    ReplayGpu,
    ReplaySettings,
    node_view,
    pod_view,
    vm_view,
)
from bench.replay.tally import Tally
from bench.replay.timeline import Timeline
from bench.replay.vm_binding import bindings
from poolmgr.domain.demand import SharedPod, Vm
from poolmgr.domain.fleet import IdleVmAction, Pool
from poolmgr.domain.identifiers import Generation, NodeName
from poolmgr.domain.plan import Move
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.interfaces import Planner

MOST_RUNS = 1 << 20
"""A pod's number and which of its runs ends are one number in the timeline: it may begin again so often."""


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
        learned: Any = None,
        choose: Chooser = fullest,
    ) -> None:
        self._demand = demand
        self._settings = settings
        self._planner = planner
        self._pool = pool
        self._models = fleet.models
        self._learned = learned
        self._timeline = Timeline()
        self._fleet = ReplayFleet(fleet, passthrough_at_start)
        self.tally = Tally(demand, fleet.total, settings.flip_seconds, settings.patience_seconds)
        self._moves = NodeMoves(self._fleet, pool, settings, self._timeline, self.tally, self)
        self._handlers = {
            "vm": self._vm_arrives,
            "vm-end": self.end_vm,
            "vm-late": self._vm_gives_up,
            "vm-idle": self._vm_falls_idle,
            "vm-stop": self._vm_is_stopped,
            "pod": self._pod_arrives,
            "pod-end": self._pod_ends,
            "drain-end": self._moves.drain_times_out,
            "flip": self._moves.flipped,
            "mended": self._moves.mended,
            "away": self._node_goes_away,
            "back": self._moves.come_back,
        }
        self._waiting_vms: dict[int, None] = {}
        self._vm_asked: dict[int, float] = {}
        self._vm_views: dict[int, Vm] = {}
        self._vm_gpus: dict[int, list[ReplayGpu]] = {}
        self._backlog = Backlog(choose)
        self._pod_views: dict[int, SharedPod] = {}
        self._pod_started: dict[int, float] = {}
        self._pod_gpu: dict[int, ReplayGpu] = {}
        self._pod_runs: dict[int, int] = {}
        self._next_bind = -1e18
        self._generation = 0
        self.plan_seconds: list[float] = []

    def run(self) -> Tally:
        demand, settings = self._demand, self._settings
        for kind, starts in (("vm", demand.vm_start), ("pod", demand.pod_start)):
            for subject, at in enumerate(starts.tolist()):
                self._timeline.at(at, kind, subject)
        for index, begun, ended in outages_of(len(self._fleet.nodes), demand.horizon, settings):
            self._timeline.at(begun, "away", index)
            self._timeline.at(ended, "back", index)
        tick, decided = 0.0, -settings.idle_tick_seconds
        while tick < demand.horizon:
            self._happen(tick)
            if self._fleet.dirty or tick - decided >= settings.idle_tick_seconds:
                self._decide()
                decided = tick
            tick += settings.tick_seconds
        self._happen(demand.horizon)
        self._close()
        return self.tally

    @property
    def now(self) -> float:
        return self._timeline.now

    def _happen(self, until: float) -> None:
        for kind, subject in self._timeline.until(until):
            self._handlers[kind](subject)
        self._timeline.now = until

    # VMs

    def _vm_arrives(self, vm: int) -> None:
        if self._demand.vm_end[vm] <= self.now:
            return
        self._fleet.dirty = True
        self.tally.vm_asked(vm, self.now)
        self._waiting_vms[vm] = None
        again = vm in self._vm_asked
        asked = self._vm_asked[vm] = self.now if again else float(self._demand.vm_start[vm])
        self._vm_views[vm] = self._see_vm(vm)
        self._timeline.at(asked + self._settings.patience_seconds, "vm-late", vm)
        self.bind_vms()
        if vm in self._waiting_vms:
            self._decide()

    def _see_vm(self, vm: int) -> Vm:
        gpus = self._vm_gpus.get(vm, [])
        node = self._fleet.nodes[gpus[0].node].name if gpus else None
        return vm_view(self._demand, vm, gpus, node, self.now, self._vm_asked[vm])

    def bind_vms(self) -> None:
        if not self._waiting_vms:
            return
        for vm, taken in bindings(self._waiting_vms, self._fleet.nodes, self._demand):
            del self._waiting_vms[vm]
            self._vm_gpus[vm] = taken
            for gpu in taken:
                gpu.vm = vm
                self._fleet.soil(gpu)
            self._vm_views[vm] = self._see_vm(vm)
            self.tally.vm_bound(vm, self.now)
            self._timeline.at(float(self._demand.vm_end[vm]), "vm-end", vm)
            if np.isfinite(self._demand.vm_idle_after[vm]):
                idle = float(self._demand.vm_start[vm] + self._demand.vm_idle_after[vm])
                self._timeline.at(max(self.now, idle), "vm-idle", vm)

    def end_vm(self, vm: int) -> None:
        for gpu in self._vm_gpus.pop(vm, []):
            gpu.vm = -1
            self._fleet.soil(gpu)
        self._vm_views.pop(vm, None)
        self.tally.vm_ended(vm, self.now)
        self.bind_vms()
        if self._settings.on_release:
            self._decide()

    def _vm_falls_idle(self, vm: int) -> None:
        """Its user has gone. What follows is the pool's policy, carried out by the manager and not the planner."""
        if vm not in self._vm_gpus:
            return
        self._vm_views[vm] = self._see_vm(vm)
        self._fleet.dirty = True
        policy = self._pool.idle_vm
        if policy.action is IdleVmAction.STOP:
            self._timeline.at(self.now + policy.idle_after_seconds + policy.notice_seconds, "vm-stop", vm)

    def _vm_is_stopped(self, vm: int) -> None:
        if vm in self._vm_gpus:
            self.tally.vm_stopped(self.now)
            self.end_vm(vm)

    def _vm_gives_up(self, vm: int) -> None:
        if (
            vm in self._waiting_vms
            and self.now >= self._vm_asked[vm] + self._settings.patience_seconds - 1e-6
        ):
            del self._waiting_vms[vm]
            self._vm_views.pop(vm, None)
            self._fleet.dirty = True

    def _node_goes_away(self, index: int) -> None:
        """All that runs there is cut off, as nobody planned it."""
        node = self._fleet.nodes[index]
        self.tally.node_away(self.now)
        self._moves.go_away(node)
        for pod in [pod for gpu in node.gpus for pod in gpu.pods]:
            self.tally.pod_cut(pod, self.now, self._pod_started[pod])
            self._take_off(pod)
        for vm in dict.fromkeys(g.vm for g in node.gpus if g.vm >= 0):
            self.tally.vm_cut(vm, self.now)
            self.end_vm(vm)
            self._vm_arrives(vm)

    def _pod_arrives(self, pod: int) -> None:
        self._fleet.dirty = True
        self.tally.pod_asked(pod, self.now)
        shape = shape_of(self._demand, pod)
        self._backlog.add(pod, shape)
        self._pod_views[pod] = self._see_pod(pod)
        # Between two calls no waiting pod fits anywhere: only this one can.
        placed = self._backlog.place_newest(shape, open_gpus(self._fleet.nodes))
        if placed is not None:
            self._start(*placed)

    def _see_pod(self, pod: int) -> SharedPod:
        gpu = self._pod_gpu.get(pod)
        node = self._fleet.nodes[gpu.node].name if gpu else None
        return pod_view(self._demand, self._models, pod, gpu, node, self._pod_started.get(pod))

    def place(self, on: ReplayGpu | None = None) -> None:
        """HAMi places what fits; `on` is the only GPU that has room which it had not before."""
        if on is None:
            room = open_gpus(self._fleet.nodes)
        else:
            node = self._fleet.nodes[on.node]
            open_to_best_effort = [on] if takes_pods(on, node) else []
            room = OpenGpus([] if node.lent else open_to_best_effort, open_to_best_effort)
        for pod, gpu in self._backlog.placements(room):
            self._start(pod, gpu)

    def _start(self, pod: int, gpu: ReplayGpu) -> None:
        milli = int(self._demand.pod_milli[pod])
        gpu.used_milli += milli
        gpu.pods[pod] = None
        self._pod_gpu[pod] = gpu
        at = self.now
        if self._demand.pod_start[pod] > 0:  # what runs at the begin of the window is there already
            at = max(self.now, self._next_bind)
            self._next_bind = at + 1.0 / self._settings.binds_per_second
        self._pod_started[pod] = at
        self._pod_views[pod] = self._see_pod(pod)
        self._fleet.dirty = True
        self.tally.pod_started(pod, at)
        run = self._pod_runs.get(pod, 0)
        self._timeline.at(at + float(self._demand.pod_seconds[pod]), "pod-end", pod * MOST_RUNS + run)

    def _pod_ends(self, key: int) -> None:
        pod, run = divmod(key, MOST_RUNS)
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
        self._fleet.dirty = True
        if gpu.fenced:
            self._moves.drained(self._fleet.nodes[gpu.node])
        elif self._settings.on_release and self._waiting_vms and not gpu.pods:
            self._decide()
        self.place(on=gpu)

    def evict(self, pod: int) -> None:
        allowed = bool(self._demand.pod_best_effort[pod])
        self.tally.pod_evicted(pod, self.now, self._pod_started[pod], allowed=allowed)
        self._take_off(pod)

    def _take_off(self, pod: int) -> None:
        """Off its GPU before it has ended: it begins again from the start, as the oldest of its shape."""
        gpu = self._pod_gpu[pod]
        self._pod_runs[pod] = self._pod_runs.get(pod, 0) + 1
        gpu.used_milli -= int(self._demand.pod_milli[pod])
        del gpu.pods[pod], self._pod_gpu[pod], self._pod_started[pod]
        self._fleet.dirty = True
        self._backlog.put_back(pod, shape_of(self._demand, pod))
        self._pod_views[pod] = self._see_pod(pod)

    def _decide(self) -> None:
        self._fleet.dirty = False
        view = self.snapshot()
        begun = perf_counter()
        decision = self._planner.decide(view, self._learned)
        self.plan_seconds.append(perf_counter() - begun)
        self._learned = decision.learned
        self._moves.lend(decision.plan.best_effort_only)
        groups: dict[NodeName, list[Move]] = {}
        for move in decision.plan.moves:
            groups.setdefault(move.node, []).append(move)
        for moves in groups.values():
            self._moves.begin(moves, decision.plan.plan_id)

    def snapshot(self) -> ClusterSnapshot:
        self._generation += 1
        for node in self._fleet.nodes:
            if node.view is None:
                node.view = node_view(node, self._models, self._pool.name)
        return ClusterSnapshot(
            generation=Generation(self._generation),
            taken_at=ORIGIN + self.now,
            synced=True,
            nodes=tuple(node.view for node in self._fleet.nodes if node.view is not None),
            pools=(self._pool,),
            vms=tuple(self._vm_views.values()),
            pods=tuple(self._pod_views.values()),
        )

    def _close(self) -> None:
        for vm in list(self._vm_gpus):
            self.tally.vm_ended(vm, self.now)
        for pod in list(self._pod_gpu):
            self.tally.pod_ended(pod, self.now, unfinished=True)
        self.tally.close(self.now)
