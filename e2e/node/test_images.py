"""Images are what a container runtime expects: whole, and the same bytes whenever they are made."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

from e2e.node.images import Image, docker_archive, layer, shown, view

SMALL = Image("localhost/small:1", ["/bin/true"], {"/bin/true": b"x"}, {"/bin/false": "true"}, {"A": "b"})


def test_the_archive_names_its_image_and_the_digest_of_its_layer(tmp_path: Path) -> None:
    docker_archive([SMALL], tmp_path / "images.tar")
    with tarfile.open(tmp_path / "images.tar") as archive:
        members = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]
    manifest = json.loads(members["manifest.json"])[0]
    assert manifest["RepoTags"] == ["localhost/small:1"]
    config = json.loads(members[manifest["Config"]])
    digest = hashlib.sha256(members[manifest["Layers"][0]]).hexdigest()
    assert config["rootfs"]["diff_ids"] == [f"sha256:{digest}"]
    assert "A=b" in config["config"]["Env"]


def test_a_layer_is_the_same_bytes_each_time() -> None:
    assert layer(SMALL) == layer(SMALL)


def test_a_view_links_to_the_nodes_root_and_keeps_its_own_files() -> None:
    image = view("localhost/view:1", ["/bin/sh"], {"/e2e/bin/tool": "#!/bin/sh\n"})
    with tarfile.open(fileobj=io.BytesIO(layer(image))) as archive:
        names = set(archive.getnames())
        assert archive.getmember("usr/bin").linkname == "/guest/usr/bin"
        assert archive.getmember("e2e/bin/tool").isfile()
    assert "usr/local" in names, "a folder of its own, in which volumes can be mounted"
    assert shown(Path("/etc/hostname")).startswith("/guest/")


def test_a_view_has_no_link_where_a_volume_is_mounted() -> None:
    image = view("localhost/view:1", ["/bin/sh"], {}, mounts=["/usr/local/bin", "/usr/share/doc"])
    with tarfile.open(fileobj=io.BytesIO(layer(image))) as archive:
        names = set(archive.getnames())
    assert "usr/local/lib" in names
    assert not names & {"usr/local/bin", "usr/share"}, (
        "a link would lead to the node's root, which is read-only"
    )
