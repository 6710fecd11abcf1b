"""An image shows of its layers what the OCI specification says."""

from pathlib import Path

import pytest

from e2e.parts.builders import layer
from e2e.parts.layers import LayerUnreadable, files_in

TOOL = "opt/bin/tool"


def stack(folder: Path, *layers: bytes) -> list[Path]:
    paths = [folder / f"layer-{number}" for number in range(len(layers))]
    for path, content in zip(paths, layers, strict=True):
        path.write_bytes(content)
    return paths


def test_the_upper_layers_file_is_shown(tmp_path: Path) -> None:
    layers = stack(tmp_path, layer({TOOL: "old", "opt/bin/other": "other"}), layer({f"./{TOOL}": "new"}))
    assert files_in(layers, [TOOL, "opt/bin/other"]) == {TOOL: b"new", "opt/bin/other": b"other"}


@pytest.mark.parametrize(
    "taken_away", ["opt/bin/.wh.tool", "opt/.wh.bin", ".wh.opt", "opt/bin/.wh..wh..opq", ".wh..wh..opq"]
)
def test_what_a_layer_takes_away_is_gone(tmp_path: Path, taken_away: str) -> None:
    layers = stack(tmp_path, layer({TOOL: "old"}), layer({taken_away: ""}), layer({"etc/x": ""}))
    assert files_in(layers, [TOOL]) == {}


@pytest.mark.parametrize("taken_away", ["opt/bin/.wh.tools", "opt/bin/tool.d/.wh..wh..opq", "opt/.wh.tool"])
def test_a_neighbour_that_is_taken_away_does_not_matter(tmp_path: Path, taken_away: str) -> None:
    layers = stack(tmp_path, layer({TOOL: "old"}), layer({taken_away: ""}))
    assert files_in(layers, [TOOL]) == {TOOL: b"old"}


@pytest.mark.parametrize("order", [(TOOL, "opt/bin/.wh..wh..opq"), ("opt/bin/.wh..wh..opq", TOOL)])
def test_a_layer_takes_nothing_of_its_own_away(tmp_path: Path, order: tuple[str, str]) -> None:
    layers = stack(tmp_path, layer({TOOL: "old"}), layer(dict.fromkeys(order, "new")))
    assert files_in(layers, [TOOL]) == {TOOL: b"new"}


def test_what_comes_again_above_a_removal_is_shown(tmp_path: Path) -> None:
    layers = stack(tmp_path, layer({TOOL: "1"}), layer({"opt/.wh.bin": ""}), layer({TOOL: "3"}))
    assert files_in(layers, [TOOL]) == {TOOL: b"3"}


def test_a_folders_own_entry_changes_nothing(tmp_path: Path) -> None:
    layers = stack(tmp_path, layer({TOOL: "old"}), layer({"opt/": "", "opt/bin/": ""}))
    assert files_in(layers, [TOOL]) == {TOOL: b"old"}


@pytest.mark.parametrize("link", [TOOL, "opt/bin", "opt"])
def test_a_link_on_the_way_is_named(tmp_path: Path, link: str) -> None:
    layers = stack(tmp_path, layer({TOOL: "old"}), layer({}, links={link: "/elsewhere"}))
    with pytest.raises(LayerUnreadable, match=f"/{link} is .*link to /elsewhere"):
        files_in(layers, [TOOL])


def test_a_layer_in_another_packing_is_named(tmp_path: Path) -> None:
    zstandard_magic = bytes.fromhex("28b52ffd")
    with pytest.raises(LayerUnreadable, match="layer-0 is no tar archive"):
        files_in(stack(tmp_path, zstandard_magic + bytes(600)), [TOOL])
