"""All loads on all webhooks, in turns, so that whatever else the machine does meets each of them alike."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.webhook.arms import Arm, arms
from bench.webhook.bodies import Body, bodies
from bench.webhook.load import Load, find_wrk, measure
from e2e.controlplane.plane import ControlPlane
from e2e.gomodule import BuildFailed
from e2e.parts import PartMissing, PartRefused, part
from poolmgr.domain.errors import Unavailable
from poolmgr.domain.reasons import Reason

CONNECTIONS = (1, 16)
WARM_SECONDS = 1
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Case:
    """One load, on every webhook."""

    body: Body
    connections: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians of an arm's rounds in one case."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_per_thousand: float

    @classmethod
    def of(cls, loads: Sequence[Load]) -> "Figures":
        return cls(
            median(load.per_second for load in loads),
            median(load.p50_ms for load in loads),
            median(load.p99_ms for load in loads),
            median(load.cpu_per_thousand for load in loads),
        )


Found = dict[Case, dict[str, list[Load]]]
"""By case and name of the webhook, in the order of the rounds."""


def compare(found: Sequence[Arm], rounds: int, seconds: int, tell: Tell) -> Found:
    """Each case on each webhook in each round; who begins changes from round to round."""
    cases = [Case(body, connections) for body in bodies().values() for connections in CONNECTIONS]
    loads: Found = {case: {arm.name: [] for arm in found} for case in cases}
    for arm in found:
        for case in cases:
            measure(arm, case.body, case.connections, WARM_SECONDS)
    for number in range(rounds):
        for case in cases:
            first = number % len(found)
            for arm in [*found[first:], *found[:first]]:
                loads[case][arm.name].append(measure(arm, case.body, case.connections, seconds))
        tell(f"round {number + 1} of {rounds}")
    return loads


def compare_on_own_plane(
    checkouts: Sequence[tuple[str, Path]], hami_version: str, rounds: int, seconds: int, tell: Tell
) -> tuple[Found, str]:
    """The same on a control plane of its own, and the reason why HAMi is not among them, empty where it is. Raises
    Unavailable where the control plane cannot be had."""
    find_wrk()
    missing = hami_missing(hami_version)
    folder = Path(tempfile.mkdtemp(prefix="poolmgr-bench-webhook-"))
    try:
        plane = ControlPlane(folder)
    except BuildFailed as failed:
        raise Unavailable(Reason.API_UNAVAILABLE, f"no control plane to measure on: {failed}") from failed
    try:
        plane.start()
        found = arms(plane, checkouts, None if missing else hami_version)
        tell(f"measuring {', '.join(arm.name for arm in found)}")
        return compare(found, rounds, seconds, tell), missing
    finally:
        plane.stop()
        shutil.rmtree(folder, ignore_errors=True)


def hami_missing(version: str) -> str:
    """Why the real HAMi is not to be had; empty where it is."""
    try:
        for name in ("scheduler", "chart.tgz"):
            part(f"hami-{version}/{name}")
    except (PartMissing, PartRefused) as missing:
        return str(missing)
    return ""
