"""The layout is what the specification says, and depends on the image's content alone."""

import hashlib
import json
import os
from pathlib import Path

from tools.image.layer import Layer, from_folder
from tools.image.oci import configuration, digest_of, write_archive, write_layout

NAME = "localhost/poolmgr:1.2.3"


def _written(folder: Path) -> tuple[Path, str]:
    (folder / "tree").mkdir(parents=True)
    (folder / "tree/file").write_text("content")
    layer = from_folder(folder / "tree", folder / "layer.tar.gz", 0)
    image = configuration("amd64", [(layer, "a file")], 0, {"User": "65532:65532"})
    return folder / "layout", write_layout(folder / "layout", NAME, image, [layer])


def test_every_blob_is_named_by_its_content_and_the_index_leads_to_all(tmp_path: Path) -> None:
    layout, digest = _written(tmp_path)
    blobs = {path.name: path.read_bytes() for path in (layout / "blobs/sha256").iterdir()}
    assert all(hashlib.sha256(data).hexdigest() == name for name, data in blobs.items())
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    assert entry["digest"] == digest
    assert entry["annotations"] == {
        "org.opencontainers.image.ref.name": "1.2.3",
        "io.containerd.image.name": NAME,
    }
    manifest = json.loads(blobs[digest.removeprefix("sha256:")])
    reached = [entry, manifest["config"], *manifest["layers"]]
    assert {item["digest"].removeprefix("sha256:") for item in reached} == set(blobs)
    assert all(item["size"] == len(blobs[item["digest"].removeprefix("sha256:")]) for item in reached)


def test_two_layouts_of_one_image_are_the_same(tmp_path: Path) -> None:
    (one, first), (two, second) = _written(tmp_path / "one"), _written(tmp_path / "two")
    assert first == second
    write_archive(one, tmp_path / "one.tar")
    write_archive(two, tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_a_layout_that_is_the_same_stays_and_a_damaged_one_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(b"layer")
    layer = Layer(tmp_path / "layer", f"sha256:{hashlib.sha256(b'layer').hexdigest()}", 5, "sha256:0")
    image = configuration("amd64", [(layer, "a file")], 0, {})

    def write() -> Path:
        write_layout(tmp_path / "layout", NAME, image, [layer])
        return tmp_path / "layout/blobs/sha256" / layer.digest.removeprefix("sha256:")

    with write().open("rb") as reader:
        assert os.fstat(reader.fileno()).st_ino == write().stat().st_ino, "somebody may be reading it"
        write().write_bytes(b"other")
        assert write().read_bytes() == b"layer"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layer", "layout"]


def test_an_archive_tells_its_images_digest(tmp_path: Path) -> None:
    layout, digest = _written(tmp_path)
    write_archive(layout, tmp_path / "image.tar")
    assert digest_of(tmp_path / "image.tar") == digest
