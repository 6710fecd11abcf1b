"""Installing libhook beside HAMi's library: atomic, kept in place, running containers untouched."""

from pathlib import Path

import pytest

from poolmgr.agent.hook_install import THEIRS, InstallState, ensure_hook, remove_hook
from poolmgr.domain.errors import Fault

OURS, HAMIS, NEWER = b"\x7fELF ours", b"\x7fELF hami", b"\x7fELF hami, newer"


def node(tmp_path: Path, *, theirs: bytes | None = HAMIS) -> tuple[Path, Path]:
    library, folder = tmp_path / "image.so", tmp_path / "vgpu"
    library.write_bytes(OURS)
    folder.mkdir()
    if theirs is not None:
        (folder / "libvgpu.so").write_bytes(theirs)
    return library, folder


def test_replaces_hamis_library_and_keeps_it_beside(tmp_path: Path) -> None:
    library, folder = node(tmp_path)
    assert ensure_hook(library, folder).state is InstallState.INSTALLED
    assert (folder / "libvgpu.so").read_bytes() == OURS
    assert (folder / THEIRS).read_bytes() == HAMIS
    assert ensure_hook(library, folder).state is InstallState.IN_PLACE


def test_comes_back_after_hami_has_copied_its_own_again(tmp_path: Path) -> None:
    library, folder = node(tmp_path)
    ensure_hook(library, folder)
    (folder / "libvgpu.so").write_bytes(NEWER)
    assert ensure_hook(library, folder).state is InstallState.RESTORED
    assert (folder / "libvgpu.so").read_bytes() == OURS
    assert (folder / THEIRS).read_bytes() == NEWER


def test_a_running_containers_copy_is_untouched(tmp_path: Path) -> None:
    library, folder = node(tmp_path)
    with (folder / "libvgpu.so").open("rb") as mounted:
        ensure_hook(library, folder)
        assert mounted.read() == HAMIS


def test_leaves_nothing_behind_and_gives_the_place_back(tmp_path: Path) -> None:
    library, folder = node(tmp_path)
    ensure_hook(library, folder)
    remove_hook(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"libvgpu.so": HAMIS}


def test_does_nothing_where_hami_has_never_been(tmp_path: Path) -> None:
    library, _ = node(tmp_path)
    assert ensure_hook(library, tmp_path / "nowhere").state is InstallState.NO_FOLDER


def test_refuses_an_image_without_the_library(tmp_path: Path) -> None:
    library, folder = node(tmp_path)
    library.write_bytes(b"")
    with pytest.raises(Fault, match="no shared library"):
        ensure_hook(library, folder)
    assert (folder / "libvgpu.so").read_bytes() == HAMIS
