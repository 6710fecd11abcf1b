"""What `poolmgr gpu` tells people: limits in force or not, whom a name belongs to, what is no size."""

import dataclasses
from pathlib import Path

import pytest
import typer

from poolmgr.cli.gpu import find_library, join_or_begin, parse_size, read_regions, usage_table
from poolmgr.cli.gpu_selftest import Finding, sentence_of
from poolmgr.hookregion.layout import DeviceShare, ProcessUse, Region
from tests.builders import library

MIB = 1 << 20
REGION = Region(
    (DeviceShare(0, "GPU-a", 3072 * MIB, 30),), (ProcessUse(2, 4711, (700 * MIB,), (29,)),), False
)
IN_FORCE = Finding(True, total=3072 * MIB, refused=True, region=REGION)


def test_limits_in_force_are_said_with_their_amounts() -> None:
    assert sentence_of(IN_FORCE) == (
        True,
        "Limits are in force: programs see a GPU of 3072 MiB, and asking for more was refused; "
        "they may use 30 % of its time.",
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Finding(False), "no libvgpu.so is loaded"),
        (Finding(True, "libcuda.so.1: cannot open shared object file"), "This cannot test the limits"),
        (dataclasses.replace(IN_FORCE, region=None), "has opened no shared region"),
        (
            dataclasses.replace(IN_FORCE, region=Region((DeviceShare(0, "GPU-a", 0, 0),), (), False)),
            "no limit is set",
        ),
        (dataclasses.replace(IN_FORCE, total=24576 * MIB), "programs see 24576 MiB"),
        (dataclasses.replace(IN_FORCE, refused=False), "may have more"),
    ],
)
def test_limits_not_in_force_say_what_to_look_at(found: Finding, words: str) -> None:
    in_force, sentence = sentence_of(found)
    assert not in_force and words in sentence


@pytest.mark.parametrize(
    ("text", "size"), [("3Gi", 3 << 30), ("3000m", 3000 << 20), ("512MiB", 512 << 20), ("2G", 2 << 30)]
)
def test_sizes_are_read_as_the_hook_reads_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["3.5Gi", "0", "12", "Gi", "3Xi", "-1G"])
def test_what_is_no_size_is_refused_with_an_example(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        parse_size(text)
    assert "3Gi" in capsys.readouterr().err


def test_a_file_that_is_no_region_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "x.cache"
    folder.mkdir()
    with pytest.raises(typer.Exit):
        join_or_begin(folder, "x", 1 << 30, None)
    assert "remove it or choose another --name" in capsys.readouterr().err


def test_top_says_which_file_cannot_be_read(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.cache"
    wrong.write_bytes(b"short")
    regions = read_regions([wrong, tmp_path / "none.cache"])
    assert "is not a region of the hook" in str(regions["wrong"])
    assert "cannot be read: No such file" in str(regions["none"])


def test_top_shows_the_living_only() -> None:
    assert usage_table({"a": (REGION, frozenset({2}))}).row_count == 1
    assert usage_table({"a": (REGION, frozenset())}).row_count == 0


def placed(tmp_path: Path, folder: str, content: bytes) -> Path:
    place = tmp_path / folder / "libvgpu.so"
    place.parent.mkdir()
    place.write_bytes(content)
    return place


def test_the_hook_is_taken_from_the_first_place_that_has_one(tmp_path: Path) -> None:
    wheel, system = tmp_path / "none/libvgpu.so", placed(tmp_path, "system", library())
    checkout = placed(tmp_path, "checkout", library())
    assert find_library(None, [wheel, system, checkout]) == system
    assert find_library(checkout, [wheel, system]) == checkout


@pytest.mark.parametrize(
    ("folder", "content", "words"),
    [
        ("other", library(243), "is built for another machine"),
        ("text", b"no library", "is no shared library"),
        ("my tools", library(), "LD_PRELOAD cannot name"),
        ("a:b", library(), "LD_PRELOAD cannot name"),
    ],
)
def test_a_hook_that_the_linker_would_leave_out_is_refused(
    tmp_path: Path, folder: str, content: bytes, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says so in a line on stderr at most, and the program runs without limits."""
    with pytest.raises(typer.Exit):
        find_library(placed(tmp_path, folder, content))
    assert words in capsys.readouterr().err


def test_without_a_hook_the_ways_to_one_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        find_library(None, [tmp_path / "libvgpu.so"])
    said = capsys.readouterr().err
    assert "poolmgr-hook" in said and "make hook" in said and "--library" in said
    with pytest.raises(typer.Exit):
        find_library(tmp_path / "named.so", [placed(tmp_path, "here", library())])
    assert "there is no " in capsys.readouterr().err
