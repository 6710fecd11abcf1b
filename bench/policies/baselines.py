"""What operators could choose today, each as a planner of its own behind the same protocol.

They share the rules of what may be moved at all (`poolmgr.planner.inventory`), so none of them can be better or
worse by being unsafe; they differ in when they move what. Where a choice had to be made it was made in the
baseline's favour and is said.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, Literal

from poolmgr.domain.fleet import EvictionRule, Granularity, IdleVmPolicy, Pool, SideLimits
from poolmgr.domain.identifiers import NodeName, PlanId
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Plan
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.budgets import budgets_of
from poolmgr.planner.interfaces import Decision, Planner
from poolmgr.planner.inventory.cache import InventoryCache
from poolmgr.planner.inventory.inventory import build_inventory
from poolmgr.planner.inventory.node import GroupKey, Unit
from poolmgr.planner.inventory.usage import usage_of
from poolmgr.planner.sizing.headroom import wanted_by_vms
from poolmgr.planner.stages.idle import move_idle
from poolmgr.planner.stages.state import PlanState, Proposal
from poolmgr.planner.stages.vms import serve_waiting_vms

Placement = Literal["binpack", "fgd"]


def _state(snapshot: ClusterSnapshot, known: InventoryCache) -> PlanState:
    inventory = build_inventory(snapshot, usage_of(snapshot), known)
    return PlanState(snapshot, inventory, budgets_of(inventory), {}, explain=False)


def waiting_by_group(state: PlanState) -> dict[GroupKey, int]:
    """GPUs that VMs wait for, by the model that they ask for."""
    wanted = wanted_by_vms(state.snapshot, state.inventory)
    return {key: gpus - state.inventory.groups[key].vm_busy for key, gpus in wanted.items()}


def _move(state: PlanState, key: GroupKey, unit: Unit, to_mode: Mode, reason: Reason, message: str) -> None:
    proposal = Proposal(state)
    proposal.move(key, unit, to_mode, reason, message)
    state.apply(proposal.result())


def _return_idle(state: PlanState, key: GroupKey, gpus: int, reason: Reason, message: str) -> None:
    """Up to `gpus` idle passthrough GPUs go back to the shared side."""
    proposal = Proposal(state)
    move_idle(proposal, key, Mode.SHARED, gpus, reason, message, now=state.snapshot.taken_at)
    state.apply(proposal.result())


def _decision(state: PlanState, learned: Any) -> Decision:
    snapshot = state.snapshot
    plan_id = PlanId(f"b{snapshot.generation:x}")
    return Decision(Plan(plan_id, snapshot.generation, snapshot.taken_at, tuple(state.moves)), learned)


@dataclass(frozen=True, slots=True)
class StaticSplit:
    """B0, B1: nothing ever moves."""

    name: str = "static"

    def decide(self, snapshot: ClusterSnapshot, learned: Any) -> Decision:
        return Decision(Plan(PlanId("b0"), snapshot.generation, snapshot.taken_at), learned)


@dataclass(frozen=True, slots=True)
class PerClaim:
    """B4 and B5: a GPU is bound to vfio-pci for one VM's claim and goes back when the VM ends; no pools, no
    forecast. B5's pool allows eviction of best-effort pods. In their favour: asked the moment a GPU falls
    free, before HAMi can refill it, with no budget and no cooldown."""

    name: str
    known: InventoryCache = field(default_factory=InventoryCache, repr=False, compare=False)

    def decide(self, snapshot: ClusterSnapshot, learned: Any) -> Decision:
        state = _state(snapshot, self.known)
        state.apply(serve_waiting_vms(state))
        for key, group in state.inventory.groups.items():
            if group.free > 0:
                _return_idle(state, key, group.free, Reason.NO_DEMAND, "unprepared")
        return _decision(state, learned)


@dataclass(frozen=True, slots=True)
class Threshold:
    """B6: flip when VMs have been pending for `pending_seconds`; back when idle for the pool's cooldown."""

    name: str = "threshold"
    pending_seconds: float = 30.0
    idle_seconds: float = 600.0
    known: InventoryCache = field(default_factory=InventoryCache, repr=False, compare=False)

    def decide(self, snapshot: ClusterSnapshot, learned: Any) -> Decision:
        state, now = _state(snapshot, self.known), snapshot.taken_at
        known = learned or {"pending": None, "idle": {}}
        lacking = waiting_by_group(state)
        waiting = any(lacking.values())
        since = (known["pending"] if known["pending"] is not None else now) if waiting else None
        if since is not None and now - since >= self.pending_seconds:
            state.apply(serve_waiting_vms(state))
        idle: dict[str, float] = {}
        for key, group in state.inventory.groups.items():
            rested = 0
            for at in group.nodes.values():
                units: list[Unit] = []
                for unit in at.to_shared:
                    name = f"{at.node.name}/{unit.gpus[0].pci_address}"
                    idle[name] = known["idle"].get(name, now)
                    is_rested = now - idle[name] >= self.idle_seconds
                    rested += unit.size if is_rested else 0
                    units.append(unit if is_rested else unit._replace(held_until=now + 1.0))
                group.nodes[at.node.name] = replace(at, to_shared=units)
            if rested and not lacking[key]:
                _return_idle(state, key, rested, Reason.NO_DEMAND, "idle")
        return _decision(state, {"pending": since, "idle": idle})


@dataclass(frozen=True, slots=True)
class HourlyAdmin:
    """B2: at each full hour somebody relabels whole nodes to ceil(1.2 × VMs' GPUs); drain only."""

    name: str = "admin-hourly"
    known: InventoryCache = field(default_factory=InventoryCache, repr=False, compare=False)

    def decide(self, snapshot: ClusterSnapshot, learned: Any) -> Decision:
        hour = int(snapshot.taken_at // 3_600)
        if learned == hour:
            return Decision(Plan(PlanId("b2"), snapshot.generation, snapshot.taken_at), learned)
        state = _state(snapshot, self.known)
        lacking = waiting_by_group(state)
        for key, group in state.inventory.groups.items():
            relabelled = len(state.moves)
            goal = min(ceil(1.2 * (group.vm_busy + lacking[key])), group.gpus)
            nodes = sorted(group.nodes.values(), key=lambda s: s.node.name)
            for at in nodes:
                gpus = at.node.gpus
                shared = all(g.observed_mode is Mode.SHARED for g in gpus) and at.node.transition is None
                arriving = len(state.moves) - relabelled
                if shared and group.passthrough + arriving + len(gpus) <= goal + len(gpus) - 1:
                    pods = tuple(dict.fromkeys(p.uid for g in gpus for p in state.inventory.usage.pods_on(g)))
                    unit = Unit(gpus, wait_for=pods)
                    _move(state, key, unit, Mode.PASSTHROUGH, Reason.OPERATOR_REQUEST, "relabelled")
            surplus = group.passthrough - goal
            for at in nodes:
                free = sum(u.size for u in at.to_shared)
                if len(state.moves) == relabelled and free == len(at.node.gpus) <= surplus:
                    surplus -= free
                    for unit in at.to_shared:
                        _move(state, key, unit, Mode.SHARED, Reason.OPERATOR_REQUEST, "relabelled")
        return _decision(state, hour)


@dataclass(frozen=True, slots=True)
class Batched:
    """B7, after nos: what pending workloads lack is planned in batches (60 s, or 10 s without a new one); only
    free GPUs change, used ones never."""

    inner: Planner
    name: str = "nos"
    window_seconds: float = 60.0
    idle_seconds: float = 10.0

    def decide(self, snapshot: ClusterSnapshot, learned: Any) -> Decision:
        now = snapshot.taken_at
        state = learned or {"opened": None, "newest": None, "seen": -1.0}
        born = [vm.created_at for vm in snapshot.vms if vm.node is None]
        born += [pod.created_at for pod in snapshot.pods if pod.node is None]
        newest = max(born, default=-1.0)
        opened, last = state["opened"], state["newest"]
        if newest > state["seen"]:
            opened, last = (now if opened is None else opened), now
        due = opened is not None and (
            now - opened >= self.window_seconds or now - (last or now) >= self.idle_seconds
        )
        if not due:
            held = {"opened": opened, "newest": last, "seen": newest}
            return Decision(Plan(PlanId("b7"), snapshot.generation, now), held)
        plan = self.inner.decide(snapshot, None).plan
        return Decision(plan, {"opened": None, "newest": None, "seen": newest})


@dataclass(frozen=True, slots=True)
class Lyra:
    """B9, after Lyra/Aryl: idle passthrough GPUs are loaned to containers at once; when VMs lack GPUs, whole
    servers are reclaimed greedily, least preempted work for each GPU gained first."""

    name: str = "lyra"
    known: InventoryCache = field(default_factory=InventoryCache, repr=False, compare=False)

    def decide(self, snapshot: ClusterSnapshot, learned: Any) -> Decision:
        state = _state(snapshot, self.known)
        evicting = [(s.pool.eviction, s) for s in state.inventory.groups.values()]
        for _, group in evicting:
            group.pool = replace(group.pool, eviction=EvictionRule.NEVER)
        state.apply(serve_waiting_vms(state))
        lacking = waiting_by_group(state)
        for rule, group in evicting:
            group.pool = replace(group.pool, eviction=rule)
            key = (str(group.pool.name), group.model)
            waiting = lacking[key]
            served = sum(1 for move in state.moves if (str(move.pool), move.model) == key)
            short = waiting - group.free - served
            servers: list[tuple[float, NodeName, list[Unit]]] = []
            for name, at in group.nodes.items():
                if name in state.directions or short <= 0:
                    continue
                units = state.inventory.evictable(group, at)
                if units:
                    cost = sum(u.lost_gpu_seconds for u in units) / sum(u.size for u in units)
                    servers.append((cost, name, units))
            for _, _, units in sorted(servers, key=lambda s: s[:2]):
                for unit in units:
                    if short > 0:
                        _move(state, key, unit, Mode.PASSTHROUGH, Reason.VM_WAITING, "reclaimed")
                        short -= unit.size
            if not waiting and any(p.node is None for p in snapshot.pods):
                _return_idle(state, key, group.free, Reason.SHARED_DEMAND, "loaned")
        return _decision(state, learned)


@dataclass(frozen=True, slots=True)
class Policy:
    """A planner together with the pool and the start that suit it."""

    name: str
    make: Callable[[], Planner]
    passthrough_at_start: float | None = None
    """Share of the GPUs; None begins with what the VMs need that run when the window opens."""
    eviction: EvictionRule = EvictionRule.NEVER
    granularity: Granularity = Granularity.GPU
    cooldown_seconds: int = 300
    in_flight_share: float = 1.0
    drain_timeout_seconds: int = 86_400
    on_release: bool = False
    forecasts: bool = False
    """It is given what a manager would have recorded in the weeks before."""
    placement: Placement = "binpack"
    """How HAMi's side places pods: its own binpack, or by least fragmentation."""
    stops_idle: bool = False
    """It carries out the pool's policy for forgotten VMs; nothing else that exists does."""
    note: str = ""

    def pool(self, pool: Pool, gpus: int, idle_vm: IdleVmPolicy | None = None) -> Pool:
        return replace(
            pool,
            eviction=self.eviction,
            granularity=self.granularity,
            cooldown_seconds=self.cooldown_seconds,
            max_in_flight=max(1, round(self.in_flight_share * gpus)),
            drain_timeout_seconds=self.drain_timeout_seconds,
            shared=SideLimits(),
            passthrough=SideLimits(),
            idle_vm=idle_vm if idle_vm is not None and self.stops_idle else IdleVmPolicy(),
        )
