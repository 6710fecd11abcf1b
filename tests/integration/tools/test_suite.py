"""The suite's runner with real processes: tiers that crash, print what is no text, or do not want to end."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.processes import wait_until
from tools.suite.__main__ import ROOT, Running, end, run
from tools.suite.outcome import Outcome
from tools.suite.tiers import Tier

pytestmark = pytest.mark.integration
GOOD = Tier("good", "", ("true",))


ENDLESS = """
import signal
from tools.suite.__main__ import main
from tools.suite.tiers import Tier
signal.signal(signal.SIGINT, signal.default_int_handler)
raise SystemExit(main(lambda _: {"endless": Tier("endless", "", ("sleep", "1000"))}))
"""
"""A suite whose one tier does not end by itself, however late the signal comes. It heeds SIGINT as in a terminal, though these
tests may run in a shell's background, where that is ignored."""


def shell(script: str, *, adds_options: bool = False) -> Tier:
    return Tier("tried", "", ("sh", "-c", script, "sh", "{junit}"), adds_options=adds_options)


def outcome(tier: Tier, folder: Path) -> Outcome:
    """What a tier comes to beside a good one, which has to be told whatever the other does."""
    found = {one.tier: one for one in run([tier, GOOD], 2, folder, fail_fast=False)}
    assert found.pop("good").ok
    (one,) = found.values()
    return one


def test_a_tier_that_is_killed_while_it_writes_its_report_is_told(tmp_path: Path) -> None:
    found = outcome(shell('echo "<testsuites><tes" >"$1"; kill -KILL $$'), tmp_path)
    assert (found.result, found.errors) == ("signal 9", 1)


def test_a_report_that_is_cut_off_is_no_pass(tmp_path: Path) -> None:
    found = outcome(shell('echo "<testsuites><tes" >"$1"'), tmp_path)
    assert (found.ok, found.errors) == (False, 1)


def test_a_program_that_is_missing_fails_its_tier_alone(tmp_path: Path) -> None:
    assert outcome(Tier("tried", "", ("/nowhere/ruff",)), tmp_path).failed == 1
    assert "/nowhere/ruff" in (tmp_path / "tried.log").read_text()


def test_a_log_that_is_no_text_does_not_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome(shell(r"printf '\033[2J\000\377\033[31mred\007\n'; exit 1"), tmp_path)
    said = capsys.readouterr().out
    assert "red" in said
    assert not set("\x1b\x00\x07") & set(said)


def test_what_a_tier_leaves_running_ends_with_it(tmp_path: Path) -> None:
    outcome(shell("sleep 1000 & echo $!"), tmp_path)
    left = int((tmp_path / "tried.log").read_text())
    wait_until("it has ended", lambda: not Path(f"/proc/{left}/exe").exists())


def test_a_report_in_a_folder_with_a_space_is_one_option(tmp_path: Path) -> None:
    folder = tmp_path / "my checkout"
    folder.mkdir()
    assert outcome(shell('printf %s "$PYTEST_ADDOPTS"', adds_options=True), folder).ok
    assert shlex.split((folder / "tried.log").read_text()) == [f"--junit-xml={folder / 'tried.xml'}"]


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_run_that_is_ended_leaves_nothing_running(number: signal.Signals, status: int) -> None:
    suite = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, "endless"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert suite.stdout is not None
    next(line for line in suite.stdout if "endless has begun" in line)
    (tier,) = Path(f"/proc/{suite.pid}/task/{suite.pid}/children").read_text().split()
    suite.send_signal(number)
    said = suite.stdout.read()
    assert suite.wait() == status
    assert "Traceback" not in said
    assert not Path("/proc", tier).exists()


def test_tiers_that_do_not_end_when_asked_are_ended(tmp_path: Path) -> None:
    one = Running(shell("trap '' TERM; echo ready; while :; do sleep 1000; done"), tmp_path)
    wait_until("the tier ignores SIGTERM", lambda: one.log_lines() == ["ready"])
    end([one], patience_seconds=0)
    assert one.process.wait() == -signal.SIGKILL


ON_HAMI = """
from tools.suite.__main__ import main
from tools.suite.tiers import Tier
raise SystemExit(main(lambda _: {"tried": Tier("tried", "", ("true",), on_hami=("2.10.0",))}))
"""


def on_hami(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A suite of one tier that says to run on HAMi."""
    ours = {"POOLMGR_HAMI": "", "POOLMGR_PARTS": "", "POOLMGR_CACHE": str(tmp_path / "cache")}
    return subprocess.run(
        [sys.executable, "-c", ON_HAMI, "tried"],
        cwd=ROOT,
        env=os.environ | ours | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_run_says_at_its_head_which_hami_it_is_on(tmp_path: Path) -> None:
    done = on_hami(tmp_path, POOLMGR_HAMI="stand-in")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "· runs on HAMi 2.10.0 (stand-in of this project; not HAMi)"


def test_a_parts_folder_that_is_wrong_ends_the_run_before_its_first_tier(tmp_path: Path) -> None:
    done = on_hami(tmp_path, POOLMGR_PARTS=str(tmp_path / "typo"))
    assert (done.returncode, "has begun" in done.stdout) == (1, False)
    assert "typo, which is no folder; correct or unset it" in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stderr
