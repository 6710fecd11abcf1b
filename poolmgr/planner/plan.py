"""The planner: one pure function from a snapshot to moves, targets, and a sentence for everything left alone.

Order of a decision, each stage picking only from what the stage before left:
1. stock     every GPU that a rule keeps where it is is out (`eligibility`, `stock`);
2. VMs       waiting VMs, oldest first, get free GPUs, then GPUs on their way, then idle shared ones moved
             over, then (where the pool allows it) GPUs freed of best-effort pods (`board`);
3. minimum   sides under their minimum are filled,
   and shared GPUs that are reserved are brought over (`reservations`);
4. spare     GPUs wanted ready ahead of demand are moved over, idle ones first; where those do not suffice,
             GPUs in use are closed to new pods and move once they are empty, never by eviction (`sizing`), or
             their nodes are lent to best-effort containers, which a VM that waits may have evicted (`lending`);
5. return    GPUs idle in passthrough beyond their cooldown and the spare go back while pods wait that no
             shared GPU has room for (`shared_fit`).

Invariants, whatever the input: a GPU that is in use moves only after the pods on it have ended by themselves, or
where the pool's eviction rule names every one of them; no move takes a side over its maximum or under its minimum;
no more GPUs than the budget move; a node moves in one direction at a time; VMs are never touched.
"""

from hashlib import blake2s
from typing import Any

from poolmgr.domain.identifiers import NodeName, PlanId
from poolmgr.domain.plan import Move, Plan, Refusal, Subject, SubjectKind, Target
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.explain import explain_gpus, explain_pods, explain_recommended, target_of
from poolmgr.planner.interfaces import Decision
from poolmgr.planner.inventory.cache import InventoryCache
from poolmgr.planner.inventory.inventory import build_inventory
from poolmgr.planner.inventory.shared_fit import outlook
from poolmgr.planner.inventory.usage import usage_of
from poolmgr.planner.limits import budgets_of, places_kept_for_vms
from poolmgr.planner.sizing.headroom import HeadroomSizer, Sizer
from poolmgr.planner.sizing.reservations import reserve_shared, reserved, with_reservations
from poolmgr.planner.stages.cordon_ahead import drain_ahead
from poolmgr.planner.stages.idle import fetch_spare, fill_minimum, fill_reserved, give_back, may_give_back
from poolmgr.planner.stages.idle_vms import explain_idle_vms
from poolmgr.planner.stages.lend_nodes import lent_nodes
from poolmgr.planner.stages.state import PlanState
from poolmgr.planner.stages.vms import serve_vms


class PoolPlanner:
    """The live planner; see the module for what it does. Beside its configuration it holds only a `InventoryCache`,
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
        self._memory = InventoryCache()

    @property
    def name(self) -> str:
        return self._name

    def decide(self, snapshot: ClusterSnapshot, memory: Any) -> Decision:
        if not snapshot.synced:
            message = "the view of the cluster is not complete yet; nothing is planned on it"
            refusals = tuple(
                Refusal(Subject(SubjectKind.POOL, "", pool.name), Reason.NOT_SYNCED, message)
                for pool in snapshot.pools
            )
            lent = frozenset(node.name for node in snapshot.nodes if node.best_effort_only)
            return Decision(_plan_of(snapshot, (), refusals, (), lent), memory)
        stock = build_inventory(snapshot, usage_of(snapshot), self._memory)
        spares, remembered = self._sizer.size(snapshot, stock, memory)
        due = reserved(snapshot, stock)
        spares = with_reservations(spares, due)
        draft = PlanState(snapshot, stock, budgets_of(stock), self._explain)
        reserve_shared(draft.budgets, due)
        serve_vms(draft, spares)
        fill_minimum(draft)
        fill_reserved(draft, due)
        fetch_spare(draft, spares)
        with places_kept_for_vms(draft.budgets):
            drain_ahead(draft, spares)
        lent = lent_nodes(draft, spares)
        if self._explain or may_give_back(draft, spares):
            pods = outlook(snapshot, stock)
            give_back(draft, spares, pods)
            if self._explain:
                explain_pods(draft, pods)
        if self._explain:
            explain_gpus(draft, spares)
            explain_recommended(draft)
            explain_idle_vms(draft)
        targets = tuple(target_of(draft, key, spares[key]) for key in stock.shelves)
        return Decision(
            _plan_of(snapshot, tuple(draft.moves), tuple(draft.refusals), targets, lent), remembered
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
