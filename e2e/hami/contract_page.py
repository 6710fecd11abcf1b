"""Writes `docs/explanation/hami-contract.md` from the statements and from what was seen on the real HAMi.

python -m e2e.hami.contract_page      (part of `make docs`)
"""

from e2e.cache import PROJECT_ROOT
from e2e.hami.contract import read_checked
from e2e.hami.statements import BOTH, SECTIONS, Statement

PAGE = PROJECT_ROOT / "docs" / "explanation" / "hami-contract.md"
HEAD = """\
# What HAMi does: the contract

poolmgr takes GPUs from HAMi and gives them back, so it depends on what HAMi's scheduler, webhook and device plugin do.
This page lists that, statement by statement, for the releases 2.8.3 and 2.10.0. Each statement has a test
(`e2e/hami/test_contract_*.py`, `e2e/node/test_hami_plugin.py`) that runs on whatever HAMi stands: the real one where
its parts can be had, elsewhere the stand-in of this project under `e2e/hami/standin`. A run says which one it was on, at
its head and in its last line; one on the stand-in shows that the stand-in keeps to this page, and nothing about HAMi.

*checked* is the day on which the statement's tests last passed on the real HAMi of that release; a dash: not yet.
**Not so** marks what was believed before the real one was asked.

HAMi does more than this page states. Nothing here tests `numa-bind`, the `topology-aware` and `numa` policies, the
weights by which nodes and devices are scored, `GPU_CORE_UTILIZATION_POLICY=disable` at allocation, the leader's pod
label and the health endpoints: poolmgr decides nothing by them. It takes `--node-lock-timeout` to be 5 minutes.

    python -m pytest e2e/hami                                   # on what stands here
    POOLMGR_HAMI=real python -m pytest e2e/hami --record-hami-contract     # on the real one, and keep the days

<!-- Made from e2e/hami/statements.yaml and e2e/hami/checked.json by `make docs`. -->
"""


def page() -> str:
    checked = read_checked()
    lines = [HEAD]
    for section in SECTIONS:
        lines += [
            f"## {section.title}",
            "",
            "| | statement | 2.8.3 checked | 2.10.0 checked |",
            "|---|---|---|---|",
        ]
        lines += [_row(statement, checked) for statement in section.statements]
        lines.append("")
    return "\n".join(lines)


def _row(statement: Statement, checked: dict[str, dict[str, str]]) -> str:
    days = [
        checked.get(release, {}).get(str(statement.number), "–") if release in statement.releases else ""
        for release in BOTH
    ]
    text = statement.text + (f" **Not so:** {statement.correction}" if statement.correction else "")
    cells = (str(statement.number), text.replace("|", "\\|"), *days)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page())
