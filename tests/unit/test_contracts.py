"""Each import contract holds on the tree, and breaks on an import that it forbids."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

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
    "Webhooks stay small: domain, wire and kit only": ("webhooks", "import poolmgr.cluster"),
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
