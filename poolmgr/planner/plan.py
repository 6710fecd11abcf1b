"""The planner: one pure function from a snapshot to moves, targets, and a sentence for everything left alone.

The order of a decision is the order of `STAGES`: each picks only from what the stages before it left, and answers with
its effect, which `decide` applies.

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
from poolmgr.domain.plan import Move, Plan, Refusal, Subject, SubjectKind, Target
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.budgets import budgets_of
from poolmgr.planner.explain import explain_gpus, explain_pods, explain_recommended, target_of
from poolmgr.planner.interfaces import Decision
from poolmgr.planner.inventory.cache import InventoryCache
from poolmgr.planner.inventory.inventory import build_inventory
from poolmgr.planner.inventory.usage import usage_of
from poolmgr.planner.sizing.headroom import HeadroomSizer, Sizer
from poolmgr.planner.sizing.reservations import reserved, with_reservations
from poolmgr.planner.stages.cordon_ahead import cordon_ahead
from poolmgr.planner.stages.idle import fill_minimum, fill_reservations, prefetch, return_idle
from poolmgr.planner.stages.idle_vms import explain_idle_vms
from poolmgr.planner.stages.lend_nodes import lend_nodes
from poolmgr.planner.stages.state import PlanState, Stage
from poolmgr.planner.stages.vms import serve_waiting_vms

STAGES: tuple[Stage, ...] = (
    # Whoever waits for a GPU comes first.
    serve_waiting_vms,
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
)

EXPLANATIONS: tuple[Callable[[PlanState], list[Refusal]], ...] = (
    explain_pods,
    explain_gpus,
    explain_recommended,
    explain_idle_vms,
)


class PoolPlanner:
    """The live planner; see the module for what it does. Beside its configuration it holds only an `InventoryCache`,
    which saves time and alters no answer."""

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

    @property
    def name(self) -> str:
        return self._name

    def decide(self, snapshot: ClusterSnapshot, learned: Any) -> Decision:
        if not snapshot.synced:
            message = "the view of the cluster is not complete yet; nothing is planned on it"
            refusals = tuple(
                Refusal(Subject(SubjectKind.POOL, "", pool.name), Reason.NOT_SYNCED, message)
                for pool in snapshot.pools
            )
            lent = frozenset(node.name for node in snapshot.nodes if node.best_effort_only)
            return Decision(_plan_of(snapshot, (), refusals, (), lent), learned)

        # 0. Who waits for something else than a GPU is no demand.
        served = _servable(snapshot)

        # 1. What there is: every GPU that a rule keeps where it is is out.
        inventory = build_inventory(snapshot, usage_of(snapshot), self._cache)

        # 2. What is wanted ready.
        headroom, remembered = self._sizer.size(served, inventory, learned)
        due = reserved(served, inventory)
        budgets = budgets_of(inventory, due.shared_gpus)
        state = PlanState(
            snapshot, inventory, budgets, with_reservations(headroom, due), due, explain=self._explain
        )

        # 3. What is done about it.
        for stage in STAGES:
            state.apply(stage(state))

        # 4. Why everything else stays as it is.
        refusals = tuple(state.refusals)
        if self._explain:
            refusals = tuple(chain(refusals, *(explain(state) for explain in EXPLANATIONS)))
        targets = tuple(target_of(state, key) for key in inventory.groups)
        return Decision(_plan_of(snapshot, tuple(state.moves), refusals, targets, state.lent), remembered)


def _servable(snapshot: ClusterSnapshot) -> ClusterSnapshot:
    """Without the workloads that wait and that no GPU would let run; the same one where there are none."""
    if all(vm.servable for vm in snapshot.vms if vm.node is None) and all(
        pod.servable for pod in snapshot.pods if pod.node is None
    ):
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
