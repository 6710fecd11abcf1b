"""`poolmgr agent` as an operator meets it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from poolmgr.cli.main import app


def call(*arguments: str, tmp_path: Path) -> tuple[int, str]:
    folders = ["--state-dir", str(tmp_path), "--kubelet-dir", str(tmp_path)]
    result = CliRunner().invoke(app, ["agent", *arguments, *folders], env={"COLUMNS": "160"})
    return result.exit_code, result.output


@pytest.mark.parametrize("command", ["run", "show", "preflight", "rebind"])
def test_help_of_each_command_shows_how_it_is_called(command: str) -> None:
    output = CliRunner().invoke(app, ["agent", command, "--help"], env={"COLUMNS": "160"}).output
    assert f"poolmgr agent {command} " in output or f"poolmgr agent {command}\n" in output


def test_a_node_without_gpus_is_told_what_was_looked_for(tmp_path: Path) -> None:
    code, output = call("show", "--accelerators", "emulated", tmp_path=tmp_path)
    assert (code, output) == (
        0,
        "no GPU of the accelerators 'emulated' on this node (all: emulated, nvidia)\n",
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the command does")
def test_an_unknown_address_is_refused_in_a_sentence(tmp_path: Path) -> None:
    code, output = call("preflight", "99:00.0", "--accelerators", "emulated", tmp_path=tmp_path)
    assert code == 1
    assert "0000:99:00.0 is no GPU of this node (there are: none; see --accelerators)" in output


def test_without_root_nothing_is_said_about_holders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, output = call("rebind", "3b:00.0", "--to", "shared", tmp_path=tmp_path)
    assert code == 1
    assert "this needs root" in output


def test_there_is_no_force(tmp_path: Path) -> None:
    code, output = call("rebind", "99:00.0", "--to", "shared", "--force", tmp_path=tmp_path)
    assert code == 2
    assert "--force" in output


def test_the_agent_loads_no_kubernetes_client() -> None:
    script = (
        "import sys\nimport poolmgr.cli.agent, poolmgr.agent.run\n"
        "print([m for m in ('kubernetes', 'sqlmodel', 'fastapi', 'numpy') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
