"""Each import contract holds on the tree, and breaks on an import that it forbids. The pure packages import nothing else than
what is listed here: a contract can only name what is forbidden, and IO has too many names."""

import ast
import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PLANTED = {
    "Dependencies point inwards": ("poolmgr/domain", "import poolmgr.planner"),
    "In the planner, stages use sizing, and both the inventory": (
        "poolmgr/planner/inventory",
        "import poolmgr.planner.stages.state",
    ),
    "domain, planner and doctor do no IO and know no clock or chance": ("poolmgr/planner", "import os"),
    "Only poolmgr.cluster talks to Kubernetes through its client": (
        "poolmgr/controller",
        "import kubernetes",
    ),
    "Only poolmgr.store knows SQL": ("poolmgr/sim", "import sqlmodel"),
    "Only poolmgr.agent knows NVML": ("poolmgr/store", "import pynvml"),
    "Webhooks stay small: domain, wire and kit only": ("webhooks", "import poolmgr.doctor.findings"),
    "Only the command line and the benchmarks know the webhooks": ("poolmgr/sim", "import webhooks.review"),
    "kit and hookregion know nothing of the rest": ("poolmgr/kit", "import poolmgr.domain.reasons"),
    "Wire formats do no IO and know only the domain": ("poolmgr/wire", "import httpx"),
    "Only the command line knows the benchmarks": (
        "poolmgr/store",
        "import bench",
    ),
}
"""Contract → where an offence is planted, and the offence."""


def test_every_contract_breaks_on_a_planted_import(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".importlinter", tmp_path)
    for package in ("poolmgr", "webhooks", "bench"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for number, (folder, offence) in enumerate(PLANTED.values()):
        (tmp_path / folder / f"planted_{number}.py").write_text(offence + "\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    for contract in PLANTED:
        assert f"{contract} BROKEN" in done.stdout, done.stdout[-2000:]


def test_every_contract_is_planted_against() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    names = {contracts[section]["name"] for section in contracts.sections() if "name" in contracts[section]}
    assert names == set(PLANTED)


ANY_PURE = {"collections", "dataclasses", "enum", "functools", "hashlib", "math", "operator", "typing"}
PURE = {
    "poolmgr/domain": {"poolmgr.domain", "bisect", "datetime"},
    "poolmgr/planner": {"poolmgr.domain", "poolmgr.planner", "heapq", "itertools", "numpy", "types"},
    "poolmgr/doctor": {"poolmgr.domain", "poolmgr.doctor", "poolmgr.wire"},
    "poolmgr/wire": {
        *("poolmgr.domain", "poolmgr.wire", "datetime", "decimal", "re", "zoneinfo"),
        *("msgspec", "urllib.parse", "yaml"),
    },
}
"""Package → what it may import beside ANY_PURE, with all that is below."""
IMPURE_CALLS = {"open", "print", "input", "eval", "exec", "__import__", "now", "utcnow", "today"}


def impurities(folder: str, source: str) -> list[str]:
    """Imports that are not listed for the package, and calls that read a clock or do IO without an import."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from poolmgr import wire` names a package in its second half.
            deeper = node.module in {"poolmgr", "urllib"}
            found += [f"{node.module}.{alias.name}" for alias in node.names] if deeper else [str(node.module)]
        elif isinstance(node, ast.Call):
            called = node.func
            name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
            found += [f"{name}()"] if name in IMPURE_CALLS else []
    allowed = ANY_PURE | PURE[folder]
    return [name for name in found if not any(name == a or name.startswith(f"{a}.") for a in allowed)]


def test_pure_packages_import_nothing_but_what_is_listed() -> None:
    found = {
        str(path.relative_to(ROOT)): offences
        for folder in PURE
        for path in (ROOT / folder).rglob("*.py")
        if (offences := impurities(folder, path.read_text()))
    }
    assert found == {}


@pytest.mark.parametrize("folder", PURE)
@pytest.mark.parametrize(
    "offence",
    [
        "import shutil",
        "import sys",
        "import poolmgr.kit.clock",
        "from poolmgr import kit",
        "from urllib import request",
        "from urllib.request import urlopen",
        "def read():\n    import http.client",
        "x = open('/etc/hosts')",
        "from collections import Counter\nx = datetime.now()",
    ],
)
def test_io_and_clocks_are_found_in_pure_packages(folder: str, offence: str) -> None:
    assert impurities(folder, offence)
