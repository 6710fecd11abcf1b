"""The door to the node's files answers as the kernel does, and nothing else of the agent goes past it."""

import ast
from pathlib import Path

import pytest

from poolmgr.agent.files import KERNEL_FILES

AGENT = Path(__file__).parents[3] / "poolmgr/agent"
LOOKING = ("accelerators", "decisions", "evidence", "holders", "inventory", "observe", "preflight", "sysfs")
"""Modules that judge a node by its files: all that they read has to be in a recording."""
PAST_THE_DOOR = {
    "read_text",
    "read_bytes",
    "iterdir",
    "readlink",
    "exists",
    "is_dir",
    "is_file",
    "glob",
    "stat",
}


def test_answers_are_the_kernels(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("0x10de\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    assert KERNEL_FILES.read(f"{tmp_path}/text") == b"0x10de\n"
    assert KERNEL_FILES.read(f"{tmp_path}/text", 2) == b"0x"
    assert sorted(KERNEL_FILES.entries(f"{tmp_path}")) == ["folder", "link", "text"]
    assert KERNEL_FILES.folders(f"{tmp_path}") == ["folder"]
    assert KERNEL_FILES.target(f"{tmp_path}/link") == "folder"
    assert KERNEL_FILES.number("/dev/null") == (1, 3)
    assert KERNEL_FILES.number(f"{tmp_path}/text") is None


def test_what_is_not_there_and_what_is_no_link_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        KERNEL_FILES.read(f"{tmp_path}/absent")
    with pytest.raises(NotADirectoryError):
        KERNEL_FILES.entries("/dev/null")
    with pytest.raises(OSError, match="Invalid argument"):
        KERNEL_FILES.target(f"{tmp_path}")


@pytest.mark.parametrize("module", LOOKING)
def test_no_module_that_judges_a_node_reads_it_past_the_door(module: str) -> None:
    """A data file of ours is no part of the node; `/proc/self/ns/pid` is of this process."""
    allowed = {"accelerators": {"read_text", "iterdir"}, "holders": {"readlink"}}.get(module, set())
    tree = ast.parse((AGENT / f"{module}.py").read_text())
    called = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and not (isinstance(node.func.value, ast.Attribute) and node.func.value.attr in ("files", "_sysfs"))
        and not (isinstance(node.func.value, ast.Name) and node.func.value.id == "sysfs")
    }
    opened = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert not (called & PAST_THE_DOOR) - allowed
    assert "open" not in opened
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert "os" not in imported or module == "holders", "os.fsencode and the user's id alone"
