"""Lists of parts, and container images to take them from, for tests of the package."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from e2e.parts import resolver
from e2e.parts.catalogue import load
from e2e.parts.resolve import Resolver

ORDER = 'order = ["folder", "cache", "image", "chart", "module"]\n'
OCI = "application/vnd.oci.image"


def lists(folder: Path, parts: str, images: str = "[images]\n") -> Resolver:
    """Finds the parts of a list of `parts` and `images`, written into `folder`."""
    path = folder / "parts.toml"
    path.write_text(ORDER + images + parts)
    return resolver(load(path))


def layer(files: Mapping[str, str], links: Mapping[str, str] | None = None) -> bytes:
    """A layer with these files, in this order, and symbolic links; a path that ends in / is a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path.rstrip("/"))
            if path.endswith("/"):
                entry.type = tarfile.DIRTYPE
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
        for path, target in (links or {}).items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()


def oci_layout(folder: Path, platforms: Mapping[str, Sequence[bytes]]) -> Path:
    """An image as files, tagged `made`: a single manifest, or an index where there are several `platforms`
    (architecture → layers, lowest first)."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": f"{OCI}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    def manifest(architecture: str, layers: Sequence[bytes]) -> dict[str, Any]:
        unpacked = [f"sha256:{hashlib.sha256(gzip.decompress(item)).hexdigest()}" for item in layers]
        rootfs = {"type": "layers", "diff_ids": unpacked}
        config = {"architecture": architecture, "os": "linux", "rootfs": rootfs}
        written = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": blob("config.v1+json", json.dumps(config).encode()),
            "layers": [blob("layer.v1.tar+gzip", item) for item in layers],
        }
        return blob("manifest.v1+json", json.dumps(written).encode())

    made = [
        manifest(architecture, layers) | {"platform": {"architecture": architecture, "os": "linux"}}
        for architecture, layers in platforms.items()
    ]
    if len(made) == 1:
        root = made[0]
    else:
        index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": made}
        root = blob("index.v1+json", json.dumps(index).encode())
    top = {
        "schemaVersion": 2,
        "manifests": [root | {"annotations": {"org.opencontainers.image.ref.name": "made"}}],
    }
    (folder / "index.json").write_text(json.dumps(top))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder
