"""The planner: one pure function from a snapshot to moves, targets, and a sentence for everything left alone.

The order of a decision is the order of `STAGES`: each picks only from what the stages before it left, and answers with
its result, which `decide` applies.

Invariants, whatever the input: a GPU that is in use moves only after the pods on it have ended by themselves, or
where the pool's eviction rule names every one of them; no move takes a side over its maximum or under its minimum;
no more GPUs than the budget move; a node moves in one direction at a time; VMs are never touched.
"""

from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2s
from itertools import chain
from typing import Any

from poolmgr.domain.identifiers import NodeName, PlanId
from poolmgr.domain.occupancy import unbound_pods, unbound_vms
from poolmgr.domain.plan import Move, Plan, Refusal, Subject, SubjectKind, Target
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.budgets import budgets_of
from poolmgr.planner.charges import Workload
from poolmgr.planner.explain import explain_gpus, explain_pods, explain_recommended, target_of
from poolmgr.planner.interfaces import Decision
from poolmgr.planner.inventory.cache import InventoryCache
from poolmgr.planner.inventory.inventory import build_inventory
from poolmgr.planner.inventory.usage import usage_of
from poolmgr.planner.quotas import Quotas
from poolmgr.planner.reservation_states import reservation_states
from poolmgr.planner.sizing.headroom import HeadroomSizer, Sizer
from poolmgr.planner.sizing.reservations import VerdictCache, reserved, with_reservations
from poolmgr.planner.sizing.reserved_cards import keep_cards
from poolmgr.planner.stages.admit import admit_waiting
from poolmgr.planner.stages.cordon_ahead import cordon_ahead
from poolmgr.planner.stages.drain_nodes import drain_nodes
from poolmgr.planner.stages.idle import fill_minimum, fill_reservations, prefetch, return_idle
from poolmgr.planner.stages.idle_vms import explain_idle_vms
from poolmgr.planner.stages.lend_nodes import lend_nodes
from poolmgr.planner.stages.state import PlanState, Stage
from poolmgr.planner.stages.vms import serve_waiting_vms

STAGES: tuple[Stage, ...] = (
    # Whoever waits for a GPU comes first.
    serve_waiting_vms,
    # What an operator gives back to one side.
    drain_nodes,
    # What pools and reservations demand, from idle GPUs.
    fill_minimum,
    fill_reservations,
    # GPUs to have ready ahead of demand: idle ones first; then GPUs in use are closed to new pods and move once they
    # are empty, never by eviction; or their nodes are lent to best-effort containers, which a VM may have evicted.
    prefetch,
    cordon_ahead,
    lend_nodes,
    # What is still idle on the side of VMs goes to pods that no shared GPU has room for.
    return_idle,
    # Who waits behind our gate and may go on, once it is known what is free.
    admit_waiting,
)

EXPLANATIONS: tuple[Callable[[PlanState], list[Refusal]], ...] = (
    explain_pods,
    explain_gpus,
    explain_recommended,
    explain_idle_vms,
)


class PoolPlanner:
    """The live planner; see the module for what it does. Beside its configuration it holds only an `InventoryCache` and a
    `VerdictCache`, which save time and alter no answer."""

    def __init__(
        self,
        sizer: Sizer | None = None,
        name: str = "poolmgr",
        *,
        explain: bool = True,
    ) -> None:
        """`explain=False` leaves out the sentences about what stays where it is."""
        self._sizer = sizer or HeadroomSizer()
        self._name = name
        self._explain = explain
        self._cache = InventoryCache()
        self._verdicts = VerdictCache()

    @property
    def name(self) -> str:
        return self._name

    def decide(self, snapshot: ClusterSnapshot, learned: Any) -> Decision:
        if not snapshot.synced:
            message = "the manager has not read the whole cluster yet, so it plans nothing"
            refusals = tuple(
                Refusal(Subject(SubjectKind.POOL, "", pool.name), Reason.NOT_SYNCED, message)
                for pool in snapshot.pools
            )
            lent = frozenset(node.name for node in snapshot.nodes if node.best_effort_only)
            return Decision(_plan_of(snapshot, (), refusals, (), lent), learned)

        # 0. What there is: every GPU that a rule keeps where it is is out.
        inventory = build_inventory(snapshot, usage_of(snapshot), self._cache)

        # 1. Who is over a quota, or waits for something else than a GPU, is no demand.
        quotas = Quotas(snapshot, inventory)
        snapshot = quotas.applied()
        served = _servable(snapshot)

        # 2. What is wanted ready.
        headroom, remembered = self._sizer.size(served, inventory, learned)
        due = reserved(served, inventory, self._verdicts)
        snapshot = keep_cards(snapshot, inventory, due)
        budgets = budgets_of(inventory, due.shared_gpus(inventory))
        state = PlanState(
            snapshot,
            inventory,
            budgets,
            with_reservations(headroom, due, inventory),
            due,
            quotas,
            explain=self._explain,
        )

        # 3. What is done about it.
        for stage in STAGES:
            state.apply(stage(state))

        # 4. Why everything else stays as it is.
        refusals = tuple(state.refusals)
        if self._explain:
            refusals = tuple(chain(refusals, *(explain(state) for explain in EXPLANATIONS)))
        targets = tuple(target_of(state, key) for key in inventory.groups)
        plan = _plan_of(snapshot, tuple(state.moves), refusals, targets, state.lent)
        plan = replace(
            plan, quota_uses=quotas.uses, admissions=state.admissions, reservations=reservation_states(state)
        )
        return Decision(plan, remembered)


def _servable(snapshot: ClusterSnapshot) -> ClusterSnapshot:
    """Without the workloads that wait and that no GPU would let run; the same one where there are none."""
    waiting: tuple[Workload, ...] = (*unbound_vms(snapshot.vms), *unbound_pods(snapshot.pods))
    if all(workload.servable.ok for workload in waiting):
        return snapshot
    return replace(
        snapshot,
        vms=tuple(vm for vm in snapshot.vms if vm.node is not None or vm.servable),
        pods=tuple(pod for pod in snapshot.pods if pod.node is not None or pod.servable),
    )


def _plan_of(
    snapshot: ClusterSnapshot,
    moves: tuple[Move, ...],
    refusals: tuple[Refusal, ...],
    targets: tuple[Target, ...],
    lent: frozenset[NodeName],
) -> Plan:
    text = repr((snapshot.generation, [(m.node, m.pci_address, m.to_mode) for m in moves]))
    plan_id = PlanId(blake2s(text.encode(), digest_size=5).hexdigest())
    return Plan(plan_id, snapshot.generation, snapshot.taken_at, moves, refusals, targets, lent)
