"""Files, folders and tests that a page names are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PAGES = [page for page in PAGES if page.name != "CHANGELOG.md" and page.parent.name != "adr"]
TOP = ("poolmgr", "webhooks", "bench", "tests", "e2e", "tools", "libhook", "helm")
INSIDE = [ROOT, ROOT / "poolmgr", ROOT / "tests", ROOT / "tests/unit", ROOT / "tests/integration"]
BEGINNINGS = {
    *TOP,
    *(folder.name for folder in (ROOT / "poolmgr").iterdir() if (folder / "__init__.py").exists()),
}
MADE_UP = re.compile(r"VENDOR|ARCH|libhook/build/")
"""Names with a part for the reader to fill in, and what a build makes."""


def named_in(text: str) -> set[str]:
    """Paths in backquotes that begin with a folder of ours."""
    found = set(re.findall(r"`([\w.*-]+(?:/[\w.*-]*)+)`", text))
    return {path for path in found if path.split("/")[0] in BEGINNINGS and not MADE_UP.search(path)}


def is_there(path: str) -> bool:
    return any(next(base.glob(path.rstrip("/")), None) is not None for base in INSIDE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    assert [path for path in sorted(named_in(page.read_text())) if not is_there(path)] == []


def test_every_step_that_the_code_names_of_a_page_is_there() -> None:
    named = {
        found
        for file in (ROOT / "poolmgr").rglob("*.py")
        for found in re.findall(r"(docs/[\w/-]+\.md), step (\d+)", file.read_text())
    }
    (pool,) = [number for page, number in named if page == "docs/how-to/install.md"]
    assert re.search(rf"^## {pool}\. Make a pool$", (ROOT / "docs/how-to/install.md").read_text(), re.M)
    for page, number in named:
        assert re.search(rf"^## {number}\. ", (ROOT / page).read_text(), re.M), (page, number)


def test_a_file_that_is_gone_is_found() -> None:
    (gone,) = named_in("decided in `poolmgr/planner/gone.py`, not in words/that/are/no.path or `a/b`")
    assert not is_there(gone)
    assert (
        is_there("planner/plan.py")
        and is_there("tests/unit/docs/")
        and is_there("e2e/hami/test_contract_*.py")
    )
