"""The page on the architecture names what the code has: stages, steps, packages, files, figures."""

import re
from pathlib import Path

from poolmgr.controller.executor.conditions import SETTLE_SECONDS
from poolmgr.domain.modes import Step
from poolmgr.planner.plan import STAGES
from poolmgr.wire import annotations

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/explanation/architecture.md").read_text()


def section(heading: str) -> str:
    return re.split(r"^#+ ", TEXT.split(f"# {heading}\n")[1], maxsplit=1, flags=re.M)[0]


def test_its_stages_are_those_of_the_planner_in_order() -> None:
    listed = re.findall(r"^\d+\. `(\w+)`", section("The stages of a decision"), re.M)
    assert listed == [stage.__name__ for stage in STAGES]


def test_its_steps_are_those_of_a_move_in_order() -> None:
    rows = re.findall(r"^\| (\w+) \|", section("The life of a move"), re.M)
    assert [row for row in rows if row not in ("step", "plan", "verify")] == [step.value for step in Step]


def test_it_names_every_package() -> None:
    packages = {file.parent.name for file in (ROOT / "poolmgr").glob("*/__init__.py")}
    named = set(re.findall(r"[`\[\"](\w+)[`:]", section("Packages")))
    assert packages - named == set()


def test_every_file_and_folder_that_it_names_is_there() -> None:
    where = [ROOT, ROOT / "poolmgr"]
    named = {word for word in re.findall(r"`([\w./-]+)`", TEXT) if "/" in word and not word.startswith("/")}
    made_up = {"poolmgr/agent/data/VENDOR.yaml", "poolmgr.io/admission"}
    assert made_up <= named
    assert [word for word in named - made_up if not any((base / word).exists() for base in where)] == []


def test_every_function_that_it_names_is_in_its_file() -> None:
    named = re.findall(r"`(?:\w+\.)?(\w+)`\s+in\s+`([\w/]+\.py)`", TEXT)
    assert {("repair", "controller/intents.py"), ("validate", "controller/guard.py")} <= set(named)
    for item in re.findall(r"^\d\. \[`.*?(?=^\d\. |^#)", section("Five files, in this order"), re.M | re.S):
        (file,) = re.findall(r"\[`poolmgr/(.*?)`\]", item)
        named += [(name, file) for name in re.findall(r"`(?:\w+\.)?(\w+)`(?!\s+in\s+`)", item)]
    assert [
        (n, f)
        for n, f in named
        if not re.search(rf"^\s*((async )?def|class) {n}\b|^{n}\b", (ROOT / "poolmgr" / f).read_text(), re.M)
    ] == []


def test_its_figures_are_those_of_the_code() -> None:
    assert f"has placed nothing there for {SETTLE_SECONDS:.0f} s" in TEXT
    assert f"`{annotations.ADMISSION_GATE}`" in TEXT


def test_the_page_on_planning_has_the_stages_in_order_too() -> None:
    page = (ROOT / "docs/explanation/planning.md").read_text().split("## The stages\n")[1].split("\n## ")[0]
    rows = "".join(re.findall(r"^\| (`[^|]+) \|", page, re.M))
    assert re.findall(r"`(\w+)`", rows) == [stage.__name__ for stage in STAGES]
