"""Writes the reference pages that are made from code, or checks that they are up to date.

python tools/reference.py            # write docs/reference/{reasons,manager-settings,objects,chart-values}.md, openapi.json, and
                                     # the chart's README
python tools/reference.py --check    # exit 1 naming the pages that differ
"""

import json
import re
import sys
from pathlib import Path

from chart_pages import chart_readme, objects_page, values_page
from pydantic import BaseModel, SecretStr

from poolmgr.api.app import create_app
from poolmgr.cli.settings import ManagerSettings, variable
from poolmgr.domain import reasons
from poolmgr.domain.reasons import Reason
from poolmgr.kit.clock import SystemClock

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "reference"


def reason_page() -> str:
    """Every reason code with its meaning, in the groups of `poolmgr/domain/reasons.py`."""
    lines = [
        "# Reason codes",
        "",
        "Every decision, step and refusal carries one of these codes and a sentence: in the log, in Kubernetes",
        "Events, in the API, in metrics and on the dashboard. A code is never reused; one that is renamed is read",
        "under its old name for one more release.",
        "",
        "<!-- Made from poolmgr/domain/reasons.py by `make docs`. -->",
    ]
    for line in Path(reasons.__file__).read_text().splitlines():
        if group := re.fullmatch(r"    # (.+)", line):
            lines += ["", f"## {group[1]}", "", "| code | used when |", "|---|---|"]
        elif member := re.fullmatch(r'    ([A-Z_]+) = "(\w+)"  # (.+)', line):
            lines.append(f"| `{member[2]}` | {member[3]} |")
    lines += ["", "## Renamed", "", "| until the next release | now |", "|---|---|"]
    lines += [f"| `{old}` | `{new}` |" for old, new in reasons.ALIASES.items()]
    return "\n".join(lines) + "\n"


def openapi() -> str:
    """The REST API's OpenAPI document."""
    # The document depends on routes and schemas only; nothing is ever asked of these partners.
    nobody = None
    app = create_app(control=nobody, history=nobody, audit=nobody, access=nobody, clock=SystemClock())  # type: ignore[arg-type]
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


def settings_page() -> str:
    """Every setting of the manager with its default and meaning."""
    lines = [
        "# Settings of the manager",
        "",
        "`poolmgr manager` reads them from the environment at its start; the chart's `manager.settings` puts them",
        "there. A contradiction is refused at the start, an unknown variable is logged with the likely right one.",
        "",
        "<!-- Made from poolmgr/cli/settings.py by `make docs`. -->",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in ManagerSettings.model_fields.items():
        group = field.default
        fields = type(group).model_fields if isinstance(group, BaseModel) else None
        rows = [((name, inner), f) for inner, f in fields.items()] if fields else [((name,), field)]
        lines += [
            f"| `{variable(path)}` | {_default(f.default)} | {_one_line(f.description)} |" for path, f in rows
        ]
    return "\n".join(lines) + "\n"


def _default(value: object) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return f"`{value}`" if value not in (None, "") else "–"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


PAGES = {
    "reasons.md": reason_page,
    "openapi.json": openapi,
    "manager-settings.md": settings_page,
    "objects.md": objects_page,
    "chart-values.md": values_page,
    "../../helm/poolmgr/README.md": chart_readme,
}
"""By their place in docs/reference."""


def main() -> int:
    assert all(f"`{reason.value}`" in reason_page() for reason in Reason), "a reason is missing from its page"
    stale = [
        name
        for name, make in PAGES.items()
        if not (FOLDER / name).exists() or (FOLDER / name).read_text() != make()
    ]
    if "--check" in sys.argv:
        if stale:
            sys.stderr.write(f"out of date in docs/reference: {', '.join(stale)}; run: make docs\n")
        return bool(stale)
    for name in stale:
        (FOLDER / name).write_text(PAGES[name]())
        sys.stdout.write(f"wrote {(FOLDER / name).resolve().relative_to(ROOT.resolve())}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
