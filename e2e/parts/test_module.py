"""Parts from Go modules: a program and what it prints, built once, anew when its source changes."""

from pathlib import Path

import pytest

from e2e.gomodule import GoModule
from e2e.parts import PartMissing
from e2e.parts.catalogue import Entry, ModuleProgram
from e2e.parts.module import ModuleSource
from e2e.parts.source import State
from e2e.toolchain import ToolchainMissing, go_command

PROGRAM = Entry(version="1", module=ModuleProgram(name="tool", program="tool"))
OUTPUT = Entry(version="1", module=ModuleProgram(name="tool", output_of="tool"))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GoModule:
    try:
        go_command()
    except ToolchainMissing as missing:
        pytest.skip(str(missing))
    monkeypatch.setenv("POOLMGR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "go.mod").write_text("module example.org/tool\n\ngo 1.24.0\n")
    (tmp_path / "go.sum").write_text("")
    write(tmp_path, 'os.Stdout.WriteString("hello")')
    return GoModule("tool", "a tool", "a moment", tmp_path, {"tool": "."}, {})


def write(folder: Path, statement: str) -> None:
    (folder / "main.go").write_text(f'package main\n\nimport "os"\n\nfunc main() {{ {statement} }}\n')


def test_what_a_program_prints_is_a_part_and_made_once(module: GoModule) -> None:
    source = ModuleSource({"tool": lambda: module})
    before = source.look("tool-1/text", OUTPUT)
    assert before is not None
    assert (before.state, "a moment" in before.sentence) == (State.OBTAINABLE, True)
    part = source.take("tool-1/text", OUTPUT)
    assert (part.path.name, part.path.read_text()) == ("text", "hello")
    after = source.look("tool-1/text", OUTPUT)
    assert after is not None
    assert after.state is State.HERE
    written = part.path.stat().st_mtime_ns
    assert source.take("tool-1/text", OUTPUT).path.stat().st_mtime_ns == written


def test_a_program_is_built_anew_when_its_source_has_changed(module: GoModule) -> None:
    source = ModuleSource({"tool": lambda: module})
    first = source.take("tool-1/tool", PROGRAM)
    write(module.folder, 'os.Stdout.WriteString("newer")')
    assert source.take("tool-1/tool", PROGRAM).path != first.path
    assert source.take("tool-1/text", OUTPUT).path.read_text() == "newer"


def test_a_build_or_a_program_that_fails_is_told(module: GoModule) -> None:
    source = ModuleSource({"tool": lambda: module})
    write(module.folder, "nonsense()")
    with pytest.raises(PartMissing, match=r"(?s)tool-1/tool cannot be built.*undefined: nonsense"):
        source.take("tool-1/tool", PROGRAM)
    write(module.folder, 'os.Stderr.WriteString("no luck"); os.Exit(3)')
    with pytest.raises(PartMissing, match="no luck"):
        source.take("tool-1/text", OUTPUT)
    assert not (module.build_folder() / "text").exists()
