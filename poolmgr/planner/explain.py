"""A reason and a sentence for everything that a plan leaves as it is."""

from dataclasses import replace

from poolmgr.domain.backoff import utc
from poolmgr.domain.demand import FULL_CORES
from poolmgr.domain.denials import Denial, name_of
from poolmgr.domain.fleet import Gpu
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.occupancy import unbound_pods
from poolmgr.domain.plan import Move, Refusal, Subject, SubjectKind, Target
from poolmgr.domain.reasons import Reason
from poolmgr.planner.inventory.card_table import DEFAULT_SPLIT, card_size
from poolmgr.planner.inventory.eligibility import denial_of, recommendation_denial, use_denial
from poolmgr.planner.inventory.inventory import GpuGroup
from poolmgr.planner.inventory.node import GroupKey, IneligibleGpu, NodeInventory, Unit
from poolmgr.planner.inventory.shared_fit import PodShape, ShapeFit
from poolmgr.planner.inventory.usage import Usage, busy_with_pods
from poolmgr.planner.inventory.whole_pods import Card, place_whole
from poolmgr.planner.sizing.headroom import Headroom
from poolmgr.planner.stages.state import PlanState, no_node_admits

_HAS_ROOM: Denial = Reason.FREE_CAPACITY, "a shared GPU has room for it; HAMi will place it"
_ON_ITS_WAY: Denial = Reason.MOVE_UNDER_WAY, "a GPU with room for it is moving to the shared side"
_IS_MOVED: Denial = Reason.MOVE_UNDER_WAY, "this plan moves a GPU with room for it to the shared side"


def explain_pods(state: PlanState) -> list[Refusal]:
    """A sentence for every waiting pod. Pods of one shape wait in order, so the first ones are served first."""
    returning = [move for move in state.moves if move.to_mode is Mode.SHARED]
    recommended = [move for move in returning if move.recommended]
    pools = {pool.name: pool for pool in state.snapshot.pools}
    said_of = [
        Refusal(Subject(SubjectKind.POD, pod.namespace, pod.name), pod.servable.reason, pod.servable.message)
        for pod in unbound_pods(state.snapshot.pods)
        if not pod.servable.ok and not pod.terminating
    ]
    for fit in state.waiting_pods:
        moved = hoped = 0
        if returning and fit.unmet:
            groups = state.inventory.groups.values()
            per_card = max((fit.shape.per_card(card_size(group)) for group in groups), default=0)
            suit = [move for move in returning if _suits(state, fit.shape, move)]
            hopes = sum(move.recommended for move in suit)
            if fit.shape.whole:
                served = state.completed.get(fit.shape, 0)
                moved, hoped = (0, served) if hopes else (served, 0)
            else:
                moved = min(fit.unmet, (len(suit) - hopes) * per_card)
                hoped = min(fit.unmet - moved, hopes * per_card)
        fate, kind = _fate_of_unmet(state, fit), SubjectKind.POD
        for rank, pod in enumerate(fit.pods):
            if rank < fit.fits_now:
                said = _HAS_ROOM
            elif rank < fit.fits:
                said = _ON_ITS_WAY
            elif rank < fit.fits + moved:
                said = _IS_MOVED
            elif rank < fit.fits + moved + hoped:
                said = recommendation_denial(
                    pools[recommended[0].pool], "a GPU with room for it to the shared side"
                )
            else:
                said = fate
            said_of.append(Refusal(Subject(kind, pod.namespace, pod.name), *said))
    return said_of


def _no_node_has_it_whole(shape: PodShape, groups: list[GpuGroup], names: list[NodeName]) -> Denial | None:
    """The denial for a pod that not even an empty node could serve; None where one could."""
    most = 0
    for name in names:
        cards: list[Card] = []
        for group in groups:
            at, size = group.nodes.get(name), card_size(group)
            mine = [g for g in at.node.gpus if g.model == group.model and shape.accepts(g)] if at else []
            cards += [Card(n, size, size, FULL_CORES, DEFAULT_SPLIT, True) for n in range(len(mine))]
        cards = [replace(card, row=row) for row, card in enumerate(cards)]
        if place_whole(cards, shape.asks) is not None:
            return None
        most = max(most, len(cards))
    wanted = max(ask.cards for ask in shape.asks)
    return (
        Reason.MORE_THAN_ANY_NODE,
        f"one container requests slices of {wanted} GPU(s)"
        + (f", and {len(shape.asks) - 1} other(s) request more" if len(shape.asks) > 1 else "")
        + f"; the largest node that accepts it has {most} suitable GPU(s)",
    )


def _suits(state: PlanState, shape: PodShape, move: Move) -> bool:
    """Whether pods of the shape could run on a GPU that the plan moves over."""
    if state.node_filter.denial(shape.placement, move.node, shared=True):
        return False
    named = not shape.allowed_uuids or move.uuid in shape.allowed_uuids
    return named and move.uuid not in shape.excluded_uuids and shape.accepts_model(move.model)


def _fate_of_unmet(state: PlanState, fit: ShapeFit) -> Denial:
    keys = tuple(key for key, s in state.inventory.groups.items() if fit.shape.accepts_model(s.model))
    groups = [state.inventory.groups[key] for key in keys]
    if not groups:
        wanted = ", ".join(fit.shape.models) or "any model"
        return Reason.UNKNOWN_RESOURCE, f"no GPU in a pool is of a model that it accepts ({wanted})"
    placement, needs = fit.shape.placement, fit.shape.needs
    names = state.nodes_in(keys)
    may = list(state.node_filter.admitted(placement, names, shared=True))
    if not may:
        return no_node_admits(state, placement, names, shared=True)
    resources = state.resources_for_pods
    if needs and all(resources.lacks(name, needs) for name in may):
        return (
            Reason.NODE_FULL,
            f"node {may[0]} is too full: {resources.lacks(may[0], needs)}"
            + (f"; so are the {len(may) - 1} other node(s) that accept it" if len(may) > 1 else ""),
        )
    if not any(fit.shape.fits_card(card_size(group)) for group in groups):
        most = max(ask.memory_mib for ask in fit.shape.asks)
        return (
            Reason.MORE_MEMORY_THAN_ANY_CARD,
            f"it requests {most} MiB; the largest GPU has {max(map(card_size, groups))} MiB",
        )
    if fit.shape.whole:
        denial = _no_node_has_it_whole(fit.shape, groups, may)
        if denial is not None:
            return denial
    for group in groups:
        held = state.held_back.get((str(group.pool.name), group.model))
        if held is not None:
            return held
    lent = 0 if fit.shape.best_effort else sum(state.nodes_lent[key] for key in keys)
    if lent:
        return (
            Reason.LENT_TO_BEST_EFFORT,
            f"{lent} node(s) are reserved for expected VMs and take only best-effort pods; no other node has room. With the "
            'annotation poolmgr.io/best-effort: "true" it may run there, and be evicted when a VM needs the GPU',
        )
    if fit.shape.whole:
        return Reason.NO_CANDIDATE, "no node has room for all its slices now, even with its idle GPUs moved"
    free = sum(s.free for s in groups)
    if free:
        return _free_for_vms(state, keys, free)
    if sum(s.passthrough - s.vm_busy for s in groups) > 0:
        return (
            Reason.NO_CANDIDATE,
            "no shared GPU has room for it, and every idle passthrough GPU is for a waiting VM or cannot move",
        )
    return Reason.NO_CANDIDATE, "no shared GPU has room for it and no passthrough GPU is idle"


def _free_for_vms(state: PlanState, keys: tuple[GroupKey, ...], free: int) -> Denial:
    """Why pods get none of `free` GPUs that are free in passthrough: what VMs are to find comes before cooldowns."""
    there = f"{free} GPU(s) are free in passthrough"
    ready = [state.headroom[key] for key in keys if state.headroom[key].keep]
    if sum(headroom.keep for headroom in ready) >= free:
        return Reason.HEADROOM, f"{there}, kept ready for the next VM: {ready[0].message}"
    parts = (at for key in keys for at in state.inventory.groups[key].nodes.values())
    rest = [unit.held_until for at in parts for unit in at.to_shared]
    rest = [until for until in rest if until > state.snapshot.taken_at]
    if rest:
        return (
            Reason.COOLDOWN,
            f"{there}; {len(rest)} moved there lately, and the first may move back at {utc(min(rest))}",
        )
    return Reason.NO_CANDIDATE, f"{there} or on their way there, and none of them can move back for it now"


def explain_gpus(state: PlanState) -> list[Refusal]:
    """Why each GPU that does not move stays: kept by a rule, in use, or idle and not needed."""
    found: list[Refusal] = []
    usage, now = state.inventory.usage, state.snapshot.taken_at
    for entry in state.inventory.ineligible:
        gpu, why = entry.gpu, why_ineligible(entry, usage, now)
        denial = entry.denial or denial_of(gpu, entry.node, entry.pool, usage, now)
        said: Denial = denial or (Reason.NOT_CHOSEN, f"{name_of(gpu)} stays: {why}")
        if why and denial and not why.endswith(denial[1]):
            said = denial[0], f"{denial[1]}; {why}"
        found.append(_about(gpu, said))
    leaving = {(str(move.node), str(move.pci_address)) for move in state.moves}
    for key, group in state.inventory.groups.items():
        held, headroom = state.held_back.get(key), state.headroom[key]
        held_ready = headroom.message if headroom.keep else ""
        for at in group.nodes.values():
            cache = at.explanations
            if cache.busy is None:
                cache.busy = _why_busy(at, usage)
            if at.node.name in state.directions:
                known = (*cache.busy, *_why_idle(at, held, headroom, now))
                found += [r for r in known if (r.subject.namespace, r.subject.name) not in leaving]
                continue
            # A GPU that rests yet is told how long, so that its sentence is another each time.
            rested = not [unit for unit in at.to_shared if unit.held_until > now]
            because = (held, held_ready, rested)
            if cache.idle is None or cache.idle_because != because or not rested:
                cache.idle, cache.idle_because = _why_idle(at, held, headroom, now), because
            found += cache.busy
            found += cache.idle
    explained = {r.subject for r in state.refusals if r.subject.kind is SubjectKind.GPU}
    return [r for r in found if r.subject not in explained] if explained else found


def why_ineligible(entry: IneligibleGpu, usage: Usage, now: float) -> str:
    """What is to be said beyond the GPU's own state: a bundle's members keep each other. Empty where it is in none."""
    if entry.partner is None or entry.pool is None:
        return ""
    denial = denial_of(entry.partner, entry.node, entry.pool, usage, now)
    partner = denial[1] if denial else "they are in different modes"
    return f"it moves only together with other GPUs of its node, and {partner}"


def _why_busy(at: NodeInventory, usage: Usage) -> list[Refusal]:
    """A node's GPUs that their pods or a VM keep. Most are alone in their unit and have pods: that case makes its
    sentence here."""
    said: list[Refusal] = []
    for gpus in at.busy_shared:
        pods = usage.pods_on(gpus[0])
        if len(gpus) == 1 and pods:
            message = f"{name_of(gpus[0])} is in use by {busy_with_pods(pods)}"
            said.append(_about(gpus[0], (Reason.GPU_BUSY, message)))
            continue
        busy = next(g for g in gpus if use_denial(g, usage) is not None)
        for gpu in gpus:
            why = use_denial(gpu, usage) or (
                Reason.NOT_CHOSEN,
                f"{name_of(gpu)} moves only together with other GPUs of its node, and {name_of(busy)} is in use by "
                f"{usage.why_busy(busy)}",
            )
            said.append(_about(gpu, why))
    for gpu in at.busy_passthrough:
        said.append(_about(gpu, (Reason.GPU_BUSY, f"{name_of(gpu)} is in use by {usage.why_busy(gpu)}")))
    return said


def _why_idle(at: NodeInventory, held: Denial | None, headroom: Headroom, now: float) -> list[Refusal]:
    units = (*at.to_passthrough, *at.to_shared)
    return [
        _about(g, _why_unit_stays(unit, held, headroom, now, name_of(g))) for unit in units for g in unit.gpus
    ]


def _about(gpu: Gpu, said: Denial) -> Refusal:
    return Refusal(Subject(SubjectKind.GPU, gpu.node, gpu.pci_address), *said)


def _why_unit_stays(unit: Unit, held: Denial | None, headroom: Headroom, now: float, name: str) -> Denial:
    if held is not None:
        return held
    if unit.gpus[0].observed_mode is Mode.SHARED:
        return Reason.NO_DEMAND, f"{name} is idle in Shared and no VM needs it"
    if unit.held_until > now:
        return (
            Reason.COOLDOWN,
            f"{name} is idle in Passthrough; its cooldown ends in {unit.held_until - now:.0f} s",
        )
    if headroom.keep:
        return Reason.IN_PLACE, f"{name} is kept ready for the next VM: {headroom.message}"
    return Reason.NO_DEMAND, f"{name} is idle in Passthrough and no pod needs it"


def explain_recommended(state: PlanState) -> list[Refusal]:
    """For each GPU that a move is recommended for: what would be done."""
    return [
        Refusal(
            Subject(SubjectKind.GPU, move.node, move.pci_address),
            Reason.RECOMMEND_ONLY,
            f"a move to {move.to_mode} is recommended but not made: {move.message}",
        )
        for move in state.moves
        if move.recommended
    ]


def target_of(state: PlanState, key: GroupKey) -> Target:
    """The size wanted for one model of one pool, with the reason."""
    group, headroom = state.inventory.groups[key], state.headroom[key]
    arriving = sum(1 for m in state.moves if (m.pool, m.model) == key and m.to_mode is Mode.PASSTHROUGH)
    leaving = sum(1 for m in state.moves if (m.pool, m.model) == key and m.to_mode is Mode.SHARED)
    passthrough, shared = group.passthrough + arriving - leaving, group.shared + leaving - arriving
    message = f"{group.vm_busy} in use by VMs, {headroom.keep} kept ready, {shared} for containers: {headroom.message}"
    return Target(group.pool.name, group.model, passthrough, shared, headroom.reason, message)
