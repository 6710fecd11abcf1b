"""The same content gives the same bytes, and nothing of the builder's machine gets into a layer."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from tools.image.layer import Layer, cached, from_folder, from_tar

EPOCH = 1_700_000_000


def _tree(folder: Path, *, order: tuple[str, ...] = ("a", "b"), mode: int = 0o600) -> Path:
    for name in order:
        path = folder / "usr/lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        path.chmod(mode)
    (folder / "usr/bin").mkdir()
    (folder / "usr/bin/tool").write_text("#!/bin/sh\n")
    (folder / "usr/bin/tool").chmod(0o700)
    (folder / "usr/bin/link").symlink_to("tool")
    return folder


def _tar(*entries: tarfile.TarInfo) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    stream.seek(0)
    return stream


def _entry(name: str, size: int = 1, **fields: object) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    for field, value in fields.items():
        setattr(entry, field, value)
    return entry


def _names(layer: Layer) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(layer.path) as archive:
        return {entry.name: entry for entry in archive}


def test_order_of_creation_times_and_umask_do_not_show(tmp_path: Path) -> None:
    first = _tree(tmp_path / "first")
    second = _tree(tmp_path / "second", order=("b", "a"), mode=0o664)
    os.utime(second / "usr/lib/a", (1, 1))
    one = from_folder(first, tmp_path / "one.tar.gz", EPOCH)
    two = from_folder(second, tmp_path / "two.tar.gz", EPOCH)
    assert one.path.read_bytes() == two.path.read_bytes()
    assert (one.digest, one.diff_id, one.size) == (two.digest, two.diff_id, two.size)


def test_a_folders_files_are_roots_and_keep_whether_they_can_be_run(tmp_path: Path) -> None:
    names = _names(from_folder(_tree(tmp_path / "tree"), tmp_path / "layer.tar.gz", EPOCH))
    assert {(entry.uid, entry.gid, entry.mtime) for entry in names.values()} == {(0, 0, EPOCH)}
    assert names["usr/bin/tool"].mode == 0o755 and names["usr/lib/a"].mode == 0o644
    assert names["usr/bin/link"].linkname == "tool"


def test_a_tars_owners_stay_and_devices_leftovers_names_and_later_times_go(tmp_path: Path) -> None:
    stream = _tar(
        _entry("./etc/shadow", gid=42, gname="shadow", mtime=EPOCH + 5),
        _entry("./dev/null", 0, type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        _entry("./var/log/dpkg.log"),
        _entry("./usr/perl", mtime=EPOCH - 5),
        _entry("./usr/perl5", 0, type=tarfile.LNKTYPE, linkname="./usr/perl"),
    )
    names = _names(from_tar(stream, tmp_path / "l.tar.gz", EPOCH, lambda path: path.startswith("var/log/")))
    assert set(names) == {"etc/shadow", "usr/perl", "usr/perl5"}
    shadow = names["etc/shadow"]
    assert (shadow.gid, shadow.gname, shadow.mtime) == (42, "", EPOCH)
    assert names["usr/perl"].mtime == EPOCH - 5
    assert names["usr/perl5"].linkname == "usr/perl"


def test_a_layer_is_made_once_and_a_build_that_broke_off_counts_for_nothing(tmp_path: Path) -> None:
    tree = _tree(tmp_path / "tree")
    made = []

    def breaks(target: Path) -> Layer:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    def make(target: Path) -> Layer:
        made.append(target)
        return from_folder(tree, target, EPOCH)

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path / "key", breaks)
    first = cached(tmp_path / "key", make)
    assert cached(tmp_path / "key", make) == first
    assert len(made) == 1
