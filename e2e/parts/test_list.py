"""The list itself, and what `python -m e2e.parts` prints of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.gomodule import pinned_version
from e2e.parts.builders import lists
from e2e.parts.catalogue import CatalogueError, load
from e2e.parts.module import KUBEVIRT, KUBEVIRT_FOLDER


def listing(cache: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    ours = {"POOLMGR_CACHE": str(cache), "POOLMGR_REGISTRY": "none", "POOLMGR_PARTS": ""} | environment
    return subprocess.run(
        [sys.executable, "-m", "e2e.parts", *arguments],
        env=os.environ | ours,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_part_is_listed_with_where_it_comes_from_or_why_not(tmp_path: Path) -> None:
    done = listing(tmp_path)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if "/" in line}
    assert lines.keys() >= load().parts.keys()
    assert "missing [1]" in lines["hami-2.10.0/scheduler"]
    assert "[1] folder: POOLMGR_PARTS is not set\n" in done.stdout
    assert "docker.io/projecthami/hami:v2.10.0: fetching is switched off" in done.stdout
    assert "is built from the Go module of KubeVirt v1.8.4" in lines["kubevirt-1.8.4/virt-controller"]
    assert not any((tmp_path / folder).exists() for folder in ("kubevirt", "parts")), "it only looks"


def test_a_folder_that_is_wrong_is_shown_and_fails(tmp_path: Path) -> None:
    done = listing(tmp_path, POOLMGR_PARTS=str(tmp_path / "typo"))
    assert done.returncode == 1
    assert "refused: POOLMGR_PARTS is " in done.stdout


def test_a_part_that_is_refused_when_it_is_fetched_is_shown_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "hami-2.10.0").mkdir()
    (tmp_path / "hami-2.10.0/scheduler").touch()
    done = listing(tmp_path, "--fetch", "hami-2.10.0/scheduler", POOLMGR_PARTS=str(tmp_path))
    assert done.returncode == 1
    assert "refused: " in done.stdout
    assert "SHA256SUMS has no line for" in done.stdout


def test_a_cache_that_cannot_be_made_ends_the_list_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = listing(tmp_path / "file")
    assert (done.returncode, done.stdout) == (1, "")
    assert "set POOLMGR_CACHE to a folder that you may write" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_part_that_cannot_be_fetched_fails_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    assert listing(tmp_path, "--fetch", "hami-2.10.0/scheduler").returncode == 1
    assert "no such part: hami" in listing(tmp_path, "hami").stderr


def test_a_part_that_cannot_be_built_is_shown_with_the_reason(tmp_path: Path) -> None:
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(
        '#!/bin/sh\n[ "$1" = version ] && echo go version go1.26.6 && exit\necho no space left >&2\nexit 1\n'
    )
    go.chmod(0o755)
    path = f"{go.parent}:{os.environ['PATH']}"
    done = listing(tmp_path / "cache", "--fetch", "kubevirt-1.8.4/virt-controller", PATH=path)
    assert done.returncode == 1
    assert "is built from" not in done.stdout
    assert "no space left" in done.stdout


def test_the_kubevirt_that_is_built_is_the_one_that_is_listed() -> None:
    for name, entry in load().parts.items():
        if entry.module is not None:
            assert (f"v{entry.version}", f"kubevirt-{entry.version}") == (
                pinned_version(KUBEVIRT_FOLDER, KUBEVIRT),
                name.partition("/")[0],
            )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('version = "1"', "needs a source, or `missing`"),
        ('version = "1"\nimage = { name = "other", path = "x" }', "names image 'other'"),
        ('version = "1"\nmissing = "so"\nfoldr = "x"', "unknown field `foldr`"),
        ('version = "1"\nmodule = { name = "kubevirt" }', "needs either program or output_of"),
    ],
)
def test_a_mistake_in_the_list_is_named(tmp_path: Path, wrong: str, said: str) -> None:
    with pytest.raises(CatalogueError, match=said):
        lists(tmp_path, f'[parts."tool-1/tool"]\n{wrong}\n')


def test_a_part_that_is_not_listed_is_no_part(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="tool-2/tool"):
        lists(tmp_path, "[parts]\n").obtain("tool-2/tool")
