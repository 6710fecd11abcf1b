"""Waiting VMs: who is given which GPUs, and what each is told."""

from poolmgr.domain.demand import Vm
from poolmgr.domain.fleet import EvictionRule
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Refusal, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.planner.inventory.candidates import Candidate, CandidateIndex
from poolmgr.planner.inventory.eligibility import Denial, denial_of, name_of, recommendation_denial
from poolmgr.planner.inventory.node import GroupKey, Unit
from poolmgr.planner.quotas import Quotas
from poolmgr.planner.stages.idle_vms import idle_holders
from poolmgr.planner.stages.state import Effect, PlanState, Proposal


def serve_waiting_vms(state: PlanState) -> Effect:
    """Waiting VMs, oldest first, get free GPUs, then GPUs on their way, then idle shared ones moved over, then (where
    the pool allows it and the work lost is worth it) GPUs freed of best-effort pods."""
    waiting = [vm for vm in state.snapshot.vms if vm.node is None and vm.claims]
    waiting.sort(key=lambda vm: (vm.waiting_since or vm.created_at, vm.uid))
    quotas = Quotas(state.snapshot, state.inventory)
    serving = _Serving(Proposal(state))
    for vm in quotas.in_turn(waiting):
        said = _never_servable(state, vm) or quotas.denial(vm) or serving.serve(vm)
        serving.proposal.refusals.append(Refusal(Subject(SubjectKind.VM, vm.namespace, vm.name), *said))
    return serving.effect()


def _never_servable(state: PlanState, vm: Vm) -> Denial | None:
    """Reasons why no move could ever serve the VM."""
    resources = sorted({claim.resource_name for claim in vm.claims})
    inventory = state.inventory
    if len(resources) > 1:
        return (
            Reason.NO_CANDIDATE,
            f"it asks for GPUs of several kinds ({', '.join(resources)}); poolmgr plans one kind for a VM",
        )
    resource = resources[0]
    if resource not in inventory.groups_by_resource:
        return Reason.UNKNOWN_RESOURCE, f"no pooled GPU of this cluster is {resource}; check its deviceName"
    if vm.gpus > inventory.largest_by_resource[resource]:
        return (
            Reason.MORE_THAN_ANY_NODE,
            f"it asks for {vm.gpus} GPUs of {resource}; the largest node has "
            f"{inventory.largest_by_resource[resource]}",
        )
    return None


class _Serving:
    """Places one VM after the other."""

    def __init__(self, proposal: Proposal) -> None:
        self.proposal = proposal
        self._state = proposal.state
        self._candidates: dict[GroupKey, CandidateIndex] = {}
        self._shortages: dict[str, Denial] = {}
        """Resource → what its GPUs are doing, said once for all VMs that it lacks for."""

    def effect(self) -> Effect:
        for key, index in self._candidates.items():
            self.proposal.take(key, index.taken, index.changed)
        return self.proposal.effect()

    def _index(self, key: GroupKey) -> CandidateIndex:
        """The group's candidates, made when the first VM asks for them."""
        index = self._candidates.get(key)
        if index is None:
            index = self._candidates[key] = CandidateIndex(self._state.inventory.groups[key])
        return index

    def serve(self, vm: Vm) -> Denial:
        """Reserve or move GPUs for one VM; what is said to its owner."""
        inventory = self._state.inventory
        keys = inventory.groups_by_resource[vm.claims[0].resource_name]
        pools = {key: inventory.groups[key].pool for key in keys}
        for key in keys:
            candidate = self._index(key).best(vm.gpus)
            if candidate is not None and not (candidate.move and pools[key].recommend_only):
                return self._too_dear(key, vm, candidate) or self._accept(key, vm, candidate)
        # What is only recommended may never be done: it comes after all that will be.
        for key in sorted(keys, key=lambda key: pools[key].recommend_only):
            if pools[key].eviction is EvictionRule.BEST_EFFORT:
                self._index(key).allow_eviction(inventory)
            candidate = self._index(key).best(vm.gpus)
            if candidate is not None:
                return self._too_dear(key, vm, candidate) or self._accept(key, vm, candidate)
        if not self._state.explain:
            return Reason.NO_CANDIDATE, "no GPU of its kind can be moved now"
        resource = vm.claims[0].resource_name
        if resource not in self._shortages:
            self._shortages[resource] = _why_nothing(self._state, keys, vm)
        return self._shortages[resource]

    def _too_dear(self, key: GroupKey, vm: Vm, candidate: Candidate) -> Denial | None:
        lost = sum(unit.lost_gpu_seconds for unit in candidate.move)
        headroom = self._state.headroom.get(key)
        if not lost or headroom is None:
            return None
        waited = self._state.snapshot.taken_at - (vm.waiting_since or vm.created_at)
        if lost <= headroom.work_at_once + headroom.work_per_second_waited * waited:
            return None
        seconds = (lost - headroom.work_at_once) / headroom.work_per_second_waited
        return (
            Reason.EVICTION_NOT_YET,
            f"the cheapest eviction would throw away {lost / 3_600:.1f} GPU hours of work; it is made once the VM has "
            f"waited {seconds:.0f} s and nothing else has fallen free",
        )

    def _accept(self, key: GroupKey, vm: Vm, candidate: Candidate) -> Denial:
        proposal, pool = self.proposal, self._state.inventory.groups[key].pool
        moved: list[Unit] = []
        stopped: Denial | None = None
        for unit in candidate.move:
            stopped = proposal.budgets[key[0]].denial(Mode.PASSTHROUGH, unit.size)
            if stopped is not None:
                proposal.held_back[key] = stopped
                break
            how = f"; {len(unit.evict)} best-effort pod(s) are evicted" if unit.evict else ", idle"
            what = " and ".join(name_of(gpu) for gpu in unit.gpus[:2])
            message = (
                f"{what}{how}, goes to waiting VM {vm.namespace}/{vm.name}, which needs {vm.gpus} GPU(s)"
            )
            proposal.move(key, unit, Mode.PASSTHROUGH, Reason.VM_WAITING, message)
            moved.append(unit)
        self._index(key).take(candidate, vm.gpus, moved)
        if stopped is not None:
            return stopped
        if moved:
            count = sum(unit.size for unit in moved)
            if pool.recommend_only:
                return recommendation_denial(pool, f"{count} GPU(s) of {candidate.node} over for it")
            return Reason.MOVE_UNDER_WAY, f"this plan moves {count} GPU(s) of {candidate.node} over for it"
        if candidate.use_incoming:
            return (
                Reason.MOVE_UNDER_WAY,
                f"{candidate.use_incoming} GPU(s) of {candidate.node} are on their way for it",
            )
        return (
            Reason.FREE_CAPACITY,
            f"{vm.gpus} GPU(s) are free for it on {candidate.node}; the scheduler will bind it",
        )


def _why_nothing(state: PlanState, keys: list[GroupKey], vm: Vm) -> Denial:
    """Every GPU of the model is in use, moving or kept: say what they are doing."""
    resource, usage = vm.claims[0].resource_name, state.inventory.usage
    counts: dict[Reason, int] = {}
    example: dict[Reason, str] = {}
    for key in keys:
        for node in state.inventory.groups[key].nodes.values():
            first = node.busy_shared[0][0] if node.busy_shared else next(iter(node.busy_passthrough), None)
            if first is None:
                continue
            busy = sum(map(len, node.busy_shared)) + len(node.busy_passthrough)
            counts[Reason.GPU_BUSY] = counts.get(Reason.GPU_BUSY, 0) + busy
            if Reason.GPU_BUSY not in example:
                example[Reason.GPU_BUSY] = f"{name_of(first)} is busy with {usage.why_busy(first)}"
    for kept in state.inventory.ineligible:
        if kept.gpu.resource_name == resource and kept.pool is not None:
            denial = denial_of(kept.gpu, kept.node, kept.pool, usage, state.snapshot.taken_at)
            if denial is not None:
                counts[denial[0]] = counts.get(denial[0], 0) + 1
                example.setdefault(*denial)
    if not counts:
        return Reason.NO_CANDIDATE, f"no node has {vm.gpus} GPU(s) of its kind that are free or idle together"
    most = max(counts, key=lambda reason: (counts[reason], reason))
    total = sum(state.inventory.groups[key].gpus for key in keys)
    return (
        Reason.NO_CANDIDATE,
        f"none of {total} GPU(s) can be moved now: {counts[most]} of them {most}, e.g. {example[most]}"
        f"{idle_holders(state, keys)}",
    )
