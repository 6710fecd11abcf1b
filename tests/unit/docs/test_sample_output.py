"""What the pages print of `kubectl get` has the columns of our CRDs."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
HEADINGS = re.compile(r"^NAME +GPUS +.*$", re.M)
SHOWN = [
    (page.name, line)
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for line in HEADINGS.findall(page.read_text())
]


def columns(kind: str) -> list[str]:
    """Of the kind's table, as kubectl prints it without `-o wide`."""
    crd = yaml.safe_load((ROOT / f"helm/poolmgr/crds/{kind}.yaml").read_text())
    listed = crd["spec"]["versions"][0]["additionalPrinterColumns"]
    return ["NAME", *(one["name"].upper() for one in listed if not one.get("priority"))]


@pytest.mark.parametrize(("page", "line"), SHOWN)
def test_a_table_of_objects_has_the_columns_of_its_crd(page: str, line: str) -> None:
    assert re.split(r" {2,}", line.strip()) in (columns("gpunodes"), columns("gpupools")), page


def test_tables_are_found() -> None:
    assert {page for page, _ in SHOWN} >= {"install.md", "gpu-in-trouble.md"}
