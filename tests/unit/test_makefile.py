"""`make help` is how somebody finds their way; it must list what there is."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_help_lists_every_public_target_with_its_words() -> None:
    targets = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.M)
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for target in " ".join(targets).split():
        assert re.search(rf"make {re.escape(target)}\s.*\s\w{{2,}}", shown), f"{target} is not in make help"
    assert shown.replace("\n", "").isprintable(), "colours are for terminals"


def test_issue_targets_are_there() -> None:
    text = (ROOT / "Makefile").read_text()
    for target in ("help", "run", "test", "check", "bench", "e2e", "clean"):
        assert re.search(rf"^{target}:", text, re.M)
