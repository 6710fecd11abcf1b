"""What a tier came to: counts, skips with their reasons, slow tests, read from pytest's JUnit report."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Outcome:
    """Of one tier. `seconds` is real time, `cpu_seconds` that of all its processes that were waited for."""

    tier: str
    status: int
    seconds: float
    cpu_seconds: float
    passed: int = 0
    failed: int = 0
    errors: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    slow: list[tuple[float, str]] = field(default_factory=list)
    parts: list[tuple[str, str]] = field(default_factory=list)
    """(kind, what) as tests recorded it: kind is `real`, `stand-in` or `hami`, the HAMi that the tier was on."""

    @property
    def ok(self) -> bool:
        return self.status == 0

    @property
    def result(self) -> str:
        """`skipped` where nothing was proven, so that it is not taken for a pass."""
        if self.status < 0:
            return f"signal {-self.status}"
        if not self.ok:
            return "FAILED"
        return "skipped" if self.skipped and not self.passed else "passed"


def read_report(outcome: Outcome, report: Path) -> None:
    """Fill `outcome` from pytest's report. Without one the command itself is the one test."""
    if not report.is_file():
        outcome.passed, outcome.failed = (1, 0) if outcome.ok else (0, 1)
        return
    try:
        root = ET.parse(report).getroot()
    except ET.ParseError:  # it was ended while it wrote
        outcome.status = outcome.status or 1
        outcome.errors = 1
        return
    for prop in root.iter("property"):
        if (kind := prop.get("name", "")) in ("real", "stand-in", "hami"):
            outcome.parts.append((kind, prop.get("value", "")))
    for case in root.iter("testcase"):
        name = f"{case.get('classname', '').replace('.', '/')}::{case.get('name', '')}"
        outcome.slow.append((float(case.get("time", 0)), name))
        if case.find("failure") is not None:
            outcome.failed += 1
        elif case.find("error") is not None:
            outcome.errors += 1
        elif (skip := case.find("skipped")) is not None:
            outcome.skipped[grouped(skip.get("message", "") or "no reason given")] += 1
        else:
            outcome.passed += 1
    if not outcome.ok and not outcome.failed + outcome.errors:
        outcome.errors = 1  # it broke outside any test


def grouped(reason: str) -> str:
    """One line, without what differs from run to run."""
    return re.sub(r"\s+", " ", reason).strip()[:200]


def closing_line(outcomes: list[Outcome], seconds: float) -> str:
    """Counts of all tiers as pytest writes its own, and which HAMi they were on."""
    counts = {
        "failed": sum(o.failed for o in outcomes),
        "passed": sum(o.passed for o in outcomes),
        "skipped": sum(sum(o.skipped.values()) for o in outcomes),
        "errors": sum(o.errors for o in outcomes),
    }
    counted = ", ".join(f"{n} {word}" for word, n in counts.items() if n or word == "passed")
    minutes, rest = divmod(round(seconds), 60)
    hami = ", ".join(sorted({what for o in outcomes for kind, what in o.parts if kind == "hami"}))
    return f"==== {counted} in {seconds:.2f}s ({minutes}:{rest:02}){hami and f', on {hami}'} ===="


def summary(outcomes: list[Outcome], proves: dict[str, str], slowest: int = 15) -> list[str]:
    """Where the time went, what was skipped and why, what was real: the lines before the closing one."""
    lines = ["", "tier        result    wall s   CPU s   tests  proves"]
    for o in outcomes:
        tests = o.passed + o.failed + o.errors + sum(o.skipped.values())
        lines.append(
            f"{o.tier:<11} {o.result:<8} {o.seconds:7.0f} {o.cpu_seconds:7.0f} {tests:7}"
            f"  {proves.get(o.tier, '')}"
        )
    slow = sorted(((s, o.tier, name) for o in outcomes for s, name in o.slow), reverse=True)[:slowest]
    if slow:
        lines += ["", "slowest tests (seconds)"]
        lines += [f"{s:8.1f}  {tier:<9} {name}" for s, tier, name in slow]
    skips: Counter[tuple[str, str]] = Counter()
    for o in outcomes:
        for reason, n in o.skipped.items():
            skips[o.tier, reason] += n
    lines += ["", "skipped, and why" if skips else "nothing was skipped"]
    lines += [f"{n:5}  {tier:<9} {reason}" for (tier, reason), n in sorted(skips.items())]
    for kind, head in (("real", "proven on real parts"), ("stand-in", "proven on stand-ins")):
        what = dict.fromkeys(value for o in outcomes for k, value in o.parts if k == kind)
        if what:
            lines += ["", f"{head}: {'; '.join(what)}"]
    return lines
