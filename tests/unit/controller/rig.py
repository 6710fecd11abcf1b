"""The live controller on the simulated fleet, with a planner that does as it is told."""

from dataclasses import dataclass, field
from typing import Any

from poolmgr.controller.beside import Beside, in_the_loop
from poolmgr.controller.interfaces import Dependencies
from poolmgr.controller.loop import Controller, LoopSettings
from poolmgr.domain.fleet import Pool
from poolmgr.domain.identifiers import NodeName, PciAddress, PlanId, PoolName
from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.plan import Move, Plan
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.interfaces import Decision
from poolmgr.sim.actuators import FixedLeadership, MemoryLedger
from poolmgr.sim.fleet import A10, NodeShape, SimulatedFleet

POOL = Pool(PoolName("a10"), models=(A10,), max_in_flight=8, cooldown_seconds=0)


@dataclass
class Orders:
    """A planner that wants the GPUs named in `wanted` in the given modes, whatever the demand."""

    wanted: dict[tuple[str, int], Mode] = field(default_factory=dict)
    """(node, index of the GPU on it) → mode."""
    lent: set[str] = field(default_factory=set)
    """Nodes to lend to best-effort containers."""
    name: str = "orders"

    def decide(self, snapshot: ClusterSnapshot, learned: Any) -> Decision:
        moves = []
        for node in snapshot.nodes:
            for index, gpu in enumerate(node.gpus):
                mode = self.wanted.get((node.name, index))
                if mode is not None and gpu.desired_mode is not mode and gpu.pool is not None:
                    moves.append(
                        Move(
                            node.name,
                            gpu.pci_address,
                            gpu.uuid,
                            gpu.pool,
                            gpu.model,
                            mode,
                            Reason.OPERATOR_REQUEST,
                            f"{gpu.model} {gpu.pci_address} on {node.name} is wanted {mode.value}",
                        )
                    )
        plan_id = PlanId(f"p{snapshot.generation}")
        lent = frozenset(NodeName(name) for name in self.lent)
        plan = Plan(plan_id, snapshot.generation, snapshot.taken_at, tuple(moves), best_effort_only=lent)
        return Decision(plan, learned)


class Rig:
    """One cluster; `controller()` makes a manager for it, as often as managers die."""

    def __init__(
        self,
        *,
        nodes: int = 1,
        gpus: int = 2,
        pools: tuple[Pool, ...] = (POOL,),
        hami_version: tuple[int, int] = (2, 10),
    ) -> None:
        self.fleet = SimulatedFleet([NodeShape(nodes, gpus)], pools, start=1_000.0, hami_version=hami_version)
        self.leadership = FixedLeadership()
        self.ledger = MemoryLedger()
        self.orders = Orders()

    def controller(
        self, planner: Any = None, sharing: Any = None, view: Any = None, beside: Beside = in_the_loop
    ) -> Controller:
        """`sharing`, `view`: in place of the simulated ones; `beside`: where plans are made."""
        actuators = self.fleet.actuators
        return Controller(
            Dependencies(
                clock=self.fleet.clock,
                view=view or self.fleet,
                fleet=actuators,
                sharing=sharing or actuators,
                services=actuators,
                evictor=actuators,
                admitter=actuators,
                recorder=actuators,
                ledger=self.ledger,
                leadership=self.leadership,
                reporter=actuators,
                reservations=actuators.reservations,
                beside=beside,
            ),
            planner or self.orders,
            LoopSettings(),
        )

    def want(self, mode: Mode, *gpus: int, node: str = "node-1") -> None:
        for index in gpus:
            self.orders.wanted[(node, index)] = mode

    async def run(self, controller: Controller, seconds: float, *, every: float = 1.0) -> None:
        """Tick each virtual second, looking for broken promises between ticks."""
        end = self.fleet.clock.now() + seconds
        while self.fleet.clock.now() < end:
            await controller.tick()
            assert not controller.unforeseen
            await self.fleet.clock.run_for(every)
            self.check()

    async def run_until_quiet(self, controller: Controller, limit: float = 900.0) -> None:
        """Tick until nothing moves and everything wanted is there; fail after `limit` virtual seconds."""
        end = self.fleet.clock.now() + limit
        while self.fleet.clock.now() < end:
            await self.run(controller, 1.0)
            if self.quiet():
                return
        raise AssertionError(f"not quiet after {limit} s: {self.state()}")

    def quiet(self) -> bool:
        nodes = self.fleet.world.nodes
        there = all(
            nodes[NodeName(name)].gpus[index].mode is mode
            for (name, index), mode in self.orders.wanted.items()
        )
        return there and all(n.transition is None and not n.unschedulable for n in nodes.values())

    def check(self) -> None:
        """The promises that hold at every instant."""
        assert not self.fleet.world.violations, self.fleet.world.violations
        assert not self.fleet.lost_gpus()
        for node in self.fleet.world.nodes.values():
            registered = {g.uuid for g in node.sharing.registered} if node.sharing.allocatable else set()
            both = [g.pci_address for g in node.gpus if g.advertised and g.uuid in registered]
            assert not both, f"{both} on {node.name} offered to VMs and pods at once"
            moving = node.transition
            if moving is None or moving.step is not Step.REBIND:
                continue
            # The agent would refuse as well; the manager must not even ask.
            for gpu in node.gpus:
                if gpu.pci_address in moving.devices and gpu.mode not in (None, moving.to_mode):
                    users = [p.uid for p, _ in self.fleet.world.slices_on(gpu.uuid)]
                    users += [gpu.allocated_to] if gpu.allocated_to else []
                    assert not users, f"asked to rebind {gpu.pci_address} while {users} had it"

    def state(self) -> str:
        return "; ".join(
            f"{n.name}: {[(g.driver, g.advertised) for g in n.gpus]} transition={n.transition} "
            f"cordoned={n.unschedulable} plugin={n.sharing.wanted}"
            for n in self.fleet.world.nodes.values()
        )

    def mode(self, index: int, node: str = "node-1") -> Mode | None:
        return self.fleet.world.nodes[NodeName(node)].gpus[index].mode

    def transition_step(self, node: str = "node-1") -> Step | None:
        found = self.fleet.world.nodes[NodeName(node)].transition
        return found.step if found else None

    def address(self, index: int, node: str = "node-1") -> PciAddress:
        return self.fleet.world.nodes[NodeName(node)].gpus[index].pci_address
