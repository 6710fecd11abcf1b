"""Parts are checked before they are used, and a missing one says where it was looked for."""

import hashlib
import lzma
from pathlib import Path

import pytest

from e2e import parts


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
    first = parts.part("tool-1/tool")
    assert first.read_text() == "#!/bin/sh\necho hello\n"
    assert first.stat().st_mode & 0o111
    written = first.stat().st_mtime_ns
    assert parts.part("tool-1/tool").stat().st_mtime_ns == written


def test_a_part_that_was_unpacked_outlives_its_place(place: Path) -> None:
    first = parts.part("tool-1/tool")
    (place / "tool-1" / "tool.xz").unlink()
    assert parts.part("tool-1/tool") == first


def test_a_damaged_part_is_refused(place: Path) -> None:
    (place / "tool-1" / "tool.xz").write_bytes(lzma.compress(b"other"))
    with pytest.raises(parts.PartMissing, match="not what SHA256SUMS says"):
        parts.part("tool-1/tool")


def test_a_missing_part_says_where_it_was_looked_for(place: Path) -> None:
    with pytest.raises(parts.PartMissing, match="set POOLMGR_PARTS"):
        parts.part("tool-2/tool")
