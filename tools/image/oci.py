"""The image layout of the Open Container Initiative: blobs by digest, a configuration, a manifest, an index.

Specification: https://github.com/opencontainers/image-spec (1.1). What is written depends on the arguments alone.
"""

import filecmp
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.image.layer import Layer

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIGURATION = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
INDEX = "application/vnd.oci.image.index.v1+json"
REFERENCE = "org.opencontainers.image.ref.name"
"""skopeo's and podman's name of an image within a layout."""
CONTAINERD_REFERENCE = "io.containerd.image.name"
"""containerd's: under this name `ctr images import` keeps it."""


def configuration(
    architecture: str,
    layers: Sequence[tuple[Layer, str]],
    created: int,
    runtime: Mapping[str, Any],
) -> dict[str, Any]:
    """An image's configuration. `layers` come with a sentence each; `created` is in seconds since 1970; `runtime` is
    what the specification calls `config`: User, Env, Entrypoint, Labels."""
    time = timestamp(created)
    return {
        "created": time,
        "architecture": architecture,
        "os": "linux",
        "config": dict(runtime),
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer, _ in layers]},
        "history": [{"created": time, "created_by": sentence} for _, sentence in layers],
    }


def write_layout(folder: Path, name: str, image: Mapping[str, Any], layers: Sequence[Layer]) -> str:
    """Writes the layout of one image called `name` (repository:tag) and returns its digest: the manifest's. One that
    is the same already stays: tests may be reading it."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    blobs = fresh / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def keep(document: Mapping[str, Any], media_type: str) -> dict[str, Any]:
        data = _json(document)
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    described = []
    for layer in layers:
        shutil.copyfile(layer.path, blobs / layer.digest.removeprefix("sha256:"))
        described.append({"mediaType": LAYER, "digest": layer.digest, "size": layer.size})
    manifest = keep(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": keep(image, CONFIGURATION),
            "layers": described,
        },
        MANIFEST,
    )
    tag = name.rpartition(":")[2]
    entry = manifest | {
        "platform": {"architecture": image["architecture"], "os": image["os"]},
        "annotations": {REFERENCE: tag, CONTAINERD_REFERENCE: name},
    }
    (fresh / "index.json").write_bytes(_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}))
    (fresh / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    if _files(fresh) == _files(folder) and all(
        filecmp.cmp(fresh / path, folder / path, shallow=False) for path in _files(fresh)
    ):
        shutil.rmtree(fresh)
    else:
        shutil.rmtree(folder, ignore_errors=True)
        fresh.replace(folder)
    return str(manifest["digest"])


def write_archive(layout: Path, target: Path) -> None:
    """The layout as one tar: what skopeo and podman call oci-archive, and `ctr images import` takes."""
    unfinished = target.with_name(target.name + ".new")
    with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in _files(layout):
            entry = tarfile.TarInfo(str(path))
            entry.size, entry.mode = (layout / path).stat().st_size, 0o644
            with (layout / path).open("rb") as content:
                archive.addfile(entry, content)
    unfinished.replace(target)


def digest_of(archive: Path) -> str:
    """The digest of the one image in an archive that `write_archive` made."""
    with tarfile.open(archive) as tar:
        index = tar.extractfile("index.json") or io.BytesIO()
        (manifest,) = json.load(index)["manifests"]
    return str(manifest["digest"])


def timestamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
