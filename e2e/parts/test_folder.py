"""Parts from a folder are checked before they are used, and what is wrong with the folder is never a reason to skip."""

import hashlib
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.parts import PartMissing, PartRefused
from e2e.parts.builders import lists

TOOL = '[parts."tool-1/tool"]\nversion = "1"\nmissing = "nobody publishes it"\n'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "place"
    (folder / "tool-1").mkdir(parents=True)
    packed = lzma.compress(b"#!/bin/sh\necho hello\n")
    (folder / "tool-1" / "tool.xz").write_bytes(packed)
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(packed).hexdigest()}  ./tool-1/tool.xz\n")
    monkeypatch.setenv("POOLMGR_PARTS", str(folder))
    monkeypatch.setenv("POOLMGR_CACHE", str(tmp_path / "cache"))
    return folder


def test_a_part_is_unpacked_executable_and_kept(place: Path) -> None:
    tool = lists(place.parent, TOOL)
    first = tool.obtain("tool-1/tool")
    assert first.path.read_text() == "#!/bin/sh\necho hello\n"
    assert first.path.stat().st_mode & 0o111
    assert (first.version, str(place) in first.origin) == ("1", True)
    written = first.path.stat().st_mtime_ns
    assert tool.obtain("tool-1/tool").path.stat().st_mtime_ns == written


def test_a_run_without_the_folder_does_not_use_what_one_with_it_used(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = lists(place.parent, TOOL)
    tool.obtain("tool-1/tool")
    monkeypatch.delenv("POOLMGR_PARTS")
    with pytest.raises(PartMissing, match=r"POOLMGR_PARTS is not set.*nobody publishes it"):
        tool.obtain("tool-1/tool")


def test_a_part_that_changes_with_its_checksum_is_taken_anew(place: Path) -> None:
    tool = lists(place.parent, TOOL)
    tool.obtain("tool-1/tool")
    (place / "tool-1" / "tool.xz").unlink()
    (place / "tool-1" / "tool").write_bytes(b"newer")
    (place / "SHA256SUMS").write_text(f"{hashlib.sha256(b'newer').hexdigest()}  tool-1/tool\n")
    assert tool.obtain("tool-1/tool").path.read_bytes() == b"newer"


def test_a_damaged_part_is_refused(place: Path) -> None:
    (place / "tool-1" / "tool.xz").write_bytes(lzma.compress(b"other"))
    tool = lists(place.parent, TOOL)
    with pytest.raises(PartRefused, match="not what SHA256SUMS says"):
        tool.obtain("tool-1/tool")
    with pytest.raises(PartRefused, match="not what SHA256SUMS says"):  # nor listed as found
        tool.outlook("tool-1/tool")


def test_a_part_without_checksum_is_refused(place: Path) -> None:
    (place / "SHA256SUMS").unlink()
    tool = lists(place.parent, TOOL)
    with pytest.raises(PartRefused, match=r"SHA256SUMS has no line for tool-1/tool\.xz"):
        tool.obtain("tool-1/tool")
    with pytest.raises(PartRefused, match="SHA256SUMS has no line"):  # nor listed as found
        tool.outlook("tool-1/tool")


@pytest.mark.parametrize(
    "sums",
    [b"one-word\n", b"\xff\xfe\x00", b"../../../../etc  ./tool-1/tool.xz\n"],
    ids=["half a line", "binary", "a digest that is none"],
)
def test_checksums_that_sha256sum_did_not_write_are_refused(place: Path, sums: bytes) -> None:
    (place / "SHA256SUMS").write_bytes(sums)
    with pytest.raises(PartRefused, match=r"SHA256SUMS.*make it anew"):
        lists(place.parent, TOOL).obtain("tool-1/tool")


def test_checksums_in_capital_letters_are_the_same(place: Path) -> None:
    sums = (place / "SHA256SUMS").read_text()
    (place / "SHA256SUMS").write_text(sums.replace(sums[:64], sums[:64].upper()))
    assert lists(place.parent, TOOL).obtain("tool-1/tool").path.read_text().endswith("echo hello\n")


def test_a_part_that_is_not_packed_though_it_says_so_is_refused(place: Path) -> None:
    (place / "tool-1" / "tool.xz").write_bytes(b"plain")
    (place / "SHA256SUMS").write_text(f"{hashlib.sha256(b'plain').hexdigest()}  tool-1/tool.xz\n")
    with pytest.raises(PartRefused, match="not packed by xz"):
        lists(place.parent, TOOL).obtain("tool-1/tool")


@pytest.mark.parametrize(
    "make", [Path.mkdir, lambda path: path.symlink_to("/nowhere")], ids=["folder", "link"]
)
def test_what_bears_a_parts_name_and_is_no_file_is_refused(place: Path, make: Callable[[Path], None]) -> None:
    (place / "tool-1" / "tool.xz").unlink()
    make(place / "tool-1" / "tool")
    with pytest.raises(PartRefused, match="tool-1/tool is no file"):
        lists(place.parent, TOOL).obtain("tool-1/tool")


def test_a_copy_that_was_damaged_in_the_cache_is_made_anew(place: Path) -> None:
    tool = lists(place.parent, TOOL)
    copy = tool.obtain("tool-1/tool").path
    copy.write_bytes(b"")
    assert tool.obtain("tool-1/tool").path.read_text() == "#!/bin/sh\necho hello\n"


def test_a_cache_that_cannot_be_written_is_no_reason_to_skip(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOLMGR_CACHE", str(place / "SHA256SUMS"))
    with pytest.raises(PartRefused, match="set POOLMGR_CACHE to a folder that you may write"):
        lists(place.parent, TOOL).obtain("tool-1/tool")


def test_a_folder_that_is_none_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLMGR_PARTS", str(place / "typo"))
    with pytest.raises(PartRefused, match="typo, which is no folder"):
        lists(place.parent, TOOL).obtain("tool-1/tool")
