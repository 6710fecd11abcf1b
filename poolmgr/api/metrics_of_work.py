"""What a manager has done and waited for, as Prometheus metrics. Every series is there from the start, at 0."""

from collections.abc import Iterator, Mapping
from importlib.metadata import version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from poolmgr.controller.measures import Histogram, Measures


def work(measures: Measures) -> Iterator[Metric]:
    build = GaugeMetricFamily(
        "poolmgr_build_info", "1, with the release of this manager.", labels=("version",)
    )
    build.add_metric((version("poolmgr"),), 1)
    yield build
    moves = CounterMetricFamily(
        "poolmgr_moves",
        "Moves started, completed and rolled back, by the mode that they were started for.",
        labels=("result", "to_mode"),
    )
    for (result, mode), number in sorted(measures.moves.items()):
        moves.add_metric((result, mode.value), number)
    yield moves
    undone = CounterMetricFamily(
        "poolmgr_moves_undone",
        "Moves that were undone, by step and reason code.",
        labels=("step", "reason"),
    )
    for (step, reason), number in sorted(measures.undone.items()):
        undone.add_metric((step.value, reason), number)
    yield undone
    yield _histograms(
        "poolmgr_move_duration_seconds",
        "Seconds from the start of a move to its end, including moves that were undone.",
        "to_mode",
        measures.move_seconds,
    )
    yield _histograms(
        "poolmgr_step_duration_seconds",
        "Seconds that each completed step took.",
        "step",
        measures.step_seconds,
    )
    yield _histograms(
        "poolmgr_wait_duration_seconds",
        "Seconds that workloads waited until they were placed.",
        "kind",
        measures.wait_seconds,
    )
    evictions = CounterMetricFamily(
        "poolmgr_evictions",
        "Evictions requested, and evictions denied by a disruption budget.",
        labels=("result",),
    )
    for result, number in sorted(measures.evictions.items()):
        evictions.add_metric((result,), number)
    yield evictions
    yield CounterMetricFamily(
        "poolmgr_plugin_stops", "Times that moves took HAMi's plugin off a node.", value=measures.plugin_stops
    )
    yield CounterMetricFamily(
        "poolmgr_closed_seconds",
        "Seconds for which moves kept nodes' GPUs closed to new vGPU pods, or nodes cordoned; a part of a node's GPUs counts as a part.",
        value=measures.closed_seconds,
    )
    yield _histogram("poolmgr_plan_duration_seconds", "Seconds to make a plan.", measures.plan_seconds)
    yield _histogram(
        "poolmgr_tick_duration_seconds", "Seconds for one pass of the loop.", measures.tick_seconds
    )
    yield CounterMetricFamily(
        "poolmgr_ticks_failed", "Passes of the loop that ended early.", value=measures.ticks_failed
    )
    yield CounterMetricFamily(
        "poolmgr_ledger_failures",
        "Records that could not be written to the ledger.",
        value=measures.ledger_failures,
    )
    yield GaugeMetricFamily(
        "poolmgr_ledger_up", "1 while the ledger accepts records.", value=float(measures.ledger_up)
    )


def watches(ages: Mapping[str, float]) -> Iterator[Metric]:
    found = GaugeMetricFamily(
        "poolmgr_watch_age_seconds",
        "Seconds since the API server last confirmed the watch of a kind.",
        labels=("kind",),
    )
    for kind, seconds in sorted(ages.items()):
        found.add_metric((kind,), seconds)
    yield found


def _histograms(name: str, text: str, label: str, found: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=(label,))
    for value, histogram in found.items():
        family.add_metric((str(value),), _buckets(histogram), histogram.sum)
    return family


def _histogram(name: str, text: str, found: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, buckets=_buckets(found), sum_value=found.sum)


def _buckets(found: Histogram) -> list[tuple[str, float]]:
    reached, cumulative = 0, []
    for bound, number in zip((*map(str, found.bounds), "+Inf"), found.counts, strict=True):
        reached += number
        cumulative.append((bound, float(reached)))
    return cumulative
