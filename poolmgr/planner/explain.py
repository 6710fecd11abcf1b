"""A reason and a sentence for everything that a plan leaves as it is."""

from poolmgr.domain.fleet import Gpu, Pool
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Refusal, Subject, SubjectKind, Target
from poolmgr.domain.reasons import Reason
from poolmgr.planner.inventory.eligibility import Denial, denial_of, name_of, not_in_pool, use_denial
from poolmgr.planner.inventory.node import GroupKey, IneligibleGpu, NodeInventory, Unit
from poolmgr.planner.inventory.shared_fit import ShapeOutlook
from poolmgr.planner.inventory.usage import Usage, busy_with_pods
from poolmgr.planner.sizing.headroom import Headroom
from poolmgr.planner.stages.state import PlanState


def explain_pods(draft: PlanState, pods: list[ShapeOutlook]) -> None:
    """A sentence for every waiting pod. Pods of one shape wait in order, so the first ones are served first."""
    returning = [move for move in draft.moves if move.to_mode is Mode.SHARED]
    recommended = [move for move in returning if move.recommended]
    pools = {pool.name: pool for pool in draft.snapshot.pools}
    for group in pods:
        moved = hoped = 0
        if returning and group.unmet:
            per_card = max(
                (group.shape.per_card(s.memory_mib) for s in draft.stock.shelves.values()), default=0
            )
            moved = min(group.unmet, (len(returning) - len(recommended)) * per_card)
            hoped = min(group.unmet - moved, len(recommended) * per_card)
        fate = _fate_of_unmet(draft, group)
        for rank, pod in enumerate(group.pods):
            if rank < group.fits_now:
                said: Denial = Reason.FREE_CAPACITY, "a shared GPU has room for it; HAMi will place it"
            elif rank < group.fits:
                said = (
                    Reason.MOVE_UNDER_WAY,
                    "a GPU that will have room for it is on its way to the shared side",
                )
            elif rank < group.fits + moved:
                said = (
                    Reason.MOVE_UNDER_WAY,
                    "this plan moves a GPU that will have room for it to the shared side",
                )
            elif rank < group.fits + moved + hoped:
                said = only_recommended(
                    pools[recommended[0].pool], "a GPU to the shared side that would have room for it"
                )
            else:
                said = fate
            draft.refusals.append(Refusal(Subject(SubjectKind.POD, pod.namespace, pod.name), *said))


def only_recommended(pool: Pool, what: str) -> Denial:
    """To somebody who waits: `what` would serve it, and who can have it moved."""
    return (
        Reason.RECOMMEND_ONLY,
        f"moving {what} is recommended and not done: pool {pool.name} is in Recommend mode; an administrator can ask "
        "for the move, or set rebalance.mode to Automatic",
    )


def _fate_of_unmet(draft: PlanState, group: ShapeOutlook) -> Denial:
    shelves = [s for s in draft.stock.shelves.values() if group.shape.accepts_model(s.model)]
    if not shelves:
        wanted = ", ".join(group.shape.models) or "any model"
        return Reason.UNKNOWN_RESOURCE, f"no pooled GPU is of a model that it accepts ({wanted})"
    if all(group.shape.per_card(s.memory_mib) == 0 for s in shelves):
        return (
            Reason.MORE_MEMORY_THAN_ANY_CARD,
            f"it asks for {group.shape.memory_mib} MiB; the largest card has {max(s.memory_mib for s in shelves)} MiB",
        )
    for shelf in shelves:
        held = draft.held_back.get((str(shelf.pool.name), shelf.model))
        if held is not None:
            return held
    ordinary = not group.shape.best_effort
    lent = ordinary and sum(stock.node.best_effort_only for s in shelves for stock in s.nodes.values())
    if lent:
        return (
            Reason.LENT_TO_BEST_EFFORT,
            f"{lent} node(s) take best-effort containers only, since VMs are expected there, and no other has room; "
            'with the annotation poolmgr.io/best-effort: "true" it could run there and be evicted for a VM',
        )
    free = sum(s.free for s in shelves)
    if free:
        return (
            Reason.COOLDOWN,
            f"{free} GPU(s) are free in passthrough but kept there for VMs or not yet rested",
        )
    return Reason.NO_CANDIDATE, "no shared GPU has room for it and no passthrough GPU is idle"


def explain_gpus(draft: PlanState, spares: dict[GroupKey, Headroom]) -> None:
    usage = draft.stock.usage
    for kept in draft.stock.refused:
        gpu, why = kept.gpu, why_kept(kept, usage)
        if kept.pool is None:
            said: Denial = not_in_pool(gpu)
        else:
            found = denial_of(gpu, kept.node, kept.pool, usage)
            if found is None:
                found = (Reason.GPU_BUSY if "may be this one" in why else Reason.NOT_CHOSEN, "")
            said = found[0], found[1] or f"{name_of(gpu)} stays: {why}"
            if why and found[1] and not why.endswith(found[1]):
                said = found[0], f"{found[1]}; {why}"
        draft.refusals.append(_about(gpu, said))
    now = draft.snapshot.taken_at
    leaving = {(str(move.node), str(move.pci_address)) for move in draft.moves}
    for key, shelf in draft.stock.shelves.items():
        held, spare = draft.held_back.get(key), spares[key]
        for stock in shelf.nodes.values():
            told = stock.told
            if told.busy is None:
                told.busy = _why_busy(stock, usage)
            if stock.node.name in draft.directions:
                known = (*told.busy, *_why_idle(stock, held, spare, now))
                draft.refusals += [r for r in known if (r.subject.namespace, r.subject.name) not in leaving]
                continue
            # A GPU that rests yet is told how long, so that its sentence is another each time.
            rested = all(unit.held_until <= now for unit in stock.to_shared)
            because = (held, spare.message if spare.keep else "", rested)
            if told.idle is None or told.idle_because != because or not rested:
                told.idle, told.idle_because = _why_idle(stock, held, spare, now), because
            draft.refusals += told.busy
            draft.refusals += told.idle


def why_kept(kept: IneligibleGpu, usage: Usage) -> str:
    """What is to be said beyond the GPU's own state: a bundle's members keep each other."""
    if kept.partner is None or kept.pool is None:
        return kept.why
    denial = denial_of(kept.partner, kept.node, kept.pool, usage)
    partner = denial[1] if denial else "they are in different modes"
    return f"it moves only with its neighbours, and {partner}"


def _why_busy(stock: NodeInventory, usage: Usage) -> list[Refusal]:
    """A node's GPUs that their pods or a VM keep. Most are alone in their unit and have pods: that case makes its
    sentence here."""
    said: list[Refusal] = []
    for gpus in stock.busy_shared:
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
    for gpu in stock.busy_passthrough:
        said.append(_about(gpu, (Reason.GPU_BUSY, f"{name_of(gpu)} is busy with {usage.why_busy(gpu)}")))
    return said


def _why_idle(stock: NodeInventory, held: Denial | None, spare: Headroom, now: float) -> list[Refusal]:
    units = (*stock.to_passthrough, *stock.to_shared)
    return [
        _about(g, _why_unit_stays(unit, held, spare, now, name_of(g))) for unit in units for g in unit.gpus
    ]


def _about(gpu: Gpu, said: Denial) -> Refusal:
    return Refusal(Subject(SubjectKind.GPU, gpu.node, gpu.pci_address), *said)


def _why_unit_stays(unit: Unit, held: Denial | None, spare: Headroom, now: float, name: str) -> Denial:
    if held is not None:
        return held
    if unit.gpus[0].observed_mode is Mode.SHARED:
        return Reason.NO_DEMAND, f"{name} is idle in Shared and no VM needs it"
    if unit.held_until > now:
        return (
            Reason.COOLDOWN,
            f"{name} is idle in Passthrough and rests {unit.held_until - now:.0f} s longer",
        )
    if spare.keep:
        return Reason.IN_PLACE, f"{name} is kept ready for the next VM: {spare.message}"
    return Reason.NO_DEMAND, f"{name} is idle in Passthrough and no pod needs it"


def explain_recommended(draft: PlanState) -> None:
    """For each GPU that a move is recommended for: what would be done."""
    for move in draft.moves:
        if move.recommended:
            subject = Subject(SubjectKind.GPU, move.node, move.pci_address)
            message = f"recommended, not done: to {move.to_mode}: {move.message}"
            draft.refusals.append(Refusal(subject, Reason.RECOMMEND_ONLY, message))


def target_of(draft: PlanState, key: GroupKey, spare: Headroom) -> Target:
    shelf = draft.stock.shelves[key]
    arriving = sum(1 for m in draft.moves if (m.pool, m.model) == key and m.to_mode is Mode.PASSTHROUGH)
    leaving = sum(1 for m in draft.moves if (m.pool, m.model) == key and m.to_mode is Mode.SHARED)
    passthrough = shelf.passthrough + arriving - leaving
    message = (
        f"{shelf.vm_busy} in use by VMs, {spare.keep} kept ready, {shelf.gpus - passthrough} for containers: "
        f"{spare.message}"
    )
    return Target(shelf.pool.name, shelf.model, passthrough, shelf.gpus - passthrough, spare.reason, message)
