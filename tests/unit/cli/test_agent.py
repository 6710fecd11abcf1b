"""`poolmgr agent` as an operator meets it."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from e2e.node.shape import Shape
from poolmgr.cli.main import app
from tests.recorded_node import RecordedNode

A, B = "0000:3b:00.0", "0000:86:00.0"


def call(*arguments: str, tmp_path: Path) -> tuple[int, str]:
    folders = ["--state-dir", str(tmp_path), "--kubelet-dir", str(tmp_path)]
    result = CliRunner().invoke(app, ["agent", *arguments, *folders], env={"COLUMNS": "160"})
    return result.exit_code, result.output


@pytest.mark.parametrize("command", ["run", "show", "preflight", "plan", "record", "rebind"])
def test_help_of_each_command_shows_how_it_is_called(command: str) -> None:
    output = CliRunner().invoke(app, ["agent", command, "--help"], env={"COLUMNS": "160"}).output
    assert f"poolmgr agent {command} " in output or f"poolmgr agent {command}\n" in output


@pytest.mark.parametrize(
    ("user", "said_before"), [(0, ""), (1000, "not root: holders that belong to other users are not shown\n")]
)
def test_a_node_without_gpus_is_told_what_was_looked_for(
    user: int, said_before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    code, output = call("show", "--accelerators", "emulated", tmp_path=tmp_path)
    assert (code, output) == (
        0,
        f"{said_before}no GPU of the accelerators 'emulated' on this node (all: emulated, nvidia)\n",
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the command does")
def test_an_unknown_address_is_refused_in_a_sentence(tmp_path: Path) -> None:
    code, output = call("preflight", "99:00.0", "--accelerators", "emulated", tmp_path=tmp_path)
    assert code == 1
    assert "0000:99:00.0 is not a GPU of this node; it has: none; see --accelerators" in output


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


def test_a_recorded_node_is_judged_anywhere(tmp_path: Path) -> None:
    node = RecordedNode(tmp_path / "node", Shape(gpus=(A, B)))
    node.hold("/dev/nvidia1", "python3")
    file = tmp_path / "gpu-7.json"
    file.write_bytes(asyncio.run(node.record()))

    def judged(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["agent", *arguments, "--from", str(file)], env={"COLUMNS": "160"})
        return result.exit_code, result.output

    code, shown = judged("show")
    assert code == 0
    assert [line.split()[0] for line in shown.splitlines()[1:]] == [A, B]
    assert json.loads(judged("show", "--json")[1])[0]["rebind"]["possible"] is True
    assert judged("preflight", "3b:00.0")[0] == 0
    code, said = judged("preflight", "86:00.0")
    assert code == 1
    assert f"NO  holders     {B} is held by python3" in said
    code, said = judged("plan")
    assert code == 0
    assert f"{A} NVIDIA A100-SXM4-80GB (nvidia) to Passthrough:" in said
    assert f"  unbind {A} from nvidia" in said
    assert f"  Wait  HolderPresent  {B} is held by python3" in said
    assert f"{A} " not in judged("plan", "86:00.0")[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as the command does")
def test_this_machine_is_recorded_and_judged_from_its_recording(tmp_path: Path) -> None:
    file = tmp_path / "this.json"
    arguments = ["agent", "record", str(file), "--any-pid-namespace", "--kubelet-dir", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert "It is text: read it before you send it" in result.output
    assert CliRunner().invoke(app, ["agent", "show", "--from", str(file)]).exit_code == 0


def test_without_root_nothing_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, output = call("record", str(tmp_path / "file"), tmp_path=tmp_path)
    assert code == 1
    assert "this needs root" in output
    assert not (tmp_path / "file").exists()


def test_a_file_that_is_no_recording_is_refused_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("{}")
    code, output = call("show", "--from", str(file), tmp_path=tmp_path)
    assert code == 1
    assert "cannot be read as the recording of a node: it does not say that it is one" in output
