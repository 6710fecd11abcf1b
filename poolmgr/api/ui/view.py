"""What the page says about now, as plain values for the templates. Pure.

Everything is worded for someone who was just woken up: first whether there is anything to do.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from poolmgr.api.ui.headline import headline_of
from poolmgr.api.ui.wording import SIDE, duration, plural, sentence
from poolmgr.controller.executor.advance import waits_for
from poolmgr.domain.census import Census, Count, GpuUse, total
from poolmgr.domain.demand import SharedPod, Vm
from poolmgr.domain.estimates import Estimate
from poolmgr.domain.fleet import Pool, SideLimits, Transition
from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.plan import Plan, QuotaUse, Refusal, Subject, SubjectKind, Verdict
from poolmgr.domain.quota import gpus_text
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot, Unread

STEPS = tuple(step for step in Step if step is not Step.DONE)


@dataclass(frozen=True, slots=True)
class MoveCard:
    node: str
    gpus: str
    to_side: str
    to_mode: str
    rollback: bool
    step: str
    steps: tuple[tuple[str, str], ...]
    """(step, done | now | ahead)"""
    since: str
    message: str
    waits_for: str
    plan_id: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Workloads that wait for one and the same thing."""

    kind: str
    name: str
    """Of the first ones; the others are counted."""
    size: int
    wants: str
    since: str
    code: str
    why: str


@dataclass(frozen=True, slots=True)
class Trouble:
    where: str
    model: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class SideRow:
    side: str
    mode: str
    gpus: int
    used: int
    bounds: str
    target: str


@dataclass(frozen=True, slots=True)
class QuotaRow:
    namespace: str
    used: str
    limit: str
    waiting: str
    weight: str


@dataclass(frozen=True, slots=True)
class PoolCard:
    name: str
    rebalance: str
    models: str
    gpus: int
    sides: tuple[SideRow, ...]
    sentence: str
    recommended: str
    quotas: tuple[QuotaRow, ...]
    quotas_left_out: int


@dataclass(frozen=True, slots=True)
class ReservationRow:
    name: str
    what: str
    window: tuple[float, float]
    """Unix seconds."""
    phase: str
    ready: str
    code: str
    why: str


@dataclass(frozen=True, slots=True)
class View:
    """All that the page shows of one snapshot."""

    headline: str
    detail: str
    mood: str
    """quiet | busy | waiting | trouble | blind"""
    taken_at: float
    generation: int
    count: Count
    idle: int
    use_percent: int
    moves: tuple[MoveCard, ...]
    moves_left_out: int
    waiting: tuple[Waiting, ...]
    waiting_left_out: int
    trouble: tuple[Trouble, ...]
    pools: tuple[PoolCard, ...]
    reservations: tuple[ReservationRow, ...]
    """Those that are not over."""
    reservations_left_out: int


MAX_MOVES = 30
MAX_WAITING = 60
"""Of each on the page; the oldest first, the others are counted."""
MAX_COMPARED = 1_000
"""Workloads that wait, of which those that wait for the same are put together; the oldest."""
MAX_NAMES = 3
"""Of such a group."""
MAX_QUOTAS = 20
"""Of each pool; the namespaces that hold most first."""
MAX_RESERVATIONS = 20
"""Those that begin first."""


def make_view(census: Census, plan: Plan | None, readiness: Verdict) -> View:
    """The page's content for a snapshot, with the newest plan's reasons for who waits."""
    snapshot = census.snapshot
    # GPUs outside of all pools are there and may be in trouble; what runs on them is not ours to count.
    outside = total(count for (pool, _), count in census.counts.items() if pool is None)
    inside = (count for (pool, _), count in census.counts.items() if pool is not None)
    count = total([*inside, Count(gpus=outside.gpus, trouble=outside.trouble)])
    queue = _queue(snapshot)
    waiting = _waiting(queue, plan, snapshot.taken_at)
    vms = sum(isinstance(workload, Vm) for workload in queue)
    trouble = (*(_trouble(use) for use in census.trouble), *map(_unread, snapshot.unread))
    moves = sorted(snapshot.transitions, key=lambda move: move.started_at)
    reservations = _reservations(snapshot, plan)
    nodes = [part.node for part in census.nodes]
    mood, headline, detail = headline_of(
        count, nodes, readiness, waiting=(vms, len(queue) - vms), moves=len(moves), outside=outside.gpus
    )
    return View(
        headline=headline,
        detail=detail,
        mood=mood,
        taken_at=snapshot.taken_at,
        generation=snapshot.generation,
        count=count,
        idle=sum(part.idle for part in census.nodes),
        use_percent=round(100 * count.used / count.gpus) if count.gpus else 0,
        moves=tuple(_move(move, snapshot) for move in moves[:MAX_MOVES]),
        moves_left_out=max(0, len(moves) - MAX_MOVES),
        waiting=waiting,
        waiting_left_out=len(queue) - sum(group.size for group in waiting),
        trouble=trouble,
        pools=tuple(_pool(p, census, plan) for p in sorted(snapshot.pools, key=lambda p: p.name)),
        reservations=reservations[:MAX_RESERVATIONS],
        reservations_left_out=max(0, len(reservations) - MAX_RESERVATIONS),
    )


def _move(move: Transition, snapshot: ClusterSnapshot) -> MoveCard:
    node = next(node for node in snapshot.nodes if node.transition is move)
    waits = waits_for(node, snapshot)
    return MoveCard(
        node=move.node,
        gpus=", ".join(move.devices),
        to_side=SIDE[move.to_mode],
        to_mode="vm" if move.to_mode is Mode.PASSTHROUGH else "shared",
        rollback=move.rollback,
        step=move.step.value,
        steps=tuple(
            (s.value, "done" if s.order < move.step.order else "now" if s is move.step else "ahead")
            for s in STEPS
        ),
        since=duration(snapshot.taken_at - move.started_at),
        message=sentence(move.message),
        waits_for=sentence(waits.message) if waits is not None else "",
        plan_id=move.plan_id,
    )


def _queue(snapshot: ClusterSnapshot) -> list[Vm | SharedPod]:
    """Who waits, longest first."""
    everybody: list[Vm | SharedPod] = [vm for vm in snapshot.vms if vm.node is None]
    everybody += [pod for pod in snapshot.pods if pod.node is None]
    return sorted(everybody, key=_since)


def _waiting(queue: list[Vm | SharedPod], plan: Plan | None, now: float) -> tuple[Waiting, ...]:
    """Those that ask for the same and are told the same are one row: forty equal sentences hide the one that differs."""
    compared = queue[:MAX_COMPARED]
    wanted = {_subject(workload) for workload in compared}
    refusals = plan.refusals if plan is not None else ()
    of_workloads = (r for r in refusals if r.subject.kind in (SubjectKind.VM, SubjectKind.POD))
    said = {r.subject: r for r in of_workloads if r.subject in wanted}
    groups: dict[tuple[str, str, str, str], list[Vm | SharedPod]] = {}
    for workload in compared:
        kind, wants = _wants(workload)
        groups.setdefault((kind, wants, *_why(said.get(_subject(workload)))), []).append(workload)
    estimates = plan.estimates if plan is not None else {}
    return tuple(_row(of, members, estimates, now) for of, members in list(groups.items())[:MAX_WAITING])


def _since(workload: Vm | SharedPod) -> float:
    return workload.waiting_since or workload.created_at


def _subject(workload: Vm | SharedPod) -> Subject:
    kind = SubjectKind.VM if isinstance(workload, Vm) else SubjectKind.POD
    return Subject(kind, workload.namespace, workload.name)


def _why(found: Refusal | None) -> tuple[str, str]:
    """Code and sentence."""
    if found is None:
        return "", "No decision about it yet."
    return ("", "") if found.reason is Reason.SERVED else (found.reason.value, sentence(found.message))


def _wants(workload: Vm | SharedPod) -> tuple[str, str]:
    """What it is, and what it asks for."""
    if isinstance(workload, Vm):
        return "VM", ", ".join(f"{c.count} × {c.resource_name.rpartition('/')[2]}" for c in workload.claims)
    return "pod", _slice_words(
        workload.gpus, workload.memory_mib, workload.memory_percent, workload.cores_percent
    )


def _row(
    of: tuple[str, str, str, str],
    members: list[Vm | SharedPod],
    estimates: Mapping[Subject, Estimate],
    now: float,
) -> Waiting:
    kind, wants, code, why = of
    longest, alone = members[0], len(members) == 1
    if code and (estimate := estimates.get(_subject(longest))) is not None:
        why = f"{why} {'' if alone else 'Of the first one: '}{sentence(estimate.sentence)}"
    names = ", ".join(f"{each.namespace}/{each.name}" for each in members[:MAX_NAMES])
    more = f" and {len(members) - MAX_NAMES} more" if len(members) > MAX_NAMES else ""
    since = duration(now - _since(longest))
    return Waiting(kind, names + more, len(members), wants, since if alone else f"up to {since}", code, why)


def _slice_words(gpus: int, memory_mib: int, memory_percent: int, cores_percent: int) -> str:
    memory = (
        f"{memory_mib} MiB" if memory_mib else f"{memory_percent} % memory" if memory_percent else "a card"
    )
    compute = f", {cores_percent} % compute" if cores_percent else ""
    return f"{gpus} × " * (gpus > 1) + memory + compute


def _trouble(use: GpuUse) -> Trouble:
    gpu, (code, said) = use.gpu, use.trouble
    return Trouble(
        where=f"{gpu.pci_address} on {gpu.node}",
        model=gpu.model,
        code=code or gpu.phase.value,
        message=sentence(said or f"its phase is {gpu.phase.value}: look at the agent's log on {gpu.node}"),
    )


def _unread(found: Unread) -> Trouble:
    name = f"{found.namespace}/{found.name}" if found.namespace else found.name
    return Trouble(
        where=name,
        model=found.kind,
        code=Reason.OBJECT_UNREAD.value,
        message=sentence(f"it cannot be read and is set aside: {found.why}"),
    )


def _pool(pool: Pool, census: Census, plan: Plan | None) -> PoolCard:
    count = census.pool(pool.name)
    targets = [t for t in plan.targets if t.pool == pool.name] if plan else []
    wanted = (sum(t.passthrough for t in targets), sum(t.shared for t in targets)) if targets else ("–", "–")
    uses = [use for use in (plan.quota_uses if plan else ()) if use.pool == pool.name]
    uses.sort(key=lambda use: (-use.used, -use.waiting, use.namespace))
    return PoolCard(
        name=pool.name,
        rebalance=pool.rebalance.value,
        models=", ".join(pool.models) or "all models",
        gpus=count.gpus,
        sides=(
            SideRow(
                "VMs",
                "vm",
                count.passthrough,
                count.passthrough_used,
                _bounds(pool.passthrough),
                str(wanted[0]),
            ),
            SideRow(
                "containers", "shared", count.shared, count.shared_used, _bounds(pool.shared), str(wanted[1])
            ),
        ),
        sentence=sentence(targets[0].message) if targets else "",
        recommended=_recommended(pool, plan),
        quotas=tuple(map(_quota, uses[:MAX_QUOTAS])),
        quotas_left_out=max(0, len(uses) - MAX_QUOTAS),
    )


def _quota(use: QuotaUse) -> QuotaRow:
    limit = "no limit" if use.max_gpus is None else gpus_text(use.max_gpus)
    return QuotaRow(use.namespace, gpus_text(use.used), limit, gpus_text(use.waiting), f"{use.weight:g}")


def _reservations(snapshot: ClusterSnapshot, plan: Plan | None) -> tuple[ReservationRow, ...]:
    wanted = {(r.namespace, r.name): r for r in snapshot.reservations}
    states = [
        (state.window, wanted[state.namespace, state.name], state)
        for state in (plan.reservations if plan else ())
        if state.window is not None and (state.namespace, state.name) in wanted
    ]
    return tuple(
        ReservationRow(
            name=found.key,
            what=f"{found.gpus} × {found.model} for {'VMs' if found.mode is Mode.PASSTHROUGH else 'containers'}",
            window=window,
            phase=state.phase.value,
            ready=f"{state.ready} ready, {state.used} in use",
            code=state.reason.value,
            why=sentence(state.message),
        )
        for window, found, state in sorted(states, key=lambda entry: (entry[0], entry[1].key))
    )


def _recommended(pool: Pool, plan: Plan | None) -> str:
    """What the plan would do if it were let; empty where there is nothing, or it is done."""
    moves = [m for m in plan.moves if m.recommended and m.pool == pool.name] if plan else []
    if not moves:
        return ""
    said = sentence(moves[0].message)
    return f"{plural(len(moves), 'move')} recommended and not made; the first one: {said}"


def _bounds(limits: SideLimits) -> str:
    upper = "no limit" if limits.max is None else str(limits.max)
    return f"{limits.min} to {upper}" + (f", {limits.headroom} ready" if limits.headroom else "")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the feed of decisions."""

    at: float
    code: str
    text: str
    kind: str
    """move | done | undone | refused"""


def line(at: float, code: str, text: str, kind: str) -> Line:
    return Line(at, code, sentence(text), kind)
