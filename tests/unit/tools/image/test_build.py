"""What an earlier build has left is used if it is whole, and taken away if it is not."""

from pathlib import Path

import pytest

from tools.image.build import cached, forget_unfinished
from tools.image.layer import Layer, from_folder


class Builder:
    """Makes a layer with one file, and counts how often."""

    def __init__(self, folder: Path) -> None:
        self.made = 0
        self._tree = folder / "tree"
        self._tree.mkdir()
        (self._tree / "file").write_text("content")

    def __call__(self, target: Path) -> Layer:
        self.made += 1
        return from_folder(self._tree, target, 0)


@pytest.mark.parametrize(
    ("file", "content"),
    [("layer.tar.gz", b"cut"), ("layer.tar.gz", None), ("layer.json", b""), ("layer.json", b"[]")],
    ids=["a damaged layer", "no layer", "an empty note", "a note of another kind"],
)
def test_a_layer_that_is_damaged_is_made_anew(tmp_path: Path, file: str, content: bytes | None) -> None:
    make = Builder(tmp_path)
    folder = tmp_path / "cache"
    first = cached(folder, make)
    assert (cached(folder, make), make.made) == (first, 1)
    (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
    assert cached(folder, make) == first
    assert make.made == 2
    assert first.path.stat().st_size == first.size


def test_what_a_killed_build_has_left_goes_and_nothing_else(tmp_path: Path) -> None:
    for left in ("unfinished-x/root", "debian-1"):
        (tmp_path / left).mkdir(parents=True)
    forget_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["debian-1"]
