"""What the wheel imports is declared, and what is declared is imported."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

FOUND_BY_NAME = {"uvloop": "uvicorn", "httptools": "uvicorn"}
"""Declared and imported by another package only: it takes them where they are there."""

OF_A_TENANT = "torch"
"""Imported by a program that `bench.hook` runs under the hook, where it is there."""


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=~! ]", requirement)[0].lower().replace("_", "-")


def imported(*packages: str) -> dict[str, Path]:
    """Top-level third-party module → a file that imports it."""
    found: dict[str, Path] = {}
    for package in packages:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names = [node.module]
                for name in names:
                    found.setdefault(
                        "google.protobuf" if name.startswith("google.") else name.partition(".")[0], path
                    )
    ours = {"poolmgr", "webhooks", "bench", "e2e", "tests", OF_A_TENANT}
    return {name: path for name, path in found.items() if name not in ours | set(sys.stdlib_module_names)}


DISTRIBUTIONS = {**packages_distributions(), "google.protobuf": ["protobuf"]}


def distribution_of(module: str) -> str:
    return DISTRIBUTIONS[module][0].lower().replace("_", "-")


def test_what_the_wheel_imports_is_declared() -> None:
    declared = {name_of(r) for r in PROJECT["dependencies"]}
    declared |= {name_of(r) for r in PROJECT["optional-dependencies"]["postgresql"]}
    missing = {
        module: str(path.relative_to(ROOT))
        for module, path in imported("poolmgr", "webhooks").items()
        if distribution_of(module) not in declared
    }
    assert missing == {}


def test_what_is_declared_is_imported() -> None:
    used = {distribution_of(module) for module in imported("poolmgr", "webhooks")}
    declared = {name_of(r) for r in PROJECT["dependencies"]}
    assert declared - used - set(FOUND_BY_NAME) == set()


def test_what_only_the_benchmarks_import_is_in_their_extra() -> None:
    product = {distribution_of(module) for module in imported("poolmgr", "webhooks")}
    extra = {name_of(r) for r in PROJECT["optional-dependencies"]["bench"]}
    assert {distribution_of(module) for module in imported("bench")} - product == extra
