"""The bill of materials: every Debian and Python package in the image, as CycloneDX.

debsbom reads Debian's from the layer's dpkg status, uv tells Python's from its lock; debsbom merges them.
"""

import gzip
import json
import re
import shutil
import tarfile
import uuid
from pathlib import Path
from typing import Any

from tools.image.command import run
from tools.image.environment import SELECTION, UV
from tools.image.layer import Layer

_NAMESPACE = uuid.UUID("5bae90ef-6e72-44ff-ab2b-296c497aec54")  # arbitrary, fixed
_INSTALLED = re.compile(r"(?:.*/)?([^/]+)-([^/-]+)\.dist-info/METADATA")


def write_sbom(
    tools: Path, debian: Layer, python: Layer, version: str, created: str, scratch: Path, target: Path
) -> None:
    """`tools` is the environment with debsbom, `created` a time in ISO 8601; what is written depends on the
    arguments alone."""
    root = scratch / "root.tar"  # debsbom takes an uncompressed one
    with gzip.open(debian.path) as packed, root.open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    listing = scratch / "python.cdx.json"
    export = run([str(UV), "export", "--quiet", *SELECTION, "--format", "cyclonedx1.5"])
    listing.write_text(json.dumps(installed_only(json.loads(export), installed(python))))
    debsbom = str(tools / "bin/debsbom")

    def make(command: str, name: str, *arguments: str) -> str:
        serial = str(uuid.uuid5(_NAMESPACE, f"{name} {debian.digest} {python.digest}"))
        facts = ["--distro-name", name, "--distro-version", version, "--timestamp", created]
        out = ["--cdx-serialnumber", serial, "-t", "cdx", "-o", str(scratch / name)]
        run([debsbom, command, *facts, *out, *arguments])
        return str(scratch / f"{name}.cdx.json")

    distribution = make("generate", "debian", "-r", str(root), "--with-licenses")
    Path(make("merge", "poolmgr-image", distribution, str(listing))).replace(target)


def installed(python: Layer) -> set[tuple[str, str]]:
    """Normalised name and version of each Python package in a layer."""
    with tarfile.open(python.path) as tar:
        found = (_INSTALLED.fullmatch(name) for name in tar.getnames())
        return {(_normal(match[1]), match[2]) for match in found if match}


def installed_only(export: dict[str, Any], there: set[tuple[str, str]]) -> dict[str, Any]:
    """uv's list of the whole lock, for every system and interpreter, cut to what is there. Raises ValueError when
    something is there that the lock does not have."""
    components = [
        {
            key: value for key, value in item.items() if key != "externalReferences"
        }  # each wheel of each system
        for item in export["components"]
        if (_normal(item["name"]), item["version"]) in there
    ]
    listed = {(_normal(item["name"]), item["version"]) for item in components}
    if there - listed:
        raise ValueError(f"in the image, and not in uv.lock: {sorted(there - listed)}")
    references = {item["bom-ref"] for item in components} | {export["metadata"]["component"]["bom-ref"]}
    dependencies = [
        item | {"dependsOn": [name for name in item.get("dependsOn", []) if name in references]}
        for item in export.get("dependencies", [])
        if item["ref"] in references
    ]
    return export | {"components": components, "dependencies": dependencies}


def _normal(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()
