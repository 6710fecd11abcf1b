"""What the page says about now, as plain values for the templates. Pure.

Everything is worded for someone who was just woken up: first whether there is anything to do.
"""

from dataclasses import dataclass

from poolmgr.api.ui.wording import SIDE, clock_time, day_and_time, duration, plural, sentence
from poolmgr.domain.census import Census, Count, total
from poolmgr.domain.demand import SharedPod, Vm
from poolmgr.domain.fleet import Gpu, Pool, SideLimits, Transition
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.plan import Plan, Refusal, Subject, SubjectKind, Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot

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
    plan_id: str


@dataclass(frozen=True, slots=True)
class Waiting:
    kind: str
    name: str
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
class PoolCard:
    name: str
    rebalance: str
    models: str
    gpus: int
    sides: tuple[SideRow, ...]
    sentence: str
    recommended: str


@dataclass(frozen=True, slots=True)
class View:
    """All that the page shows of one snapshot."""

    headline: str
    detail: str
    mood: str
    """quiet | busy | waiting | trouble | blind"""
    time: str
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


MAX_MOVES = 30
MAX_WAITING = 60
"""Of each on the page; the oldest first, the others are counted."""


def make_view(census: Census, plan: Plan | None, readiness: Verdict) -> View:
    """The page's content for a snapshot, with the newest plan's reasons for who waits."""
    snapshot = census.snapshot
    # GPUs outside of all pools are there and may be in trouble; what runs on them is not ours to count.
    outside = total(count for (pool, _), count in census.counts.items() if pool is None)
    inside = (count for (pool, _), count in census.counts.items() if pool is not None)
    count = total([*inside, Count(gpus=outside.gpus, trouble=outside.trouble)])
    waiting, waiting_in_all = _waiting(snapshot, plan)
    trouble = tuple(_trouble(use.gpu) for use in census.trouble)
    moves = sorted(snapshot.transitions, key=lambda move: move.started_at)
    silent = [part.node.name for part in census.nodes if part.node.agent.silent]
    mood, headline, detail = _headline(count, waiting_in_all, len(moves), readiness, silent)
    return View(
        headline=headline,
        detail=detail,
        mood=mood,
        time=day_and_time(snapshot.taken_at),
        generation=snapshot.generation,
        count=count,
        idle=sum(part.idle for part in census.nodes),
        use_percent=round(100 * count.used / count.gpus) if count.gpus else 0,
        moves=tuple(_move(move, snapshot.taken_at) for move in moves[:MAX_MOVES]),
        moves_left_out=max(0, len(moves) - MAX_MOVES),
        waiting=waiting,
        waiting_left_out=waiting_in_all - len(waiting),
        trouble=trouble,
        pools=tuple(_pool(p, census, plan) for p in sorted(snapshot.pools, key=lambda p: p.name)),
    )


def _headline(
    total: Count, waiting: int, moves: int, readiness: Verdict, silent: list[NodeName]
) -> tuple[str, str, str]:
    use = f"{total.passthrough_used} in VMs, {total.shared_used} in containers, of {total.gpus} GPUs"
    if not readiness:
        return "blind", "This manager is not acting", sentence(readiness.message)
    if total.trouble:
        return (
            "trouble",
            f"{plural(total.trouble, 'GPU')} {'needs' if total.trouble == 1 else 'need'} attention",
            "Everything else goes on: " + use + ".",
        )
    if silent:
        more = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
        return (
            "trouble",
            f"{plural(len(silent), 'agent is silent', 'agents are silent')}",
            f"Nothing moves on {silent[0]}{more} until the agent there is heard again. Everything else goes on: {use}.",
        )
    if waiting:
        way = f"{plural(moves, 'move')} under way. " if moves else ""
        return "waiting", f"{plural(waiting, 'workload waits', 'workloads wait')} for a GPU", f"{way}{use}."
    if moves:
        return "busy", f"{plural(moves, 'move')} under way, nobody waits", use + "."
    return "quiet", "All quiet", f"Nobody waits, nothing moves: {use}."


def _move(move: Transition, now: float) -> MoveCard:
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
        since=duration(now - move.started_at),
        message=sentence(move.message),
        plan_id=move.plan_id,
    )


def _waiting(snapshot: ClusterSnapshot, plan: Plan | None) -> tuple[tuple[Waiting, ...], int]:
    """Who has waited longest, and how many wait in all."""
    everybody: list[Vm | SharedPod] = [vm for vm in snapshot.vms if vm.node is None]
    everybody += [pod for pod in snapshot.pods if pod.node is None]
    shown = sorted(everybody, key=_since)[:MAX_WAITING]
    wanted = {_subject(workload) for workload in shown}
    refusals = plan.refusals if plan is not None else ()
    of_workloads = (r for r in refusals if r.subject.kind in (SubjectKind.VM, SubjectKind.POD))
    said = {r.subject: r for r in of_workloads if r.subject in wanted}
    return tuple(_row(workload, said, snapshot.taken_at) for workload in shown), len(everybody)


def _since(workload: Vm | SharedPod) -> float:
    return workload.waiting_since or workload.created_at


def _subject(workload: Vm | SharedPod) -> Subject:
    kind = SubjectKind.VM if isinstance(workload, Vm) else SubjectKind.POD
    return Subject(kind, workload.namespace, workload.name)


def _row(workload: Vm | SharedPod, said: dict[Subject, Refusal], now: float) -> Waiting:
    found = said.get(_subject(workload))
    if found is None:
        code, why = "", "No decision about it yet."
    elif found.reason is Reason.SERVED:
        code, why = "", ""
    else:
        code, why = found.reason.value, sentence(found.message)
    if isinstance(workload, Vm):
        kind = "VM"
        wants = ", ".join(f"{c.count} × {c.resource_name.rpartition('/')[2]}" for c in workload.claims)
    else:
        kind = "pod"
        wants = _slice_words(
            workload.gpus, workload.memory_mib, workload.memory_percent, workload.cores_percent
        )
    name = f"{workload.namespace}/{workload.name}"
    return Waiting(kind, name, wants, duration(now - _since(workload)), code, why)


def _slice_words(gpus: int, memory_mib: int, memory_percent: int, cores_percent: int) -> str:
    memory = (
        f"{memory_mib} MiB" if memory_mib else f"{memory_percent} % memory" if memory_percent else "a card"
    )
    compute = f", {cores_percent} % compute" if cores_percent else ""
    return f"{gpus} × " * (gpus > 1) + memory + compute


def _trouble(gpu: Gpu) -> Trouble:
    return Trouble(
        where=f"{gpu.pci_address} on {gpu.node}",
        model=gpu.model,
        code=gpu.reason or gpu.phase.value,
        message=sentence(
            gpu.message or f"its phase is {gpu.phase.value}: look at the agent's log on {gpu.node}"
        ),
    )


def _pool(pool: Pool, census: Census, plan: Plan | None) -> PoolCard:
    count = census.pool(pool.name)
    targets = [t for t in plan.targets if t.pool == pool.name] if plan else []
    wanted = (sum(t.passthrough for t in targets), sum(t.shared for t in targets)) if targets else ("–", "–")
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
    time: str
    code: str
    text: str
    kind: str
    """move | done | undone | refused"""


def line(at: float, code: str, text: str, kind: str) -> Line:
    return Line(at, clock_time(at), code, sentence(text), kind)
