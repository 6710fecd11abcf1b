"""Runs a group of tiers side by side: `python -m tools.suite test` is `make test`.

Each tier writes into its own log; this prints one line when it starts and ends, the end of the log of one that
fails, and at the end where the time went, what was skipped and why, and pytest's closing line over all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from e2e.hami.edition import choose
from e2e.parts import PartRefused
from tools.suite.outcome import Outcome, closing_line, read_report, summary
from tools.suite.schedule import next_tiers
from tools.suite.tiers import GROUPS, Tier, tiers

ROOT = Path(__file__).resolve().parents[2]
TAIL_LINES = 60
STILL_SECONDS = 60
"""How often a run that has nothing new says what it waits for."""
EPILOG = "\n".join(
    [
        "examples:",
        "  python -m tools.suite test            as `make test`, which installs system packages first",
        "  python -m tools.suite test -x         end at the first tier that fails",
        "  python -m tools.suite unit            one tier",
        "  python -m tools.suite test --lanes 1  one after another, on a machine with little memory",
        "",
        "groups:",
        *(f"  {name:<10} {', '.join(of)}" for name, of in GROUPS.items()),
        "",
        "tiers:",
        *(f"  {tier.name:<10} {tier.proves}" for tier in tiers(1).values()),
    ]
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def environment() -> dict[str, str]:
    """Compiled Python goes into build/, also where this machine writes none beside the sources: without, every test
    process compiles and rewrites a quarter of a million lines anew, 15 s each."""
    found = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**found, "PYTHONPYCACHEPREFIX": str(ROOT / "build/pycache")}


class Running:
    """One tier's process."""

    def __init__(self, tier: Tier, folder: Path) -> None:
        self.tier, self.log, self.report = tier, folder / f"{tier.name}.log", folder / f"{tier.name}.xml"
        self.started = time.monotonic()
        variables = environment()
        if tier.adds_options:
            variables["PYTEST_ADDOPTS"] = shlex.quote(f"--junit-xml={self.report}")
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                # By a shell, which says in the log of a program that it is missing.
                [
                    *("sh", "-c", 'exec "$@"', "sh"),
                    *(word.replace("{junit}", str(self.report)) for word in tier.command),
                ],
                cwd=ROOT,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def outcome(self) -> Outcome | None:
        """What it came to, once it is over; what it has left running ends."""
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if not pid:
            return None
        self.send(signal.SIGKILL)
        code = self.process.returncode = os.waitstatus_to_exitcode(status)
        spent = usage.ru_utime + usage.ru_stime
        found = Outcome(self.tier.name, code, time.monotonic() - self.started, spent)
        read_report(found, self.report)
        if self.tier.optional and not found.ok:
            found.status = found.failed = found.errors = 0
            found.skipped[f"`{' '.join(self.tier.command[1:])}` failed, see {self.log}"] += 1
        return found

    def last_words(self) -> str:
        return next((line[:110] for line in reversed(self.log_lines()) if line.strip()), "…")

    def log_lines(self) -> list[str]:
        """Its log for a terminal: without colours and what else steers one."""
        return [
            "".join(sign if sign.isprintable() else " " for sign in _COLOUR.sub("", line))
            for line in self.log.read_text(errors="replace").splitlines()
        ]

    def send(self, number: signal.Signals) -> None:
        """To the tier and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def end(running: list[Running], patience_seconds: float = 60) -> None:
    """Asks them all to end, so that they put away what they have started, and ends what has not by then, or at the
    next Ctrl-C."""
    for one in running:
        one.send(signal.SIGTERM)
    deadline = time.monotonic() + patience_seconds
    try:
        for one in running:
            one.process.wait(timeout=max(0.0, deadline - time.monotonic()))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        pass
    finally:
        for one in running:
            one.send(signal.SIGKILL)


def say(line: str) -> None:
    print(line, flush=True)


def head(selected: list[Tier]) -> list[str]:
    """Which HAMi these tiers will run on, a line for each release; fetched now if need be. Raises PartRefused."""
    releases = sorted({release for tier in selected for release in tier.on_hami})
    return [f"· runs on {choose(release).describe()}" for release in releases]


def run(selected: list[Tier], lanes: int, folder: Path, *, fail_fast: bool) -> list[Outcome]:
    """Runs them all; with `fail_fast` ends at the first that fails. Whatever happens, none is left running."""
    begun = said = time.monotonic()
    waiting, running, outcomes = list(selected), list[Running](), list[Outcome]()
    names = [tier.name for tier in selected]
    try:
        while waiting or running:
            over = [o.tier for o in outcomes]
            for tier in next_tiers(waiting, [r.tier.name for r in running], over, names, lanes):
                waiting.remove(tier)
                running.append(Running(tier, folder))
                say(f"{time.monotonic() - begun:6.0f} s  {tier.name} has begun: {tier.proves}")
            for one in list(running):
                if (found := one.outcome()) is None:
                    continue
                running.remove(one)
                outcomes.append(found)
                said = time.monotonic()
                say(f"{said - begun:6.0f} s  {found.tier} {found.result}: {one.last_words()}")
                if not found.ok:
                    say("\n".join([f"---- the end of {one.log}", *one.log_lines()[-TAIL_LINES:], "----"]))
                    if fail_fast:
                        return outcomes
            if time.monotonic() - said > STILL_SECONDS:
                said = time.monotonic()
                for one in running:
                    say(f"{said - begun:6.0f} s  {one.tier.name}: {one.last_words()}")
            time.sleep(0.2)
    finally:
        end(running)
    return outcomes


def main(tiers: Callable[[int], dict[str, Tier]] = tiers) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.suite",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    choices = list(dict.fromkeys([*GROUPS, *tiers(1)]))
    parser.add_argument("group", metavar="GROUP|TIER", choices=choices, help="as below")
    parser.add_argument("-x", "--fail-fast", action="store_true", help="end at the first tier that fails")
    parser.add_argument("--lanes", type=int, default=os.cpu_count() or 1, help="tiers side by side (cores)")
    given = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))
    names = GROUPS.get(given.group, (given.group,))
    # Beside other tiers the unit tests are one process; alone they take every core.
    known = tiers(1 if given.group == "test" else given.lanes)
    selected = [known[name] for name in names]
    folder = ROOT / "build" / "suite" / time.strftime(f"%Y%m%dT%H%M%S-{os.getpid()}")
    folder.mkdir(parents=True)
    say(f"· {given.group}: {', '.join(names)}; logs in {folder.relative_to(ROOT)}")
    begun = time.monotonic()
    try:
        for line in head(selected):
            say(line)
        outcomes = run(selected, given.lanes, folder, fail_fast=given.fail_fast)
    except KeyboardInterrupt:
        say(f"interrupted; logs in {folder.relative_to(ROOT)}")
        return 130
    except PartRefused as reason:  # at the head: what wants the part would fail, some of it in half an hour
        say(f"not begun: {reason}")
        return 1
    seconds = time.monotonic() - begun
    say("\n".join(summary(outcomes, {name: tier.proves for name, tier in known.items()})))
    say(closing_line(outcomes, seconds))
    return 0 if all(o.ok for o in outcomes) and len(outcomes) == len(names) else 1


if __name__ == "__main__":
    raise SystemExit(main())
