"""The survivors that are explained, as docs/explanation/mutants.md has them."""

import re

from tools.mutate.targets import ROOT

PAGE = ROOT / "docs" / "explanation" / "mutants.md"


def explained() -> dict[tuple[str, str, str], str]:
    """(module, function, change) → why it may survive, from the rows of the page's tables."""
    rows: dict[tuple[str, str, str], str] = {}
    module = ""
    for line in PAGE.read_text().splitlines() if PAGE.exists() else ():
        if heading := re.fullmatch(r"### `(.+)`", line):
            module = heading[1]
        elif row := re.fullmatch(r"\| `(.*?)` \| `(.+?)` \| (.+) \|", line):
            rows[module, row[1], row[2].replace("\\|", "|")] = row[3]
    return rows
