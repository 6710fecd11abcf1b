"""The fleet as Prometheus metrics, counted at scrape time. Labels are bounded: pools, models, modes, states, the
namespaces that pools have quotas for, and the nodes that moves disturbed within the last hour or whose agent is silent."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from poolmgr.api.interfaces import Control
from poolmgr.api.metrics_of_work import watches, work
from poolmgr.domain.backoff import CLOSED_SECONDS_AN_HOUR, PLUGIN_STOPS_AN_HOUR, WHOLE_NODE, spent
from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.plan import Plan
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.domain.usage import GpuState


def _agents(snapshot: ClusterSnapshot) -> Iterator[Metric]:
    agents = GaugeMetricFamily(
        "poolmgr_agents",
        "Agents by whether they are heard: heard, silent for a minute, or unknown to a manager that has just begun.",
        labels=("state",),
    )
    silence = GaugeMetricFamily(
        "poolmgr_agent_silent_seconds",
        "Seconds since the node's agent was last heard. Only for silent agents; 0 if that is unknown.",
        labels=("node",),
    )
    counts = {"heard": 0, "silent": 0, "unknown": 0}
    for node in snapshot.nodes:
        sign = node.agent
        counts["heard" if sign.heard else "silent" if sign.silent else "unknown"] += 1
        if sign.silent:
            silence.add_metric((node.name,), max(0.0, snapshot.taken_at - sign.since) if sign.since else 0.0)
    for state, number in counts.items():
        agents.add_metric((state,), number)
    yield agents
    yield silence


def _costs(snapshot: ClusterSnapshot) -> Iterator[Metric]:
    """What moves cost of late, and who rests since they failed."""
    now = snapshot.taken_at
    resting = GaugeMetricFamily(
        "poolmgr_paused", "GPUs and nodes that rest because their moves failed.", labels=("kind", "reason")
    )
    paused = Counter(
        ("Node" if backoff.pci_address == WHOLE_NODE else "GPU", backoff.reason)
        for node in snapshot.nodes
        for backoff in node.backoffs
        if backoff.until > now
    )
    for kind in ("Node", "GPU"):
        paused.setdefault((kind, Reason.STEP_TIMED_OUT.value), 0)
    for labels, number in sorted(paused.items()):
        resting.add_metric(labels, number)
    yield resting
    stops = GaugeMetricFamily(
        "poolmgr_node_plugin_stops_last_hour",
        f"Times that moves took HAMi's plugin off the node within the last hour; {PLUGIN_STOPS_AN_HOUR} at most. "
        "Only nodes where it happened.",
        labels=("node",),
    )
    closed = GaugeMetricFamily(
        "poolmgr_node_closed_seconds_last_hour",
        f"Seconds of the last hour for which moves kept new vGPU pods off the node, off a part of its GPUs counted as a part; beyond "
        f"{CLOSED_SECONDS_AN_HOUR:.0f} none is begun there. Only nodes where it happened.",
        labels=("node",),
    )
    for node in snapshot.nodes:
        used = spent(node.disturbances, now)
        if used.plugin_stops or used.closed_seconds:
            stops.add_metric((node.name,), used.plugin_stops)
            closed.add_metric((node.name,), used.closed_seconds)
    yield stops
    yield closed


class FleetCollector(Collector):
    def __init__(self, control: Control) -> None:
        self._control = control

    def collect(self) -> Iterator[Metric]:
        readiness = self._control.readiness
        yield GaugeMetricFamily(
            "poolmgr_leading", "1 while this manager holds the lease and acts.", value=float(bool(readiness))
        )
        yield CounterMetricFamily(
            "poolmgr_defects",
            "Unexpected exceptions; the log has the traceback of each.",
            value=self._control.unforeseen,
        )
        yield from work(self._control.measures)
        yield from watches(self._control.watch_ages)
        census = self._control.census
        snapshot = self._control.snapshot
        yield GaugeMetricFamily(
            "poolmgr_synced",
            "1 once the whole cluster has been read.",
            value=float(snapshot is not None and snapshot.synced),
        )
        if snapshot is None or census is None:
            return
        yield GaugeMetricFamily(
            "poolmgr_snapshot_timestamp_seconds",
            "When the newest view was taken, Unix time.",
            value=snapshot.taken_at,
        )
        gpus = GaugeMetricFamily(
            "poolmgr_gpus", "GPUs by pool, model, mode and state.", labels=("pool", "model", "mode", "state")
        )
        found = [
            (
                use.gpu.pool or "",
                use.gpu.model,
                use.gpu.observed_mode.value if use.gpu.observed_mode else "",
                use.state.value,
            )
            for use in census.uses
        ]
        # Every state of a kind of GPU is there at 0, so that an alert sees it begin and end.
        kinds = {(pool, model) for pool, model, _, _ in found}
        zeros = {(*kind, mode.value, state.value): 0 for kind in kinds for mode in Mode for state in GpuState}
        tally = Counter(zeros)
        tally.update(found)
        for labels, number in sorted(tally.items()):
            gpus.add_metric(labels, number)
        yield gpus
        waiting = GaugeMetricFamily(
            "poolmgr_waiting_workloads", "Workloads that wait for a GPU.", labels=("pool", "model", "kind")
        )
        shared = GaugeMetricFamily(
            "poolmgr_shared_gpus_given_away",
            "Allocated parts of shared GPUs, summed, in GPUs.",
            labels=("pool", "model"),
        )
        for (pool, model), count in sorted(census.counts.items(), key=lambda item: str(item[0])):
            waiting.add_metric((pool or "", model, "VM"), count.waiting_vms)
            waiting.add_metric((pool or "", model, "Pod"), count.waiting_pods)
            shared.add_metric((pool or "", model), count.shared_share)
        yield waiting
        yield shared
        moves = GaugeMetricFamily("poolmgr_moves_in_flight", "Moves under way.", labels=("to_mode", "step"))
        under_way = Counter({(mode.value, step.value): 0 for mode in Mode for step in Step})
        under_way.update((t.to_mode.value, t.step.value) for t in snapshot.transitions)
        for way, number in sorted(under_way.items()):
            moves.add_metric(way, number)
        yield moves
        unread = GaugeMetricFamily(
            "poolmgr_unread_objects",
            "Objects of the cluster that cannot be read and are set aside, by kind. Only kinds with some.",
            labels=("kind",),
        )
        for kind, number in sorted(Counter(found.kind for found in snapshot.unread).items()):
            unread.add_metric((kind,), number)
        yield unread
        yield from _longest(snapshot)
        yield from _bounds(snapshot)
        yield from _costs(snapshot)
        yield from _agents(snapshot)
        plan = self._control.plan
        if plan is not None:
            refusals = GaugeMetricFamily(
                "poolmgr_plan_refusals", "Refusals of the newest plan, by reason.", labels=("reason",)
            )
            for reason, number in sorted(Counter(r.reason.value for r in plan.refusals).items()):
                refusals.add_metric((reason,), number)
            yield refusals
            yield from _targets(plan)
            yield from _quotas(plan)


def _longest(snapshot: ClusterSnapshot) -> Iterator[Metric]:
    now = snapshot.taken_at
    moving = max((now - t.started_at for t in snapshot.transitions), default=0.0)
    yield GaugeMetricFamily(
        "poolmgr_oldest_move_seconds",
        "Age of the oldest move under way; 0 without one.",
        value=max(0.0, moving),
    )
    longest = GaugeMetricFamily(
        "poolmgr_longest_wait_seconds",
        "Seconds that the longest-waiting workload has waited, of those that a GPU would serve; 0 without one.",
        labels=("kind",),
    )
    for kind, workloads in (("VM", snapshot.vms), ("Pod", snapshot.pods)):
        waits = [now - (w.waiting_since or w.created_at) for w in workloads if w.waiting and w.servable]
        longest.add_metric((kind,), max(0.0, max(waits, default=0.0)))
    yield longest


def _bounds(snapshot: ClusterSnapshot) -> Iterator[Metric]:
    bounds = GaugeMetricFamily(
        "poolmgr_pool_bound_gpus",
        "Bounds of a pool, in GPUs: min, max if there is one, headroom.",
        labels=("pool", "mode", "bound"),
    )
    for pool in snapshot.pools:
        for mode in Mode:
            side = pool.side(mode)
            for name, value in (("min", side.min), ("max", side.max), ("headroom", side.headroom)):
                if value is not None:
                    bounds.add_metric((pool.name, mode.value, name), value)
    yield bounds


def _targets(plan: Plan) -> Iterator[Metric]:
    targets = GaugeMetricFamily(
        "poolmgr_target_gpus",
        "GPUs that the newest plan wants in each mode.",
        labels=("pool", "model", "mode"),
    )
    for target in plan.targets:
        targets.add_metric((target.pool, target.model, Mode.PASSTHROUGH.value), target.passthrough)
        targets.add_metric((target.pool, target.model, Mode.SHARED.value), target.shared)
    yield targets


def _quotas(plan: Plan) -> Iterator[Metric]:
    """By the namespaces that pools name."""
    names = ("pool", "namespace")
    used = GaugeMetricFamily(
        "poolmgr_quota_used_gpus", "GPUs that count against the namespace's quota.", labels=names
    )
    limit = GaugeMetricFamily(
        "poolmgr_quota_limit_gpus", "GPUs that the namespace may hold of the pool.", labels=names
    )
    waiting = GaugeMetricFamily(
        "poolmgr_quota_waiting_gpus", "GPUs requested by workloads that are not admitted yet.", labels=names
    )
    for use in plan.quota_uses:
        labels = (use.pool, use.namespace)
        used.add_metric(labels, use.used)
        waiting.add_metric(labels, use.waiting)
        if use.max_gpus is not None:
            limit.add_metric(labels, use.max_gpus)
    yield used
    yield limit
    yield waiting
