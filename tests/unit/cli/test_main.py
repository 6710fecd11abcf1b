"""The command's front: what it lists, what it loads, how it says no."""

import subprocess
import sys

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


def test_showing_help_loads_neither_kubernetes_nor_sql() -> None:
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom poolmgr.cli.main import app\n"
        "CliRunner().invoke(app, ['--help'])\n"
        "print([m for m in ('kubernetes', 'sqlmodel', 'fastapi', 'grpc') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
