"""The tiers of the test suite: what each runs, what it proves, what it has to wait for."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Tier:
    """One command of the suite. `{junit}` in it becomes the file for pytest's report."""

    name: str
    proves: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    """Tiers that have to be over, however they ended."""
    optional: bool = False
    """Where it fails, tests that need it say so and are skipped; the run is not red by it."""
    adds_options: bool = False
    """Its command calls pytest somewhere inside: the report is asked for by PYTEST_ADDOPTS."""
    on_hami: tuple[str, ...] = ()
    """Releases of HAMi that its tests run on."""


def pytest(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "pytest", "-q", "--junit-xml={junit}", *arguments)


def tiers(workers: int) -> dict[str, Tier]:
    """Every tier by its name, in the order in which they are begun. `workers` share the unit tests."""
    unit = pytest("tests/unit", "-p", "no:schemathesis", "-n", str(workers if workers > 1 else 0))
    found = (
        Tier(
            "build",
            "the control plane's programs: built from source once, then in the cache",
            (sys.executable, "-m", "e2e.controlplane.build"),
            optional=True,
        ),
        Tier(
            "image",
            "the image of manager, webhook and agent, from pinned packages",
            (sys.executable, "-m", "tools.image"),
            optional=True,
        ),
        Tier(
            "story",
            "the main job in eight chapters: API server, scheduler, KubeVirt's controller, kubelet, a Linux kernel",
            # The scenes on the same stage take a quarter of an hour more, and nothing runs beside them by then.
            pytest("e2e/story", "--ignore", "e2e/story/test_used_gpus_stay.py"),
            after=("build", "image"),
            on_hami=("2.10.0",),
        ),
        Tier(
            "lint",
            "style and formatting",
            ("sh", "-c", '"$0" check . && "$0" format --check .', str(BIN / "ruff")),
        ),
        Tier("types", "strict types of poolmgr and webhooks", (sys.executable, "-m", "mypy")),
        Tier("contracts", "no import goes against the layers", (str(BIN / "lint-imports"),)),
        Tier(
            "unit",
            "each part against fakes, with clocks and chance passed in",
            (*unit, "-m", "not sweep and not long"),
        ),
        Tier(
            "long",
            "the same over hours of a simulated cluster, weeks of a trace, thousands of examples",
            (*unit, "-m", "long and not sweep"),
        ),
        Tier(
            "sweep",
            "a failure at every call and second of a move; three times the examples of every property",
            (*unit, "-m", "sweep or hypothesis", "--hypothesis-profile", "sweep"),
        ),
        Tier(
            "hook",
            "libhook in C programs on the fake driver",
            ("libhook/run-tests.sh",),
            adds_options=True,
        ),
        Tier(
            "local",
            "agent, REST API, page, ledger and hook with real sockets, Chromium, PostgreSQL, nvidia-smi",
            pytest("tests/integration", "--ignore", "tests/integration/helm", "-m", "not plane"),
            after=("hook",),
        ),
        Tier(
            "plane",
            "manager and agent on a real API server, the recipe for HAMi, KubeVirt's controller",
            pytest("tests/integration", "--ignore", "tests/integration/helm", "-m", "plane"),
            after=("build", "hook"),
            on_hami=("2.8.3", "2.10.0"),
        ),
        Tier(
            "chart",
            "the chart installed: rights, admission, CRDs, upgrades",
            pytest("tests/integration/helm"),
            after=("build",),
            on_hami=("2.10.0",),
        ),
        Tier(
            "bed",
            "the test bed itself: that its parts start, answer and never outlive their tests",
            pytest("e2e", "-m", "not node"),
            after=("build", "image"),
            on_hami=("2.8.3", "2.10.0"),
        ),
    )
    return {tier.name: tier for tier in found}


CHECK = ("lint", "types", "contracts", "unit")
QUICK = (*CHECK, "long", "local")
GROUPS: dict[str, tuple[str, ...]] = {
    "check": CHECK,
    "quick": QUICK,
    "sweep": ("sweep",),
    "test": tuple(tiers(1)),
}
"""What `python -m tools.suite NAME` runs."""
