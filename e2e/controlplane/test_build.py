"""The builder: the machine's own binaries win where they fit, and what was built is not built again."""

import subprocess
import sys
from pathlib import Path

import pytest

from e2e.controlplane import build
from e2e.gomodule import BuildFailed
from e2e.toolchain import ToolchainMissing, go_command


def _program(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_kubebuilder_assets_win_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = _program(tmp_path / "assets", "etcd", "etcd Version: 3.5.0")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(own.parent))
    found = build.provided("etcd")
    assert found == build.Program("etcd", own, "KUBEBUILDER_ASSETS")


@pytest.mark.parametrize(("says", "taken"), [("Kubernetes v1.36.9", True), ("Kubernetes v1.31.0", False)])
def test_path_wins_when_its_release_line_fits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    says: str,
    taken: bool,
) -> None:
    """What is passed over is said, and not on stdout, where `bench live --json` writes its object."""
    _program(tmp_path / "bin", "kubelet", says)
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert (build.provided("kubelet") is not None) == taken
    said = capsys.readouterr()
    assert ("is passed over" in said.err) != taken
    assert said.out == ""


def test_a_failing_build_shows_the_compilers_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLMGR_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "PROGRAMS", {"nothing": ("k8s.io/kubernetes/cmd/nothing", "v1")})
    try:
        go_command()
    except ToolchainMissing as missing:
        pytest.skip(str(missing))
    with pytest.raises(BuildFailed, match="cmd/nothing"):
        build.ensure_programs(("nothing",))
    assert not (build.module().build_folder() / "nothing").exists()


@pytest.mark.integration
def test_a_second_build_builds_nothing(control_plane: object) -> None:
    folder = build.module().build_folder()
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    done = subprocess.run(
        [sys.executable, "-m", "e2e.controlplane.build"], capture_output=True, text=True, check=True
    )
    assert "building" not in done.stderr
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
