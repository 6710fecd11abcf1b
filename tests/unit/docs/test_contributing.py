"""CONTRIBUTING says only what is true of the tree."""

import configparser
import re
from pathlib import Path
from statistics import median

import pytest

from tools.suite.tiers import tiers

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
PACKAGES = ("poolmgr", "webhooks")
LONGEST = 450
PATCHING = {
    "agent/test_nvml.py": "a library that hangs is given up sooner",
    "bench/replay/test_outages.py": "outages that the test chooses",
    "bench/test_calls.py": "no pauses between calls",
    "controller/test_loop_faults.py": "each call of the loop fails",
    "cluster/test_lease.py": "its log, which a test before it may have set up for good",
    "cluster/test_one_bad_object.py": "each thing that is made of an object fails",
}
"""Unit tests that patch code of our own, and why."""


def modules() -> list[Path]:
    found = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    return [file for file in found if file.parent != ROOT / "poolmgr/agent/wire"]


def test_every_file_and_folder_that_it_names_is_there() -> None:
    where = [ROOT, ROOT / "poolmgr"]
    named = {word for word in re.findall(r"`([\w./-]+)`", TEXT) if "/" in word or word.endswith(".py")}
    assert named
    made = {"build/suite/"}
    assert made <= named
    assert [word for word in named - made if not any((base / word).exists() for base in where)] == []


def test_every_make_target_that_it_names_is_there() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make ([\w-]+)", TEXT)) <= targets


def test_its_tiers_are_those_of_the_suite() -> None:
    table = TEXT.split("| tier | proves |")[1].split("\n\n")[0]
    listed = {name for row in re.findall(r"^\| ([\w, ]+) \|", table, re.M) for name in row.split(", ")}
    assert listed == set(tiers(1))


def test_modules_are_as_long_as_it_says() -> None:
    assert f"Nine in ten have at most 250 lines, half at most 100, none over {LONGEST}" in TEXT
    lengths = {file: len(file.read_text().splitlines()) for file in modules()}
    assert {str(f.relative_to(ROOT)): n for f, n in lengths.items() if n > LONGEST} == {}
    assert sum(n <= 250 for n in lengths.values()) >= 0.9 * len(lengths)
    assert median(lengths.values()) <= 100


def test_its_layers_are_those_of_the_contract() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    layers = contracts["importlinter:contract:layers"]["layers"].replace("poolmgr.", "").split("\n")
    assert " → ".join(layer.strip() for layer in layers if layer) in re.sub(r"\s+", " ", TEXT)


def test_it_names_every_package() -> None:
    packages = {file.parent.name for file in (ROOT / "poolmgr").glob("*/__init__.py")}
    assert {name for name in packages if not re.search(rf"`[^`]*\b{name}\b[^`]*`", TEXT)} == set()


def test_folders_of_unit_tests_are_those_of_the_code() -> None:
    unit = ROOT / "tests/unit"
    folders = {file.parent.relative_to(unit) for file in unit.rglob("test_*.py")}
    strangers = [f for f in folders if not any((base / f).is_dir() for base in (ROOT, ROOT / "poolmgr"))]
    assert strangers == []


def test_code_of_our_own_is_patched_only_where_listed() -> None:
    unit = ROOT / "tests/unit"
    ours = re.compile(r"monkeypatch\.setattr\(\s*(?!os\b|Path\b|ssl\b|sys\b|rig\.)")
    found = {str(file.relative_to(unit)) for file in unit.rglob("test_*.py") if ours.search(file.read_text())}
    assert found == set(PATCHING)


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX"])
def test_nothing_is_put_off(word: str) -> None:
    marked = [file for file in modules() if re.search(rf"#.*\b{word}\b", file.read_text())]
    assert marked == []
