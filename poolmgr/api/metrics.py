"""The fleet as Prometheus metrics, counted at scrape time. Labels are bounded: pools, models, modes, states, and the
nodes that moves disturbed within the last hour or whose agent is silent."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from poolmgr.api.interfaces import Control
from poolmgr.domain.backoff import CORDONED_SECONDS_AN_HOUR, PLUGIN_STOPS_AN_HOUR, WHOLE_NODE, spent
from poolmgr.domain.snapshot import ClusterSnapshot


def _agents(snapshot: ClusterSnapshot) -> Iterator[Metric]:
    agents = GaugeMetricFamily(
        "poolmgr_agents",
        "Agents by whether they are heard: heard, silent for a minute, or unknown to a manager that has just begun.",
        labels=("state",),
    )
    silence = GaugeMetricFamily(
        "poolmgr_agent_silent_seconds",
        "For how long the node's agent has not been heard. Only nodes where it is silent; 0 where nobody knows.",
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
        "poolmgr_paused", "GPUs and nodes that rest since moves failed.", labels=("kind", "reason")
    )
    paused = Counter(
        ("Node" if backoff.pci_address == WHOLE_NODE else "GPU", backoff.reason)
        for node in snapshot.nodes
        for backoff in node.backoffs
        if backoff.until > now
    )
    for labels, number in sorted(paused.items()):
        resting.add_metric(labels, number)
    yield resting
    stops = GaugeMetricFamily(
        "poolmgr_node_plugin_stops_last_hour",
        f"Times that moves took HAMi's plugin off the node within the last hour; {PLUGIN_STOPS_AN_HOUR} at most. "
        "Only nodes where it happened.",
        labels=("node",),
    )
    cordoned = GaugeMetricFamily(
        "poolmgr_node_cordoned_seconds_last_hour",
        f"Seconds of the last hour for which moves kept the node cordoned; beyond {CORDONED_SECONDS_AN_HOUR:.0f} none is "
        "begun there. Only nodes where it happened.",
        labels=("node",),
    )
    for node in snapshot.nodes:
        used = spent(node.disturbances, now)
        if used.plugin_stops:
            stops.add_metric((node.name,), used.plugin_stops)
            cordoned.add_metric((node.name,), used.cordoned_seconds)
    yield stops
    yield cordoned


class FleetCollector(Collector):
    def __init__(self, control: Control) -> None:
        self._control = control

    def collect(self) -> Iterator[Metric]:
        readiness = self._control.readiness
        yield GaugeMetricFamily(
            "poolmgr_leading", "1 while this manager holds the lease and acts.", value=float(bool(readiness))
        )
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
        tally = Counter(
            (
                use.gpu.pool or "",
                use.gpu.model,
                use.gpu.observed_mode.value if use.gpu.observed_mode else "",
                use.state.value,
            )
            for use in census.uses
        )
        for labels, number in sorted(tally.items()):
            gpus.add_metric(labels, number)
        yield gpus
        waiting = GaugeMetricFamily(
            "poolmgr_waiting_workloads", "Workloads that wait for a GPU.", labels=("pool", "model", "kind")
        )
        shared = GaugeMetricFamily(
            "poolmgr_shared_gpus_given_away",
            "Sum of the given-away parts of shared GPUs, in GPUs.",
            labels=("pool", "model"),
        )
        for (pool, model), count in sorted(census.counts.items(), key=lambda item: str(item[0])):
            waiting.add_metric((pool or "", model, "VM"), count.waiting_vms)
            waiting.add_metric((pool or "", model, "Pod"), count.waiting_pods)
            shared.add_metric((pool or "", model), count.shared_share)
        yield waiting
        yield shared
        moves = GaugeMetricFamily("poolmgr_moves_in_flight", "Moves under way.", labels=("to_mode", "step"))
        under_way = Counter((t.to_mode.value, t.step.value) for t in snapshot.transitions)
        for way, number in sorted(under_way.items()):
            moves.add_metric(way, number)
        yield moves
        yield from _costs(snapshot)
        yield from _agents(snapshot)
        plan = self._control.plan
        if plan is not None:
            refusals = GaugeMetricFamily(
                "poolmgr_plan_refusals", "What the newest plan leaves alone, by reason.", labels=("reason",)
            )
            for reason, number in sorted(Counter(r.reason.value for r in plan.refusals).items()):
                refusals.add_metric((reason,), number)
            yield refusals
