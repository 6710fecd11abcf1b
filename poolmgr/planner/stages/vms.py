"""Waiting VMs: who is given which GPUs, and what each is told."""

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from poolmgr.domain.demand import DeviceClaim, Vm
from poolmgr.domain.denials import Denial, name_of
from poolmgr.domain.fleet import EvictionRule
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.occupancy import unbound_vms
from poolmgr.domain.plan import Refusal, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.planner.inventory.candidates import Candidate, CandidateIndex
from poolmgr.planner.inventory.eligibility import denial_of, recommendation_denial
from poolmgr.planner.inventory.node import GroupKey, Unit
from poolmgr.planner.inventory.node_resources import NodeResources
from poolmgr.planner.stages.idle_vms import idle_holders
from poolmgr.planner.stages.kept_for_holders import KeptForHolders
from poolmgr.planner.stages.state import PlanState, Proposal, StageResult, no_node_admits


def serve_waiting_vms(state: PlanState) -> StageResult:
    """Waiting VMs, those of the highest priority and then the oldest first, get free GPUs, then GPUs on their way, then idle shared ones moved over, then (where
    the pool allows it and the work lost is worth it) GPUs freed of best-effort pods."""
    waiting = [vm for vm in unbound_vms(state.snapshot.vms) if vm.claims]
    waiting.sort(key=lambda vm: (-vm.priority, vm.waiting_since or vm.created_at, vm.uid))
    serving = _Serving(Proposal(state))
    waiting = state.quotas.in_turn(waiting)
    if serving.kept:
        # Who may take a GPU any moment, and who holds a reservation; then what is reserved; then everybody else.
        others = []
        for vm in waiting:
            if vm.admitted or serving.kept.holder(vm):
                serving.tell(vm)
            else:
                others.append(vm)
        serving.fetch_reserved()
        waiting = others
    for vm in waiting:
        serving.tell(vm)
    return serving.result()


def _never_servable(state: PlanState, vm: Vm) -> Denial | None:
    """Reasons why no move could ever serve such a VM."""
    known = state.inventory.groups_by_resource
    ours = [claim for claim in vm.claims if claim.resource_name in known]
    unknown = [c for c in vm.claims if c.resource_name not in known and c.resource_name not in state.offered]
    if unknown or not ours:
        resource = (unknown or list(vm.claims))[0].resource_name
        return (
            Reason.UNKNOWN_RESOURCE,
            f"no GPU in a pool of this cluster provides {resource}; check the deviceName",
        )
    having: Collection[NodeName] = state.nodes_with(ours[0].resource_name)
    for claim in ours[1:]:
        others = state.nodes_with(claim.resource_name)
        having = [name for name in having if name in others]
    if not having:
        kinds = " and ".join(claim.resource_name for claim in ours)
        return Reason.MORE_THAN_ANY_NODE, f"it asks for {kinds} together; no node has both"
    admitted = state.node_filter.admitted(vm.placement, having)
    if not admitted:
        return no_node_admits(state, vm.placement, having)
    for claim in ours:
        counts = state.nodes_with(claim.resource_name)
        most = max(map(counts.__getitem__, admitted))
        if claim.count > most:
            where = "" if most == max(counts.values()) else " that accepts it"
            return (
                Reason.MORE_THAN_ANY_NODE,
                f"it asks for {claim.count} GPUs of {claim.resource_name}; the largest node{where} has {most}",
            )
    return None


def _of_ours(state: PlanState, vm: Vm) -> Vm:
    """The VM with what others give out (a vGPU of another plugin) among the things that its node has to have left."""
    known = state.inventory.groups_by_resource
    foreign = {c.resource_name: c.count for c in vm.claims if c.resource_name not in known}
    if not foreign:
        return vm
    requests = tuple(sorted({**dict(vm.placement.requests), **foreign}.items()))
    ours = tuple(claim for claim in vm.claims if claim.resource_name in known)
    return replace(vm, claims=ours, placement=replace(vm.placement, requests=requests))


NO_LAUNCHER_YET: Denial = (
    Reason.PLACEMENT_UNKNOWN,
    "no GPU is moved for it until KubeVirt has created its virt-launcher pod: its volumes or its rules about other pods decide "
    "where it can run",
)


NOBODY_EVICTED_YET: Denial = (
    Reason.EVICTION_NOT_YET,
    "only evicting pods would free a GPU for it, and poolmgr evicts none until KubeVirt has created its virt-launcher "
    "pod, which a quota or a policy may still refuse",
)


class _Serving:
    """Places one VM after the other."""

    def __init__(self, proposal: Proposal) -> None:
        self.proposal = proposal
        self._state = proposal.state
        self.kept = KeptForHolders(proposal.state.reserved, proposal.state.inventory)
        self._candidates: dict[GroupKey, CandidateIndex] = {}
        self._first_with_rules: dict[str, str] = {}
        """Namespace → the VM with rules about other pods that is placed now: the rules of the next may be about it."""
        self._impossible: dict[tuple[object, ...], Denial | None] = {}
        self._shortages: dict[tuple[object, ...], Denial] = {}
        """What is asked for → what such GPUs are doing, worked out once for all VMs that ask for the same."""

    def tell(self, vm: Vm) -> None:
        """Serve it, and say what becomes of it."""
        said = self.denial(vm) or self.serve(_of_ours(self._state, vm))
        self.proposal.refusals.append(Refusal(Subject(SubjectKind.VM, vm.namespace, vm.name), *said))

    def fetch_reserved(self) -> None:
        """Bring idle GPUs over for reservations of which too few are ready, before anybody else is given them."""
        for key in self.kept.groups:
            while (missing := self.kept.missing(key, self._index(key).ready)) > 0:
                candidate = self._index(key).best(1, most_ready=0)
                unit = candidate.move[0] if candidate is not None else None
                if candidate is None or unit is None or unit.evict:
                    break
                stopped = self.proposal.budgets[key[0]].denial(Mode.PASSTHROUGH, unit.size)
                if stopped is not None:
                    self.proposal.hold_back(key, stopped)
                    break
                message = (
                    f"{name_of(unit.gpus[0])} is idle: {missing} more are reserved by {self.kept.names(key)}"
                )
                self.proposal.move(key, unit, Mode.PASSTHROUGH, Reason.RESERVATION_DUE, message)
                self._index(key).take(candidate, 0, [unit])

    def denial(self, vm: Vm) -> Denial | None:
        """Why no move of GPUs could serve the VM, however long it waits."""
        if not vm.servable:
            return vm.servable.reason, vm.servable.message
        asked = (vm.claims, vm.placement)
        if asked not in self._impossible:
            self._impossible[asked] = _never_servable(self._state, vm)
        return self._impossible[asked]

    def result(self) -> StageResult:
        for key, index in self._candidates.items():
            self.proposal.take(key, index.taken, index.changed)
        return self.proposal.result()

    def _index(self, key: GroupKey) -> CandidateIndex:
        """The group's candidates, made when the first VM asks for them."""
        index = self._candidates.get(key)
        if index is None:
            group = self._state.inventory.groups[key]
            index = CandidateIndex(group, self._state.node_filter, self.proposal.node_resources)
            self._candidates[key] = index
        return index

    def serve(self, vm: Vm) -> Denial:
        """Reserve or move GPUs for one VM; what is said to its owner."""
        if vm.placement.one_at_a_time:
            before = self._first_with_rules.setdefault(vm.namespace, vm.name)
            if before != vm.name:
                return (
                    Reason.NO_CANDIDATE,
                    f"its affinity to other pods is checked again once {vm.namespace}/{before} is placed",
                )
        if len(vm.claims) > 1:
            return self._serve_several(vm)
        inventory = self._state.inventory
        keys = inventory.groups_by_resource[vm.claims[0].resource_name]
        pools = {key: inventory.groups[key].pool for key in keys}
        for key in keys:
            candidate = self._best(key, vm)
            if candidate is not None and not (candidate.move and pools[key].recommend_only):
                return self._too_dear(key, vm, candidate) or self._accept_alone(key, vm, candidate)
        # What is only recommended may never be done: it comes after all that will be.
        for key in sorted(keys, key=lambda key: pools[key].recommend_only):
            if pools[key].eviction is EvictionRule.BEST_EFFORT:
                self._index(key).allow_eviction(inventory)
            candidate = self._best(key, vm)
            if candidate is not None:
                return self._too_dear(key, vm, candidate) or self._accept_alone(key, vm, candidate)
        if self.kept:
            unlimited = [self._index(key).best(vm.gpus, vm.placement, vm.needs) for key in keys]
            if any(candidate is not None and not candidate.move for candidate in unlimited):
                return self.kept.denial(keys, vm.gpus)
        if not self._state.explain:
            return Reason.NO_CANDIDATE, "no GPU of its kind can be moved now"
        asked = (vm.claims, vm.placement, vm.needs)
        if asked not in self._shortages:
            self._shortages[asked] = _why_nothing(self._state, keys, vm, self.proposal.node_resources)
        return self._shortages[asked]

    def _best(self, key: GroupKey, vm: Vm) -> Candidate | None:
        index = self._index(key)
        return index.best(vm.gpus, vm.placement, vm.needs, self.kept.most_ready(vm, key, index.ready))

    def _serve_several(self, vm: Vm) -> Denial:
        """GPUs of several kinds, on the node where the fewest of them move. Nobody is evicted for them."""
        state = self._state
        offers: list[tuple[int, NodeName, list[tuple[GroupKey, Candidate]]]] = []
        for name in state.nodes_with(vm.claims[0].resource_name):
            if state.node_filter.denial(vm.placement, name) or self.proposal.node_resources.lacks(
                name, vm.needs
            ):
                continue
            parts = [self._part(vm, claim, name) for claim in vm.claims]
            found = [part for part in parts if part is not None]
            if len(found) == len(parts):
                offers.append((sum(u.size for _, c in found for u in c.move), name, found))
        if not offers:
            kinds = " and ".join(claim.resource_name for claim in vm.claims)
            return (
                Reason.NO_CANDIDATE,
                f"no node that accepts it has {kinds} free or idle at the same time",
            )
        moves, name, found = min(offers, key=lambda offer: offer[:2])
        if vm.provisional and moves:
            return NO_LAUNCHER_YET
        said = [
            self._accept(key, vm, candidate, claim.count)
            for (key, candidate), claim in zip(found, vm.claims, strict=True)
        ]
        self.proposal.node_resources.take(name, vm.needs)
        if moves and all(denial[0] in (Reason.FREE_CAPACITY, Reason.MOVE_UNDER_WAY) for denial in said):
            return _moved(moves, name)
        # What is missing decides what is said; free GPUs of one kind are of no use without the other.
        return next((denial for denial in said if denial[0] is not Reason.FREE_CAPACITY), said[0])

    def _part(self, vm: Vm, claim: DeviceClaim, name: NodeName) -> tuple[GroupKey, Candidate] | None:
        """One kind's GPUs on a node."""
        for key in self._state.inventory.groups_by_resource[claim.resource_name]:
            index = self._index(key)
            candidate = index.at(name, claim.count, self.kept.most_ready(vm, key, index.ready))
            if candidate is not None:
                return key, candidate
        return None

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
            f"evicting pods for it would cost at least {lost / 3_600:.1f} GPU-hours of their work; poolmgr does so once the "
            f"VM has waited {seconds:.0f} s, unless a GPU becomes free first",
        )

    def _accept_alone(self, key: GroupKey, vm: Vm, candidate: Candidate) -> Denial:
        if vm.provisional and candidate.move:
            return NO_LAUNCHER_YET
        if not vm.launcher_uid and any(unit.evict for unit in candidate.move):
            return NOBODY_EVICTED_YET
        self.proposal.node_resources.take(candidate.node, vm.needs)
        return self._accept(key, vm, candidate, vm.gpus)

    def _accept(self, key: GroupKey, vm: Vm, candidate: Candidate, gpus: int) -> Denial:
        """`gpus` of one kind."""
        proposal, pool = self.proposal, self._state.inventory.groups[key].pool
        moved: list[Unit] = []
        stopped: Denial | None = None
        for unit in candidate.move:
            stopped = proposal.budgets[key[0]].denial(Mode.PASSTHROUGH, unit.size)
            if stopped is not None:
                proposal.held_back[key] = stopped
                break
            how = f"freed by evicting {len(unit.evict)} best-effort pod(s)" if unit.evict else "idle"
            what = " and ".join(name_of(gpu) for gpu in unit.gpus[:2])
            message = f"{what} ({how}) for VM {vm.namespace}/{vm.name}, which waits for {gpus} GPU(s)"
            proposal.move(key, unit, Mode.PASSTHROUGH, Reason.VM_WAITING, message)
            moved.append(unit)
        self._index(key).take(candidate, gpus, moved)
        self.kept.give(vm, key, gpus)
        if stopped is not None:
            return stopped
        if moved:
            count = sum(unit.size for unit in moved)
            if pool.recommend_only:
                return recommendation_denial(
                    pool, f"{count} GPU(s) on {candidate.node} to passthrough for it"
                )
            return _moved(count, candidate.node)
        if candidate.use_incoming:
            return (
                Reason.MOVE_UNDER_WAY,
                f"{candidate.use_incoming} GPU(s) on {candidate.node} are moving to passthrough for it",
            )
        return (
            Reason.FREE_CAPACITY,
            f"{gpus} GPU(s) are free for it on {candidate.node}; the scheduler will place it there",
        )


def _moved(gpus: int, node: NodeName) -> Denial:
    return Reason.MOVE_UNDER_WAY, f"this plan moves {gpus} GPU(s) on {node} to passthrough for it"


def _why_nothing(state: PlanState, keys: list[GroupKey], vm: Vm, resources: NodeResources) -> Denial:
    """Every GPU of the model where the VM may run is in use, moving or kept, or its node is full: say which."""
    resource, usage = vm.claims[0].resource_name, state.inventory.usage
    needs, wanted = vm.needs, vm.gpus
    counts: dict[Reason, int] = {}
    example: dict[Reason, str] = {}
    gpus, allowed = 0, state.node_filter
    pooled = state.nodes_with(resource)
    unpooled = Counter(
        entry.node.name
        for entry in state.inventory.ineligible
        if entry.pool is None and entry.gpu.resource_name == resource
    )
    busy = on_full = (
        0  # summed here: a member of an enumeration is slow to look up and to hash, and nodes are many
    )
    for key in keys:
        nodes = state.inventory.groups[key].nodes
        for name in allowed.admitted(vm.placement, nodes):
            node = nodes[name]
            gpus += pooled.get(name, 0)
            if unpooled:
                gpus += unpooled[name]
            could = node.free + node.incoming + sum([len(unit.gpus) for unit in node.to_passthrough])
            full = resources.lacks(name, needs) if could >= wanted else ""
            if full:
                if not on_full:
                    example[Reason.NODE_FULL] = f"node {name} is too full: {full}"
                on_full += could
            if not busy and (node.busy_shared or node.busy_passthrough):
                first = node.busy_shared[0][0] if node.busy_shared else node.busy_passthrough[0]
                example[Reason.GPU_BUSY] = f"{name_of(first)} is in use by {usage.why_busy(first)}"
            busy += sum(map(len, node.busy_shared)) + len(node.busy_passthrough)
    if on_full:
        counts[Reason.NODE_FULL] = on_full
    if busy:
        counts[Reason.GPU_BUSY] = busy
    for entry in state.inventory.ineligible:
        mine = entry.gpu.resource_name == resource and entry.pool is not None
        if mine and entry.pool is not None and not allowed.denial(vm.placement, entry.node.name):
            now = state.snapshot.taken_at
            denial = entry.denial or denial_of(entry.gpu, entry.node, entry.pool, usage, now)
            if denial is not None:
                counts[denial[0]] = counts.get(denial[0], 0) + 1
                example.setdefault(*denial)
    if not counts:
        return Reason.NO_CANDIDATE, f"no node has {vm.gpus} GPU(s) of its kind free or idle at the same time"
    most = max(counts, key=lambda reason: (counts[reason], reason))
    where = (
        "" if gpus == sum(state.inventory.groups[key].gpus for key in keys) else " on nodes that accept it"
    )
    return (
        Reason.NO_CANDIDATE,
        f"none of {gpus} GPU(s){where} can be moved now: {counts[most]} of them {most}, for example {example[most]}"
        f"{idle_holders(state, keys)}",
    )
