"""What is mutated, and the tests that have to notice."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Target:
    """Some modules and their tests, both as paths of the checkout."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]

    def files(self) -> list[Path]:
        return sorted(f for pattern in self.modules for f in ROOT.glob(pattern) if f.name != "__init__.py")


TARGETS = {
    "guard": Target(
        ("poolmgr/controller/guard.py", "poolmgr/domain/denials.py"),
        ("tests/unit/controller/test_guard.py", "tests/unit/domain/test_denials.py"),
    ),
    "executor": Target(("poolmgr/controller/executor/*.py",), ("tests/unit/controller/executor",)),
    "lease": Target(
        ("poolmgr/cluster/lease.py", "poolmgr/cluster/lease_settings.py"),
        ("tests/unit/cluster/test_lease.py", "tests/unit/cli/test_settings.py"),
    ),
    "rebind": Target(("poolmgr/agent/rebind.py",), ("tests/unit/agent/test_rebind.py",)),
    "charge": Target(
        ("poolmgr/domain/charge.py",),
        ("tests/unit/domain/test_charge.py", "tests/unit/planner/test_quotas.py"),
    ),
    "occupancy": Target(
        ("poolmgr/domain/occupancy.py",),
        ("tests/unit/domain/test_occupancy.py", "tests/unit/domain/test_doubt.py"),
    ),
    "planner": Target(("poolmgr/planner/**/*.py",), ("tests/unit/planner",)),
    "webhooks": Target(("webhooks/*.py",), ("tests/unit/webhooks",)),
}
"""By name, as in `make mutate ONLY=guard`."""
