"""A region is read from a folder in which a tenant may have put anything."""

import os
from pathlib import Path

import pytest

from poolmgr.cli.gpu import read_regions
from poolmgr.hookregion.reading import LONGEST, read_region


def plant(folder: Path, what: str) -> Path:
    path = folder / f"{what}.cache"
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "dangling":
        path.symlink_to(folder / "nowhere")
    else:
        path.symlink_to({"endless": "/dev/zero", "secret": "/etc/shadow"}[what])
    return path


@pytest.mark.parametrize("what", ["fifo", "folder", "dangling", "endless", "secret"])
def test_what_is_no_file_of_its_own_is_refused_at_once(what: str, tmp_path: Path) -> None:
    path = plant(tmp_path, what)
    with pytest.raises(OSError):
        read_region(path)
    (said,) = read_regions([path]).values()
    assert "cannot be read" in str(said)


def test_no_more_than_a_region_is_read_of_a_file_of_a_tebibyte(tmp_path: Path) -> None:
    path = tmp_path / "big.cache"
    with path.open("wb") as file:
        file.truncate(2**40)
    assert len(read_region(path)) == LONGEST


def test_a_region_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.cache"
    path.write_bytes(b"abc")
    assert read_region(path) == b"abc"
