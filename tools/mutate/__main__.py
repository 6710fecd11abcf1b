"""`python -m tools.mutate [TARGET | MODULE.py | witnesses]…`: run mutants and list those that no test notices; `witnesses`
plants the mistakes of `planted.py`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.mutate import planted
from tools.mutate.explained import explained
from tools.mutate.runner import QUIET, Runner
from tools.mutate.targets import ROOT, TARGETS

WITNESSES = "witnesses"
OUT = ROOT / "build" / "mutate"


def main(names: list[str]) -> int:
    chosen = []
    missed = 0
    for name in names or [*TARGETS, WITNESSES]:
        if name == WITNESSES:
            missed += planted.main()
            continue
        if name in TARGETS:
            chosen += [(file, TARGETS[name].tests) for file in TARGETS[name].files()]
            continue
        file = (ROOT / name).resolve()
        tests = [t.tests for t in TARGETS.values() if file in t.files()]
        if not tests:
            print(
                f"{name} is neither a target nor a module of one; targets: {', '.join(TARGETS)}, {WITNESSES}"
            )
            return 2
        chosen.append((file, tests[0]))
    known = explained()
    unexplained = 0
    for file, tests in chosen:
        # A process for each module: nothing that one leaves behind is in another's way.
        command = [sys.executable, "-c", "from tools.mutate.__main__ import one; one()", str(file), *tests]
        if (code := subprocess.run(command, cwd=ROOT, check=False).returncode) != 0:
            print(f"{file.relative_to(ROOT)}: the tests did not pass without a mutant (pytest {code})")
            return 1
        unexplained += _tell(file, known)
    return 1 if unexplained or missed else 0


def one() -> None:
    """In a process of its own: the mutants of the module that the command line names."""
    file = Path(sys.argv[1])
    OUT.mkdir(parents=True, exist_ok=True)
    code = pytest.main(["-q", *QUIET, *sys.argv[2:]], plugins=[Runner(file, _results(file))])
    sys.stdout.flush()
    os._exit(int(code))


def _results(file: Path) -> Path:
    return OUT / (str(file.relative_to(ROOT)).replace("/", ".") + "l").replace(".pyl", ".jsonl")


def _tell(file: Path, known: dict[tuple[str, str, str], str]) -> int:
    """Prints what came of one module. How many survivors nobody has explained."""
    rows = [json.loads(line) for line in _results(file).read_text().splitlines()]
    survivors = [r for r in rows if r["outcome"].startswith("survived")]
    name = str(file.relative_to(ROOT))
    share = 100 * len(survivors) / len(rows) if rows else 0.0
    print(f"{name}: {len(rows)} mutants, {len(survivors)} survive ({share:.1f} %)")
    new = 0
    for row in survivors:
        why = known.get((name, row["function"], row["change"]))
        new += why is None
        print(f"  {row['line']}: {row['function']}: {row['change']}" + (f"\n      {why}" if why else "  NEW"))
    return new


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
