"""The reference pages that are made from code say what the code says."""

import subprocess
import sys
from pathlib import Path

from poolmgr.domain.reasons import Reason

ROOT = Path(__file__).parents[3]


def test_generated_reference_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "tools/reference.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_reason_code_has_a_meaning_to_look_up() -> None:
    page = (ROOT / "docs/reference/reasons.md").read_text()
    assert [code for code in Reason if f"| `{code}` | " not in page] == []
