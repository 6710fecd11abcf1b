"""The day as a picture: GPUs given to VMs and to containers over time, and who waited. Pure; makes SVG paths.

Drawn here rather than in the browser: it needs no library, and a page without scripts still shows it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from poolmgr.domain.history import DemandSample

WIDTH, HEIGHT = 960, 260
"""Of the drawing, in SVG units; it scales to the page."""
LEFT, RIGHT, TOP, BASE, WAIT_TOP = 34, 8, 10, 188, 210
"""Plot area: y runs from BASE up to TOP; the strip of who waited lies from WAIT_TOP down."""
WAIT_HEIGHT = 28
MAX_POINTS = 288
"""One for each five minutes of a day."""
HOUR = 3_600.0
TICK_HOURS = (1, 2, 3, 4, 6, 12, 24)


@dataclass(frozen=True, slots=True)
class Tick:
    """`value`: GPUs beside the picture, an instant below it."""

    position: float
    value: float


@dataclass(frozen=True, slots=True)
class HourRow:
    """The same numbers for those who do not see the picture."""

    at: float
    vms: str
    containers: str
    use: str
    waiting: str


@dataclass(frozen=True, slots=True)
class Chart:
    vms: str
    containers: str
    capacity: str
    """Line between the GPUs bound for VMs and those for containers."""
    waiting: str
    waiting_peak: int
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    mean_percent: int
    points: str
    """JSON for the crosshair: [x, Unix seconds, VM GPUs, container GPUs, VMs waiting, pods waiting]."""
    rows: tuple[HourRow, ...]


@dataclass(frozen=True, slots=True)
class _Point:
    at: float
    gpus: float
    vms: float
    containers: float
    passthrough: float
    waiting_vms: float
    waiting_pods: float


def draw(samples: Sequence[DemandSample]) -> Chart | None:
    """The chart over the samples' span (oldest first); None where there are too few to draw."""
    points = _thin(samples)
    if len(points) < 2:
        return None
    start, end = points[0].at, max(points[-1].at, points[0].at + HOUR)
    top = max(1.0, *(p.gpus for p in points))
    peak = max(1, *(round(p.waiting_vms + p.waiting_pods) for p in points))

    def x(at: float) -> float:
        return round(LEFT + (at - start) / (end - start) * (WIDTH - LEFT - RIGHT), 1)

    def y(gpus: float) -> float:
        return round(BASE - gpus / top * (BASE - TOP), 1)

    def strip(number: float) -> float:
        return round(WAIT_TOP + WAIT_HEIGHT - number / peak * WAIT_HEIGHT, 1)

    stacked = [(x(p.at), y(p.vms), y(p.vms + p.containers)) for p in points]
    floor = f"{stacked[-1][0]},{BASE} {stacked[0][0]},{BASE}"
    back = " ".join(f"{a},{low}" for a, low, _ in reversed(stacked))
    used = sum(p.vms + p.containers for p in points) / max(1e-9, sum(p.gpus for p in points))
    return Chart(
        vms=" ".join(f"{a},{low}" for a, low, _ in stacked) + " " + floor,
        containers=" ".join(f"{a},{high}" for a, _, high in stacked) + " " + back,
        capacity=" ".join(f"{x(p.at)},{y(p.passthrough)}" for p in points),
        waiting=" ".join(f"{x(p.at)},{strip(p.waiting_vms + p.waiting_pods)}" for p in points)
        + f" {stacked[-1][0]},{WAIT_TOP + WAIT_HEIGHT} {stacked[0][0]},{WAIT_TOP + WAIT_HEIGHT}",
        waiting_peak=peak if any(p.waiting_vms + p.waiting_pods for p in points) else 0,
        x_ticks=tuple(Tick(x(at), at) for at in _hours(start, end)),
        y_ticks=tuple(Tick(y(n), n) for n in (0.0, top / 2, top)),
        mean_percent=round(100 * used),
        points=json.dumps(
            [
                [
                    x(p.at),
                    round(p.at),
                    round(p.vms, 1),
                    round(p.containers, 1),
                    round(p.waiting_vms),
                    round(p.waiting_pods),
                ]
                for p in points
            ],
            separators=(",", ":"),
        ),
        rows=_hourly(points),
    )


def _thin(samples: Sequence[DemandSample]) -> list[_Point]:
    """Means of equal numbers of neighbouring samples, so that at most MAX_POINTS are left."""
    size = -(-len(samples) // MAX_POINTS) or 1
    groups = [samples[i : i + size] for i in range(0, len(samples), size)]
    return [
        _Point(
            at=sum(s.at for s in group) / len(group),
            gpus=sum(s.count.gpus for s in group) / len(group),
            vms=sum(s.count.passthrough_used for s in group) / len(group),
            containers=sum(s.count.shared_share for s in group) / len(group),
            passthrough=sum(s.count.passthrough for s in group) / len(group),
            waiting_vms=sum(s.count.waiting_vms for s in group) / len(group),
            waiting_pods=sum(s.count.waiting_pods for s in group) / len(group),
        )
        for group in groups
    ]


def _hours(start: float, end: float) -> list[float]:
    step = next((h for h in TICK_HOURS if (end - start) / HOUR / h <= 8), TICK_HOURS[-1]) * HOUR
    first = -(-start // step) * step
    return [first + i * step for i in range(int((end - first) // step) + 1) if first <= end]


def _hourly(points: Sequence[_Point]) -> tuple[HourRow, ...]:
    rows = []
    for hour in sorted({p.at // HOUR for p in points}, reverse=True):
        group = [p for p in points if p.at // HOUR == hour]
        vms, containers, gpus = (
            sum(getattr(p, name) for p in group) / len(group) for name in ("vms", "containers", "gpus")
        )
        waiting = sum(p.waiting_vms + p.waiting_pods for p in group) / len(group)
        use = (vms + containers) / gpus if gpus else 0.0
        rows.append(HourRow(hour * HOUR, f"{vms:.1f}", f"{containers:.1f}", f"{use:.0%}", f"{waiting:.1f}"))
    return tuple(rows)
