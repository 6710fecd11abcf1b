"""A day of people and their GPUs, drawn from a small profile of two real traces, for the demo and for tests.

People log on to virtual desktops as students of a university library did (rates by hour, session lengths);
containers arrive evenly with the shares, sizes and durations of a GPU-sharing cluster. The profile holds
rates and quantiles only; its sources are named inside it.
"""

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from poolmgr.domain.fleet import EvictionRule, Pool, SideLimits
from poolmgr.domain.identifiers import PoolName
from poolmgr.sim.fleet import A10_RESOURCE, NodeShape, SimulatedFleet
from poolmgr.sim.world import PodRequest, Timings, VmRequest

MONDAY = 1_772_409_600.0
"""2026-03-02T00:00:00Z, a Monday: where the simulated day begins."""

CARD_MIB = 23_028
LONGEST_POD_SECONDS = 8 * 3_600.0
"""The traces' tail runs for weeks; in a demo of a day such a pod would only ever be a full card."""


@dataclass(frozen=True, slots=True)
class DesktopDay:
    """How much happens on the fleet."""

    nodes: int = 6
    gpus_per_node: int = 8
    days: int = 1
    first_hour: float = 6.0
    peak_desktops: float = 0.7
    """Desktops in use at the busiest hour, as a share of all GPUs."""
    pods_load: float = 0.45
    """Mean GPUs' worth of container work, as a share of all GPUs."""

    @property
    def gpus(self) -> int:
        return self.nodes * self.gpus_per_node


def load_profile() -> dict[str, Any]:
    text = files("poolmgr.sim").joinpath("profiles/desktop_day.json").read_text(encoding="utf-8")
    profile: dict[str, Any] = json.loads(text)
    return profile


def _draw(chance: np.random.Generator, shape: dict[str, list[float]], count: int) -> np.ndarray:
    """`count` values whose quantiles are those of the profile, straight lines between them."""
    return np.interp(chance.random(count), shape["quantiles"], shape["values"])


def desktops_of(day: DesktopDay, chance: np.random.Generator) -> list[VmRequest]:
    """The log-ons, times in Unix seconds."""
    profile = load_profile()
    rates = np.array(profile["desktop_log_ons_per_hour"])
    session = profile["desktop_session_seconds"]
    mean_session = float(np.trapezoid(session["values"], session["quantiles"]))
    # Little's law at the busiest hour fixes the scale.
    scale = day.peak_desktops * day.gpus / (float(rates.max()) * mean_session / 3_600)
    requests: list[VmRequest] = []
    for hour in range(int(day.first_hour), int(day.first_hour) + 24 * day.days):
        count = int(chance.poisson(rates[hour % 24] * scale))
        times = np.sort(chance.random(count)) * 3_600
        lengths = np.maximum(_draw(chance, session, count), 120.0)
        for offset, seconds in zip(times, lengths, strict=True):
            requests.append(
                VmRequest(
                    name=f"desktop-{len(requests) + 1:04d}",
                    at=MONDAY + hour * 3_600 + float(offset),
                    duration_seconds=float(seconds),
                    resource_name=A10_RESOURCE,
                )
            )
    return requests


def containers_of(day: DesktopDay, chance: np.random.Generator) -> list[PodRequest]:
    """The pods, times in Unix seconds."""
    profile = load_profile()
    span = 24 * 3_600.0 * day.days
    share = float(profile["fraction_pod_share"])
    sample = 4_000
    fractions = _draw(chance, profile["fraction_milli"], sample) / 1_000
    is_fraction = chance.random(sample) < share
    sizes = np.where(is_fraction, fractions, 1.0)
    seconds = np.where(
        is_fraction,
        _draw(chance, profile["fraction_seconds"], sample),
        _draw(chance, profile["whole_seconds"], sample),
    )
    seconds = np.clip(seconds, 60.0, LONGEST_POD_SECONDS)
    best_effort = chance.random(sample) < np.where(
        is_fraction, profile["fraction_best_effort"], profile["whole_best_effort"]
    )
    wanted = day.pods_load * day.gpus * span
    count = min(int(np.searchsorted(np.cumsum(sizes * seconds), wanted)) + 1, sample)
    times = np.sort(chance.random(count)) * span
    first = MONDAY + day.first_hour * 3_600
    return [
        PodRequest(
            name=f"job-{n + 1:04d}",
            at=first + float(times[n]),
            duration_seconds=float(seconds[n]),
            memory_mib=int(CARD_MIB * sizes[n]),
            cores_percent=round(100 * float(sizes[n])),
            best_effort=bool(best_effort[n]),
            evictable=bool(best_effort[n]),
        )
        for n in range(count)
    ]


def demo_pool(day: DesktopDay) -> Pool:
    """The pool of the demo: everything may move, a little is always ready on both sides."""
    return Pool(
        PoolName("desktops"),
        models=("NVIDIA A10",),
        passthrough=SideLimits(min=0, headroom=2),
        shared=SideLimits(min=2),
        cooldown_seconds=300,
        max_in_flight=max(2, day.gpus // 12),
        eviction=EvictionRule.BEST_EFFORT,
        created_at=MONDAY,
    )


def desktop_day(
    seed: int, day: DesktopDay | None = None, *, timings: Timings | None = None, pool: Pool | None = None
) -> SimulatedFleet:
    """A fleet at the first hour with all GPUs shared and the day's demand scheduled; equal seeds, equal days.

    The caller moves time with `fleet.clock.run_until`, or at a pace with `fleet.clock.run_paced`.
    """
    day = day or DesktopDay()
    fleet = SimulatedFleet(
        [NodeShape(count=day.nodes, gpus=day.gpus_per_node)],
        [pool or demo_pool(day)],
        start=MONDAY + day.first_hour * 3_600,
        timings=timings,
    )
    chance = np.random.default_rng(seed)
    fleet.kube.schedule(desktops_of(day, chance))
    fleet.kube.schedule(containers_of(day, chance))
    return fleet
