"""Waiting VMs: who is given which GPUs, and what each is told."""

from poolmgr.domain.demand import Vm
from poolmgr.domain.fleet import EvictionRule
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Refusal, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.planner.explain import only_recommended
from poolmgr.planner.inventory.candidates import Candidate
from poolmgr.planner.inventory.eligibility import Denial, denial_of, name_of
from poolmgr.planner.inventory.node import GroupKey, Unit
from poolmgr.planner.shares import Shares
from poolmgr.planner.sizing.headroom import Headroom
from poolmgr.planner.stages.idle_vms import idle_holders
from poolmgr.planner.stages.state import PlanState


def serve_vms(draft: PlanState, spares: dict[GroupKey, Headroom] | None = None) -> None:
    """`spares` say what work may be thrown away for whom; without them eviction is not weighed."""
    draft.spares = spares or {}
    waiting = [vm for vm in draft.snapshot.vms if vm.node is None and vm.claims]
    waiting.sort(key=lambda vm: (vm.waiting_since or vm.created_at, vm.uid))
    shares = Shares(draft.snapshot, draft.stock)
    for vm in shares.in_turn(waiting):
        said = _never_servable(draft, vm) or shares.denial(vm) or _serve(draft, vm)
        draft.refusals.append(Refusal(Subject(SubjectKind.VM, vm.namespace, vm.name), *said))


def _never_servable(draft: PlanState, vm: Vm) -> Denial | None:
    """Reasons why no move could ever serve the VM."""
    resources = sorted({claim.resource_name for claim in vm.claims})
    stock = draft.stock
    if len(resources) > 1:
        return (
            Reason.NO_CANDIDATE,
            f"it asks for GPUs of several kinds ({', '.join(resources)}); poolmgr plans one kind for a VM",
        )
    resource = resources[0]
    if resource not in stock.groups_by_resource:
        return Reason.UNKNOWN_RESOURCE, f"no pooled GPU of this cluster is {resource}; check its deviceName"
    if vm.gpus > stock.largest_by_resource[resource]:
        return (
            Reason.MORE_THAN_ANY_NODE,
            f"it asks for {vm.gpus} GPUs of {resource}; the largest node has "
            f"{stock.largest_by_resource[resource]}",
        )
    return None


def _serve(draft: PlanState, vm: Vm) -> Denial:
    """Reserve or move GPUs for one VM; what is said to its owner."""
    keys = draft.stock.groups_by_resource[vm.claims[0].resource_name]
    pools = {key: draft.stock.shelves[key].pool for key in keys}
    for key in keys:
        offer = draft.board(key).best(vm.gpus)
        if offer is not None and not (offer.move and pools[key].recommend_only):
            return _too_dear(draft, key, vm, offer) or _accept(draft, key, vm, offer)
    # What is only recommended may never be done: it comes after all that will be.
    for key in sorted(keys, key=lambda key: pools[key].recommend_only):
        if pools[key].eviction is EvictionRule.BEST_EFFORT:
            draft.board(key).allow_eviction(draft.stock)
        offer = draft.board(key).best(vm.gpus)
        if offer is not None:
            return _too_dear(draft, key, vm, offer) or _accept(draft, key, vm, offer)
    if not draft.explain:
        return Reason.NO_CANDIDATE, "no GPU of its kind can be moved now"
    resource = vm.claims[0].resource_name
    if resource not in draft.shortages:
        draft.shortages[resource] = _why_nothing(draft, keys, vm)
    return draft.shortages[resource]


def _too_dear(draft: PlanState, key: GroupKey, vm: Vm, offer: Candidate) -> Denial | None:
    lost = sum(unit.lost_gpu_seconds for unit in offer.move)
    if not lost or key not in draft.spares:
        return None
    at_once, rate = draft.spares[key].work_at_once, draft.spares[key].work_per_second_waited
    waited = draft.snapshot.taken_at - (vm.waiting_since or vm.created_at)
    if lost <= at_once + rate * waited:
        return None
    return (
        Reason.EVICTION_NOT_YET,
        f"the cheapest eviction would throw away {lost / 3_600:.1f} GPU hours of work; it is made once the VM has "
        f"waited {(lost - at_once) / rate:.0f} s and nothing else has fallen free",
    )


def _accept(draft: PlanState, key: GroupKey, vm: Vm, offer: Candidate) -> Denial:
    shelf, budget = draft.stock.shelves[key], draft.budgets[key[0]]
    moved: list[Unit] = []
    stopped: Denial | None = None
    for unit in offer.move:
        stopped = budget.denial(Mode.PASSTHROUGH, unit.size)
        if stopped is not None:
            draft.held_back[key] = stopped
            break
        how = f"; {len(unit.evict)} best-effort pod(s) are evicted" if unit.evict else ", idle"
        what = " and ".join(name_of(gpu) for gpu in unit.gpus[:2])
        message = f"{what}{how}, goes to waiting VM {vm.namespace}/{vm.name}, which needs {vm.gpus} GPU(s)"
        draft.move(shelf, unit, Mode.PASSTHROUGH, Reason.VM_WAITING, message)
        moved.append(unit)
    draft.board(key).take(offer, vm.gpus, moved)
    if stopped is not None:
        return stopped
    if moved:
        count = sum(unit.size for unit in moved)
        if shelf.pool.recommend_only:
            return only_recommended(shelf.pool, f"{count} GPU(s) of {offer.node} over for it")
        return Reason.MOVE_UNDER_WAY, f"this plan moves {count} GPU(s) of {offer.node} over for it"
    if offer.use_incoming:
        return Reason.MOVE_UNDER_WAY, f"{offer.use_incoming} GPU(s) of {offer.node} are on their way for it"
    return (
        Reason.FREE_CAPACITY,
        f"{vm.gpus} GPU(s) are free for it on {offer.node}; the scheduler will bind it",
    )


def _why_nothing(draft: PlanState, keys: list[GroupKey], vm: Vm) -> Denial:
    """Every GPU of the model is in use, moving or kept: say what they are doing."""
    resource, usage = vm.claims[0].resource_name, draft.stock.usage
    counts: dict[Reason, int] = {}
    example: dict[Reason, str] = {}
    for key in keys:
        for stock in draft.stock.shelves[key].nodes.values():
            first = stock.busy_shared[0][0] if stock.busy_shared else next(iter(stock.busy_passthrough), None)
            if first is None:
                continue
            busy = sum(map(len, stock.busy_shared)) + len(stock.busy_passthrough)
            counts[Reason.GPU_BUSY] = counts.get(Reason.GPU_BUSY, 0) + busy
            if Reason.GPU_BUSY not in example:
                example[Reason.GPU_BUSY] = f"{name_of(first)} is busy with {usage.why_busy(first)}"
    for kept in draft.stock.refused:
        if kept.gpu.resource_name == resource and kept.pool is not None:
            denial = denial_of(kept.gpu, kept.node, kept.pool, usage)
            if denial is not None:
                counts[denial[0]] = counts.get(denial[0], 0) + 1
                example.setdefault(*denial)
    if not counts:
        return Reason.NO_CANDIDATE, f"no node has {vm.gpus} GPU(s) of its kind that are free or idle together"
    most = max(counts, key=lambda reason: (counts[reason], reason))
    total = sum(draft.stock.shelves[key].gpus for key in keys)
    return (
        Reason.NO_CANDIDATE,
        f"none of {total} GPU(s) can be moved now: {counts[most]} of them {most}, e.g. {example[most]}"
        f"{idle_holders(draft, keys)}",
    )
