"""A reason and a sentence for everything that a plan leaves as it is."""

from dataclasses import replace

from poolmgr.domain.fleet import Gpu
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Move, Refusal, Subject, SubjectKind, Target
from poolmgr.domain.reasons import Reason
from poolmgr.planner.inventory.card_table import DEFAULT_SPLIT, FULL_CORES, card_size
from poolmgr.planner.inventory.eligibility import (
    Denial,
    denial_of,
    name_of,
    not_in_pool,
    recommendation_denial,
    use_denial,
)
from poolmgr.planner.inventory.inventory import GpuGroup
from poolmgr.planner.inventory.node import GroupKey, IneligibleGpu, NodeInventory, Unit
from poolmgr.planner.inventory.shared_fit import PodShape, ShapeFit
from poolmgr.planner.inventory.usage import Usage, busy_with_pods
from poolmgr.planner.inventory.whole_pods import Card, place_whole
from poolmgr.planner.sizing.headroom import Headroom
from poolmgr.planner.stages.state import PlanState, no_node_admits


def explain_pods(state: PlanState) -> list[Refusal]:
    """A sentence for every waiting pod. Pods of one shape wait in order, so the first ones are served first."""
    returning = [move for move in state.moves if move.to_mode is Mode.SHARED]
    recommended = [move for move in returning if move.recommended]
    pools = {pool.name: pool for pool in state.snapshot.pools}
    said_of = [
        Refusal(Subject(SubjectKind.POD, pod.namespace, pod.name), pod.servable.reason, pod.servable.message)
        for pod in state.snapshot.pods
        if pod.node is None and not pod.servable and not pod.terminating
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
        fate = _fate_of_unmet(state, fit)
        for rank, pod in enumerate(fit.pods):
            if rank < fit.fits_now:
                said: Denial = Reason.FREE_CAPACITY, "a shared GPU has room for it; HAMi will place it"
            elif rank < fit.fits:
                said = (
                    Reason.MOVE_UNDER_WAY,
                    "a GPU that will have room for it is on its way to the shared side",
                )
            elif rank < fit.fits + moved:
                said = (
                    Reason.MOVE_UNDER_WAY,
                    "this plan moves a GPU that will have room for it to the shared side",
                )
            elif rank < fit.fits + moved + hoped:
                said = recommendation_denial(
                    pools[recommended[0].pool], "a GPU to the shared side that would have room for it"
                )
            else:
                said = fate
            said_of.append(Refusal(Subject(SubjectKind.POD, pod.namespace, pod.name), *said))
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
        f"it asks for parts of {wanted} GPU(s) for one container"
        + (f" and more for {len(shape.asks) - 1} other(s)" if len(shape.asks) > 1 else "")
        + f"; no node that it may run on can have all of them, the largest has {most} GPU(s) that it accepts",
    )


def _suits(state: PlanState, shape: PodShape, move: Move) -> bool:
    """Whether pods of the shape could run on a GPU that the plan moves over."""
    if state.node_filter.denial(shape.placement, move.node, shared=True):
        return False
    named = not shape.allowed_uuids or move.uuid in shape.allowed_uuids
    return named and move.uuid not in shape.excluded_uuids and shape.accepts_model(move.model)


def _fate_of_unmet(state: PlanState, fit: ShapeFit) -> Denial:
    groups = [s for s in state.inventory.groups.values() if fit.shape.accepts_model(s.model)]
    if not groups:
        wanted = ", ".join(fit.shape.models) or "any model"
        return Reason.UNKNOWN_RESOURCE, f"no pooled GPU is of a model that it accepts ({wanted})"
    placement, needs = fit.shape.placement, fit.shape.needs
    names = {name for group in groups for name in group.nodes}
    may = state.node_filter.admitted(placement, sorted(names), shared=True)
    if not may:
        return no_node_admits(state, placement, sorted(names), shared=True)
    rooms = state.rooms_of_pods
    if needs and all(rooms.lacks(name, needs) for name in may):
        return Reason.NODE_FULL, f"{may[0]} cannot take it beside its GPUs: {rooms.lacks(may[0], needs)}" + (
            f"; nor can the {len(may) - 1} other node(s) that it may run on" if len(may) > 1 else ""
        )
    if not any(fit.shape.fits_card(card_size(group)) for group in groups):
        most = max(ask.memory_mib for ask in fit.shape.asks)
        return (
            Reason.MORE_MEMORY_THAN_ANY_CARD,
            f"it asks for {most} MiB; the largest card has {max(map(card_size, groups))} MiB",
        )
    if fit.shape.whole:
        denial = _no_node_has_it_whole(fit.shape, groups, may)
        if denial is not None:
            return denial
    for group in groups:
        held = state.held_back.get((str(group.pool.name), group.model))
        if held is not None:
            return held
    ordinary = not fit.shape.best_effort
    lent = ordinary and sum(at.node.best_effort_only for s in groups for at in s.nodes.values())
    if lent:
        return (
            Reason.LENT_TO_BEST_EFFORT,
            f"{lent} node(s) take best-effort containers only, since VMs are expected there, and no other has room; "
            'with the annotation poolmgr.io/best-effort: "true" it could run there and be evicted for a VM',
        )
    if fit.shape.whole:
        return Reason.NO_CANDIDATE, "no node can have all of its parts now, whichever idle GPU of it moves"
    free = sum(s.free for s in groups)
    if free:
        return (
            Reason.COOLDOWN,
            f"{free} GPU(s) are free in passthrough, but reserved for VMs or still in cooldown",
        )
    return Reason.NO_CANDIDATE, "no shared GPU has room for it and no passthrough GPU is idle"


def explain_gpus(state: PlanState) -> list[Refusal]:
    """Why each GPU that does not move stays: kept by a rule, in use, or idle and not needed."""
    found: list[Refusal] = []
    usage, now = state.inventory.usage, state.snapshot.taken_at
    for kept in state.inventory.ineligible:
        gpu, why = kept.gpu, why_kept(kept, usage, now)
        if kept.pool is None:
            said: Denial = not_in_pool(gpu)
        else:
            denial = denial_of(gpu, kept.node, kept.pool, usage, now)
            if denial is None:
                denial = (Reason.GPU_BUSY if "may be this one" in why else Reason.NOT_CHOSEN, "")
            said = denial[0], denial[1] or f"{name_of(gpu)} stays: {why}"
            if why and denial[1] and not why.endswith(denial[1]):
                said = denial[0], f"{denial[1]}; {why}"
        found.append(_about(gpu, said))
    leaving = {(str(move.node), str(move.pci_address)) for move in state.moves}
    for key, group in state.inventory.groups.items():
        held, headroom = state.held_back.get(key), state.headroom[key]
        for at in group.nodes.values():
            cache = at.explanations
            if cache.busy is None:
                cache.busy = _why_busy(at, usage)
            if at.node.name in state.directions:
                known = (*cache.busy, *_why_idle(at, held, headroom, now))
                found += [r for r in known if (r.subject.namespace, r.subject.name) not in leaving]
                continue
            # A GPU that rests yet is told how long, so that its sentence is another each time.
            rested = all(unit.held_until <= now for unit in at.to_shared)
            because = (held, headroom.message if headroom.keep else "", rested)
            if cache.idle is None or cache.idle_because != because or not rested:
                cache.idle, cache.idle_because = _why_idle(at, held, headroom, now), because
            found += cache.busy
            found += cache.idle
    return found


def why_kept(kept: IneligibleGpu, usage: Usage, now: float) -> str:
    """What is to be said beyond the GPU's own state: a bundle's members keep each other."""
    if kept.partner is None or kept.pool is None:
        return kept.why
    denial = denial_of(kept.partner, kept.node, kept.pool, usage, now)
    partner = denial[1] if denial else "they are in different modes"
    return f"it moves only with its neighbours, and {partner}"


def _why_busy(at: NodeInventory, usage: Usage) -> list[Refusal]:
    """A node's GPUs that their pods or a VM keep. Most are alone in their unit and have pods: that case makes its
    sentence here."""
    said: list[Refusal] = []
    for gpus in at.busy_shared:
        pods = usage.pods_by_gpu.get(gpus[0].uuid)
        if len(gpus) == 1 and pods:
            message = f"{name_of(gpus[0])} is busy with {busy_with_pods(pods)}"
            said.append(_about(gpus[0], (Reason.GPU_BUSY, message)))
            continue
        busy = next(g for g in gpus if use_denial(g, usage) is not None)
        for gpu in gpus:
            why = use_denial(gpu, usage) or (
                Reason.NOT_CHOSEN,
                f"{name_of(gpu)} moves only with its neighbours, and {name_of(busy)} is busy with "
                f"{usage.why_busy(busy)}",
            )
            said.append(_about(gpu, why))
    for gpu in at.busy_passthrough:
        said.append(_about(gpu, (Reason.GPU_BUSY, f"{name_of(gpu)} is busy with {usage.why_busy(gpu)}")))
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
            f"{name} is idle in Passthrough and rests {unit.held_until - now:.0f} s longer",
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
            f"recommended, not done: to {move.to_mode}: {move.message}",
        )
        for move in state.moves
        if move.recommended
    ]


def target_of(state: PlanState, key: GroupKey) -> Target:
    """The size wanted for one model of one pool, with the reason."""
    group, headroom = state.inventory.groups[key], state.headroom[key]
    arriving = sum(1 for m in state.moves if (m.pool, m.model) == key and m.to_mode is Mode.PASSTHROUGH)
    leaving = sum(1 for m in state.moves if (m.pool, m.model) == key and m.to_mode is Mode.SHARED)
    passthrough = group.passthrough + arriving - leaving
    message = (
        f"{group.vm_busy} in use by VMs, {headroom.keep} kept ready, {group.gpus - passthrough} for containers: "
        f"{headroom.message}"
    )
    return Target(
        group.pool.name, group.model, passthrough, group.gpus - passthrough, headroom.reason, message
    )
