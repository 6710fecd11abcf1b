"""How GPUs change sides in a replay: closed to new workloads at once, drained, then changed together while their node
is closed. What the executor does in a cluster, without its calls.
"""

from typing import Protocol

from bench.replay.state import (
    ORIGIN,
    ReplayFleet,
    ReplayGpu,
    ReplayNode,
    ReplaySettings,
    fails,
    narrow,
)
from bench.replay.tally import Tally
from bench.replay.timeline import Timeline
from poolmgr.domain.fleet import Pool, Transition
from poolmgr.domain.identifiers import LeaseEpoch, NodeName, PlanId
from poolmgr.domain.modes import Step
from poolmgr.domain.plan import Move


class Tenants(Protocol):
    """Who is on the GPUs, as far as moving them concerns anybody."""

    def evict(self, pod: int) -> None:
        """End it; it waits again."""

    def end_vm(self, vm: int) -> None: ...

    def bind_vms(self) -> None:
        """There may be free GPUs for VMs that wait."""

    def place(self) -> None:
        """There may be room for pods that wait."""


class NodeMoves:
    """One move for each node at a time."""

    def __init__(
        self,
        fleet: ReplayFleet,
        pool: Pool,
        settings: ReplaySettings,
        timeline: Timeline,
        tally: Tally,
        tenants: Tenants,
    ) -> None:
        self._fleet = fleet
        self._pool = pool
        self._settings = settings
        self._timeline = timeline
        self._tally = tally
        self._tenants = tenants

    def lend(self, wanted: frozenset[NodeName]) -> None:
        """As the manager does: every node's label is what the plan says."""
        taken_back = False
        for node in self._fleet.nodes:
            if node.lent is not (node.name in wanted):
                taken_back |= node.lent
                node.lent = not node.lent
                node.view = None
        if taken_back:
            self._tenants.place()

    def begin(self, moves: list[Move], plan_id: PlanId) -> None:
        """The moves of one node."""
        now = self._timeline.now
        gpus = [self._fleet.gpu(m.node, m.pci_address) for m in moves]
        node = self._fleet.nodes[gpus[0].node]
        to_mode = moves[0].to_mode
        for vm in {g.vm for g in gpus if g.vm >= 0}:
            # No planner may ask for this. One that does is charged with it.
            self._tally.vm_killed(now)
            self._tenants.end_vm(vm)
        gpus = [g for g in gpus if g.mode is not to_mode]
        if node.move is not None or not gpus:
            return
        node.move = Transition(
            node.name,
            plan_id,
            LeaseEpoch(1),
            to_mode,
            tuple(g.address for g in gpus),
            Step.DRAIN,
            ORIGIN + now,
            ORIGIN + now,
            moves[0].reason,
        )
        doomed = {int(uid.removeprefix("pod-")) for move in moves for uid in move.evict}
        for gpu in gpus:
            gpu.fenced, gpu.desired = True, to_mode
            for pod in [p for p in gpu.pods if p in doomed]:
                self._tenants.evict(pod)
        self._fleet.soil(*gpus)
        self._tally.move_begun(len(gpus), now)
        self._timeline.at(now + self._pool.drain_timeout_seconds, "drain-end", gpus[0].node)
        self.drained(node)
        if doomed:
            self._tenants.place()

    def drained(self, node: ReplayNode) -> None:
        """Once nothing is left on any of them, the node closes and they change together."""
        moving = _moving(node)
        gpus = moving if node.closed or not any(g.pods for g in moving) else narrow(node, moving, self._pool)
        if node.closed or not gpus:
            return
        node.closed = True
        node.flips_at = self._timeline.now + self._settings.flip_seconds
        self._fleet.soil(*moving)
        self._timeline.at(node.flips_at, "flip", gpus[0].node)

    def drain_times_out(self, index: int) -> None:
        """As the executor does: what has not drained in time is opened again."""
        node, now = self._fleet.nodes[index], self._timeline.now
        move, limit = node.move, self._pool.drain_timeout_seconds
        if move is None or node.closed or ORIGIN + now - move.started_at < limit - 1e-6:
            return
        moving = _moving(node)
        for gpu in moving:
            gpu.fenced, gpu.desired = False, gpu.mode
        node.move = None
        self._tally.rolled_back(now)
        self._fleet.soil(*moving)
        self._tenants.place()

    def flipped(self, index: int) -> None:
        node, now = self._fleet.nodes[index], self._timeline.now
        if not node.closed or now < node.flips_at - 1e-6:
            return  # the move was cut off by an outage
        moving = _moving(node)
        for gpu in moving:
            if fails(gpu, self._settings):
                gpu.desired, gpu.broken = gpu.mode, True
                self._tally.flip_failed(now)
                self._timeline.at(now + self._settings.mending_seconds, "mended", gpu.index)
                continue
            gpu.mode, gpu.fenced, gpu.mode_since = gpu.desired, False, now
            self._tally.flipped(now)
        node.move, node.closed = None, False
        self._there_is_room_on(*moving)

    def mended(self, index: int) -> None:
        """Somebody has seen to it: it is back on the side where it was."""
        gpu = self._fleet.gpus[index]
        gpu.broken = gpu.fenced = False
        self._there_is_room_on(gpu)

    def go_away(self, node: ReplayNode) -> None:
        """A move under way is given up, and its GPUs stay where they are."""
        node.away, node.move, node.closed = True, None, False
        for gpu in node.gpus:
            if gpu.fenced:
                gpu.fenced, gpu.desired = False, gpu.mode
        self._fleet.soil(*node.gpus)

    def come_back(self, index: int) -> None:
        node = self._fleet.nodes[index]
        node.away = False
        self._there_is_room_on(*node.gpus)

    def _there_is_room_on(self, *gpus: ReplayGpu) -> None:
        self._fleet.soil(*gpus)
        self._tenants.bind_vms()
        self._tenants.place()


def _moving(node: ReplayNode) -> list[ReplayGpu]:
    move = node.move
    return [g for g in node.gpus if move is not None and g.address in move.devices]
