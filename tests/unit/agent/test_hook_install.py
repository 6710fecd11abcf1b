"""libhook in the place of HAMi's library: atomic, kept in place, running containers untouched."""

import shutil
import subprocess
from pathlib import Path

import pytest

from poolmgr.agent.hook_install import THEIRS, HookPlace, InstallState, ensure_hook, remove_hook
from poolmgr.domain.errors import Fault, Unavailable
from tests.builders import library

OURS = library()
HAMIS, NEWER = b"\x7fELF hami", b"\x7fELF hami, newer"
VERSIONED = "libvgpu.so.v2.10.0"
"""What HAMi from 2.3 on mounts where it sees it."""


def node(tmp_path: Path, *, theirs: bytes | None = HAMIS) -> HookPlace:
    place = HookPlace(tmp_path / "image.so", tmp_path / "vgpu", tmp_path / "state/hook")
    place.library.write_bytes(OURS)
    place.folder.mkdir()
    if theirs is not None:
        place.target.write_bytes(theirs)
    return place


def test_new_containers_get_libhook_and_hamis_file_stays_beside(tmp_path: Path) -> None:
    place = node(tmp_path)
    inode = place.target.stat().st_ino
    assert ensure_hook(place).state is InstallState.INSTALLED
    assert place.target.read_bytes() == OURS
    assert (place.folder / THEIRS).read_bytes() == HAMIS
    assert (place.folder / THEIRS).stat().st_ino == inode, "containers that have it mounted see no change"
    assert ensure_hook(place).state is InstallState.IN_PLACE


def test_comes_back_after_another_library_was_put_there(tmp_path: Path) -> None:
    place = node(tmp_path)
    ensure_hook(place)
    place.target.unlink()
    place.target.write_bytes(NEWER)
    assert ensure_hook(place).state is InstallState.RESTORED
    assert place.target.read_bytes() == OURS
    assert (place.folder / THEIRS).read_bytes() == NEWER


def test_a_copy_in_place_by_hamis_plugin_reaches_neither_the_name_nor_a_running_container(
    tmp_path: Path,
) -> None:
    """Inside the plugin's container the store is not there: its `cp` meets a link that leads nowhere."""
    place = node(tmp_path)
    ensure_hook(place)
    source = tmp_path / "in-the-plugins-image.so"
    source.write_bytes(NEWER)
    with place.target.open("rb") as mounted:
        hidden = place.store.rename(tmp_path / "not-visible-there")
        done = subprocess.run(
            [shutil.which("cp") or "cp", str(source), str(place.target)], check=False, capture_output=True
        )
        hidden.rename(place.store)
        assert done.returncode != 0
        assert mounted.read() == OURS
    assert ensure_hook(place).state is InstallState.IN_PLACE
    assert place.target.read_bytes() == OURS


def test_a_new_libhook_leaves_the_old_copy_to_running_containers(tmp_path: Path) -> None:
    place = node(tmp_path)
    ensure_hook(place)
    with place.target.open("rb") as mounted:
        place.library.write_bytes(OURS + b" 2")
        assert ensure_hook(place).state is InstallState.INSTALLED
        assert mounted.read() == OURS
    assert place.target.read_bytes() == OURS + b" 2"
    assert (place.folder / THEIRS).read_bytes() == HAMIS


def test_leaves_nothing_behind_and_gives_the_place_back(tmp_path: Path) -> None:
    place = node(tmp_path)
    ensure_hook(place)
    assert remove_hook(place).state is InstallState.REMOVED
    assert {path.name: path.read_bytes() for path in place.folder.iterdir()} == {"libvgpu.so": HAMIS}
    assert not place.target.is_symlink()


def test_giving_back_leaves_a_library_alone_that_is_not_ours(tmp_path: Path) -> None:
    place = node(tmp_path)
    remove_hook(place)
    assert place.target.read_bytes() == HAMIS


def test_where_hami_has_not_copied_yet_the_link_is_made_and_taken_away(tmp_path: Path) -> None:
    place = node(tmp_path, theirs=None)
    assert ensure_hook(place).state is InstallState.INSTALLED
    remove_hook(place)
    assert list(place.folder.iterdir()) == []


@pytest.mark.parametrize("act", [ensure_hook, remove_hook])
def test_a_dry_run_touches_nothing(tmp_path: Path, act: object) -> None:
    place = node(tmp_path)
    if act is remove_hook:
        ensure_hook(place)
    before = sorted((p, p.lstat().st_ino) for p in tmp_path.rglob("*"))
    result = act(place, dry_run=True)  # type: ignore[operator]
    assert result.message.startswith("would ")
    assert sorted((p, p.lstat().st_ino) for p in tmp_path.rglob("*")) == before


def test_does_nothing_where_hami_has_never_been(tmp_path: Path) -> None:
    place = node(tmp_path)
    nowhere = HookPlace(place.library, tmp_path / "nowhere", place.store)
    assert ensure_hook(nowhere).state is InstallState.NO_FOLDER


@pytest.mark.parametrize("library", [b"", None])
def test_refuses_an_image_without_the_library(tmp_path: Path, library: bytes | None) -> None:
    place = node(tmp_path)
    place.library.unlink()
    if library is not None:
        place.library.write_bytes(library)
    with pytest.raises(Fault, match=r"no shared library|built without libhook"):
        ensure_hook(place)
    assert place.target.read_bytes() == HAMIS


def test_refuses_a_library_for_another_machine(tmp_path: Path) -> None:
    """The dynamic linker leaves such a preload out with a line on stderr, and nothing is limited."""
    place = node(tmp_path)
    place.library.write_bytes(library(243))
    with pytest.raises(Fault, match="built for another machine"):
        ensure_hook(place)
    assert place.target.read_bytes() == HAMIS


def test_takes_the_name_that_hamis_plugin_really_mounts(tmp_path: Path) -> None:
    """The plugin mounts the name with its version where it sees such a file; the plain one was ours, and no container
    had it."""
    place = node(tmp_path, theirs=None)
    versioned = place.folder / VERSIONED
    versioned.write_bytes(HAMIS)
    ensure_hook(place)
    assert (versioned.read_bytes(), place.target.read_bytes()) == (OURS, OURS)
    newer = place.folder / "libvgpu.so.v2.11.0"
    newer.write_bytes(NEWER)
    assert not place.is_ours()
    ensure_hook(place)
    assert place.is_ours()
    remove_hook(place)
    left = {path.name: path.read_bytes() for path in place.folder.iterdir()}
    assert left == {VERSIONED: HAMIS, newer.name: NEWER}


def test_a_folder_that_cannot_be_written_is_tried_again_later(tmp_path: Path) -> None:
    place = node(tmp_path)
    place.store.parent.mkdir()
    place.store.write_text("a file where the store should be")
    with pytest.raises(Unavailable, match="libhook cannot be put into"):
        ensure_hook(place)
    assert place.target.read_bytes() == HAMIS
