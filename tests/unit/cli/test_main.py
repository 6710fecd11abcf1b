"""The command's front: what it lists, what it loads, how it says no."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from poolmgr.cli.main import COMMANDS, app


def test_help_lists_commands_with_their_line() -> None:
    output = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "160"}).output
    assert "GPU pool manager" in output
    for name, line in COMMANDS.items():
        assert (f"│ {name} " in output) == (line in output)


def test_unknown_command_is_refused_with_its_name() -> None:
    result = CliRunner().invoke(app, ["managr"])
    assert result.exit_code == 2
    assert "managr" in result.output


@pytest.mark.parametrize(
    "command",
    [("bench", "plan"), ("bench", "live"), ("bench", "hook"), ("bench", "webhook"), ("simulate", "--list")],
)
def test_a_command_of_the_checkout_says_so_where_only_the_package_is_installed(
    command: tuple[str, ...],
) -> None:
    script = "import sys\nsys.modules['bench'] = None\nfrom poolmgr.cli.main import app\napp()"
    run = subprocess.run(
        [sys.executable, "-c", script, *command], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert f"`poolmgr {command[0]}` needs a checkout of poolmgr" in run.stderr
    assert "pip install -e '.[bench]'" in run.stderr


def test_a_broken_installation_is_not_taken_for_a_missing_checkout() -> None:
    script = "import sys\nsys.modules['yaml'] = None\nfrom poolmgr.cli.main import app\napp()"
    run = subprocess.run(
        [sys.executable, "-c", script, "webhook", "run"], capture_output=True, text=True, check=False
    )
    assert "checkout" not in run.stderr


def test_showing_help_loads_neither_kubernetes_nor_sql() -> None:
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom poolmgr.cli.main import app\n"
        "CliRunner().invoke(app, ['--help'])\n"
        "print([m for m in ('kubernetes', 'sqlmodel', 'fastapi', 'grpc') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("re", ["rebalance", "retry", "resume"]), ("get po", ["pools"]), ("explain ", ["gpu", "vm", "pod"])],
)
def test_a_shell_completes_commands_and_nouns(typed: str, offered: list[str]) -> None:
    words = f"poolmgr {typed}"
    asked = {"_POOLMGR_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    command = [sys.executable, "-c", "from poolmgr.cli.main import app\napp(prog_name='poolmgr')"]
    done = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True, check=False)
    assert done.stdout.split() == offered


@pytest.mark.parametrize("group", ["agent", "agent hook", "gpu", "webhook", "explain"])
def test_a_group_without_a_word_prints_its_help(group: str) -> None:
    result = CliRunner().invoke(app, group.split())
    assert result.exit_code == 2
    assert f"{group} [OPTIONS] COMMAND" in result.stdout
