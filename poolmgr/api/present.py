"""Domain values to the API's JSON. Pure."""

from dataclasses import asdict

from poolmgr.api import schemas
from poolmgr.api.present_directives import directives
from poolmgr.controller.results import RebalanceResult
from poolmgr.domain.backoff import (
    CLOSED_SECONDS_AN_HOUR,
    PLUGIN_STOPS_AN_HOUR,
    Backoff,
    Spent,
    spent,
)
from poolmgr.domain.census import Census, Count, GpuUse, NodeCensus
from poolmgr.domain.estimates import Estimate
from poolmgr.domain.fleet import Node, Pool, SideLimits, Transition
from poolmgr.domain.history import DemandSample, PastPlan, PastTransition, RestCall
from poolmgr.domain.identifiers import PoolName
from poolmgr.domain.plan import Move, Plan, QuotaUse, Refusal, ReservationState, Target
from poolmgr.domain.reservation import Reservation
from poolmgr.wire.instants import to_rfc3339


def pool(found: Pool, census: Census, plan: Plan | None) -> schemas.Pool:
    count = census.pool(found.name)
    targets = _targets(plan, found.name)
    return schemas.Pool(
        name=found.name,
        generation=found.generation,
        models=list(found.models),
        node_selector=dict(found.node_labels),
        rebalance=found.rebalance.value,
        gpus=count.gpus,
        passthrough=_side(
            found.passthrough, count.passthrough, count.passthrough_used, targets and targets[0]
        ),
        shared=_side(found.shared, count.shared, count.shared_used, targets and targets[1]),
        moving=count.moving,
        trouble=count.trouble,
        waiting_vms=count.waiting_vms,
        waiting_pods=count.waiting_pods,
        quotas=[quota(use) for use in (plan.quota_uses if plan else ()) if use.pool == found.name],
    )


def reservation(found: Reservation, state: ReservationState | None) -> schemas.Reservation:
    """`state` is None before the first plan."""
    window = state.window if state else None
    return schemas.Reservation(
        namespace=found.namespace,
        name=found.name,
        model=found.model,
        gpus=found.gpus,
        mode=found.mode,
        phase=state.phase.value if state else "",
        window=schemas.Window(start=to_rfc3339(window[0]), end=to_rfc3339(window[1])) if window else None,
        ready=state.ready if state else 0,
        used=state.used if state else 0,
        kept=state.kept if state else 0,
        reason=state.reason.value if state else "",
        message=state.message if state else "",
    )


def quota(use: QuotaUse) -> schemas.Quota:
    return schemas.Quota(
        namespace=use.namespace,
        max_gpus=use.max_gpus,
        weight=use.weight,
        used=round(use.used, 3),
        waiting=round(use.waiting, 3),
    )


def _targets(plan: Plan | None, name: PoolName) -> tuple[int, int] | None:
    mine = [t for t in plan.targets if t.pool == name] if plan else []
    return (sum(t.passthrough for t in mine), sum(t.shared for t in mine)) if mine else None


def _side(limits: SideLimits, gpus: int, used: int, target: int | None) -> schemas.Side:
    return schemas.Side(
        min=limits.min, max=limits.max, headroom=limits.headroom, gpus=gpus, used=used, target=target
    )


def pause(found: Backoff) -> schemas.Pause:
    return schemas.Pause(
        pci_address=found.pci_address,
        reason=found.reason,
        message=found.message,
        failures=found.failures,
        failed_at=to_rfc3339(found.failed_at),
        until=to_rfc3339(found.until),
    )


def _agent(found: Node) -> schemas.Agent:
    sign = found.agent
    last = None if sign.heard or not sign.since else to_rfc3339(sign.since)
    return schemas.Agent(heard=sign.heard, last_heard=last, message=sign.verdict(found.name).message)


def _disturbance(found: Spent) -> schemas.Disturbance:
    return schemas.Disturbance(
        plugin_stops=found.plugin_stops,
        closed_seconds=round(found.closed_seconds),
        most_plugin_stops=PLUGIN_STOPS_AN_HOUR,
        most_closed_seconds=CLOSED_SECONDS_AN_HOUR,
    )


def node(part: NodeCensus, pool: str, now: float) -> schemas.Node:
    """A node with its GPUs, of one pool where given, who is on them, and who rests at `now`."""
    found = part.node
    return schemas.Node(
        name=found.name,
        ready=found.ready,
        cordoned=found.cordoned,
        best_effort_only=found.best_effort_only,
        reported=found.reported,
        agent=_agent(found),
        transition=move_under_way(found.transition) if found.transition else None,
        pauses=[pause(b) for b in found.backoffs if b.until > now],
        disturbance=_disturbance(spent(found.disturbances, now)),
        directives=directives(found.directives),
        gpus=[node_gpu(use) for use in part.uses if pool in ("", use.gpu.pool)],
    )


def users(use: GpuUse) -> list[str]:
    """Who is on a GPU, in words."""
    return [user.name for user in use.users]


def node_gpu(use: GpuUse) -> schemas.Gpu:
    """One GPU and who is on it."""
    gpu = use.gpu
    return schemas.Gpu(
        pci_address=gpu.pci_address,
        uuid=gpu.uuid,
        model=gpu.model,
        memory_mib=gpu.memory_mib,
        pool=gpu.pool,
        mode=gpu.observed_mode,
        desired_mode=gpu.desired_mode,
        phase=gpu.phase,
        state=use.state,
        share=round(use.share, 4),
        users=users(use),
        mode_since=to_rfc3339(gpu.mode_since) if gpu.mode_since else None,
        reason=use.trouble[0],
        message=use.trouble[1],
        rebindable=bool(gpu.rebind),
        rebind_reason="" if gpu.rebind else gpu.rebind.reason,
        rebind_message=gpu.rebind.message,
        closed=gpu.closed.message if gpu.closed is not None else "",
    )


def move_under_way(transition: Transition) -> schemas.Transition:
    return schemas.Transition(
        node=transition.node,
        plan_id=transition.plan_id,
        devices=list(transition.devices),
        to_mode=transition.to_mode,
        step=transition.step,
        started_at=to_rfc3339(transition.started_at),
        step_started_at=to_rfc3339(transition.step_started_at),
        reason=transition.reason,
        message=transition.message,
        rollback=transition.rollback,
    )


def planned_move(move: Move) -> schemas.PlannedMove:
    return schemas.PlannedMove(
        node=move.node,
        pci_address=move.pci_address,
        uuid=move.uuid,
        pool=move.pool,
        model=move.model,
        to_mode=move.to_mode,
        reason=move.reason.value,
        message=move.message,
        evict=list(move.evict),
        recommended=move.recommended,
    )


def refusal(found: Refusal, estimate: Estimate | None = None) -> schemas.Refusal:
    return schemas.Refusal(
        kind=found.subject.kind,
        namespace=found.subject.namespace,
        name=found.subject.name,
        reason=found.reason.value,
        message=found.message,
        estimate=_estimate(estimate) if estimate is not None else None,
    )


def _estimate(found: Estimate) -> schemas.Estimate:
    return schemas.Estimate(
        known=found.known,
        median_seconds=found.median,
        low_seconds=found.low,
        high_seconds=found.high,
        measured=found.measured,
        position=found.position,
        message=found.sentence,
    )


def _target(found: Target) -> schemas.Target:
    return schemas.Target(
        pool=found.pool,
        model=found.model,
        passthrough=found.passthrough,
        shared=found.shared,
        reason=found.reason.value,
        message=found.message,
    )


def plan(found: Plan) -> schemas.Plan:
    return schemas.Plan(
        plan_id=found.plan_id,
        snapshot_generation=found.snapshot_generation,
        made_at=to_rfc3339(found.made_at),
        moves=[planned_move(m) for m in found.moves],
        refusals=[refusal(r, found.estimates.get(r.subject)) for r in found.refusals],
        targets=[_target(t) for t in found.targets],
    )


def recorded_plan(past: PastPlan) -> schemas.RecordedPlan:
    return schemas.RecordedPlan(
        **dict(plan(past.plan)),
        pool=past.pool,
        dry_run=past.dry_run,
        outcome=past.outcome,
        refusals_left_out=past.refusals_left_out,
    )


def rebalance(name: str, result: RebalanceResult) -> schemas.Rebalance:
    return schemas.Rebalance(
        pool=name,
        dry_run=result.dry_run,
        plan=plan(result.plan),
        started=[planned_move(m) for m in result.started],
        held_back=[refusal(r) for r in result.refused],
    )


def transition(past: PastTransition) -> schemas.RecordedTransition:
    return schemas.RecordedTransition(
        plan_id=past.plan_id,
        node=past.node,
        devices=list(past.devices),
        to_mode=past.to_mode,
        started_at=to_rfc3339(past.started_at),
        ended_at=None if past.ended_at is None else to_rfc3339(past.ended_at),
        rolled_back=past.rolled_back,
        steps=[
            schemas.TransitionStep(
                step=s.step, reason=s.reason, message=s.message, at=to_rfc3339(s.at), epoch=s.epoch
            )
            for s in past.steps
        ],
    )


def sample(found: DemandSample) -> schemas.Sample:
    count: Count = found.count
    return schemas.Sample(at=to_rfc3339(found.at), **asdict(count))


def call(found: RestCall) -> schemas.Call:
    return schemas.Call(**{**asdict(found), "at": to_rfc3339(found.at)})
