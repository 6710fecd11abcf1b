"""Parts from published container images, fetched by skopeo and checked by digest."""

import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from e2e.cache import cache_folder, locked
from e2e.parts.catalogue import Catalogue, Entry, Image
from e2e.parts.layers import LayerUnreadable, files_in
from e2e.parts.reachable import Registry, RegistryOff, registry_for
from e2e.parts.source import Finding, Part, PartMissing, PartRefused, State
from e2e.parts.store import CacheSource

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What the kernel calls a machine → what images call it."""

MANIFEST_TIMEOUT = "30s"
COPY_TIMEOUT = "15m"
"""HAMi's image has some 400 MB."""

UNFINISHED = "fetching-"
"""How the folders in the cache are called that hold an image while it is fetched."""

_WRONG_CONTENT = "did not match"
"""In skopeo's words when a layer or manifest has another digest than its name says."""


class ImageSource:
    """All parts of an image are taken at the first need of one; a fetch that failed is not tried again in a run."""

    def __init__(self, catalogue: Catalogue, store: CacheSource) -> None:
        self._catalogue = catalogue
        self._store = store
        self._failed: dict[Image, str] = {}
        self._absent: dict[str, str] = {}

    def look(self, name: str, entry: Entry) -> Finding | None:
        image = self._catalogue.image_of(entry)
        if image is None:
            return None
        if failed := self._failed.get(image):
            return Finding(State.MISSING, failed)
        try:
            trouble = registry_for(image.registry).unreachable()
        except RegistryOff as off:
            trouble = str(off)
        if trouble is None and shutil.which("skopeo") is None:
            trouble = "skopeo is missing: run tools/packages.sh parts"
        if trouble:
            return Finding(State.MISSING, f"{image.reference}: {trouble}")
        return Finding(State.OBTAINABLE, f"is fetched from {image.reference}")

    def take(self, name: str, entry: Entry) -> Part:
        image = self._catalogue.image_of(entry)
        if image is None:
            raise PartMissing(f"{name} is in no image")
        with locked(cache_folder() / "parts" / ".lock", "another run is fetching parts; waiting for it"):
            kept = self._store.look(name, entry)
            if name not in self._absent and (kept is None or kept.state is not State.HERE):
                try:
                    self._fetch(image)
                except PartMissing as missing:
                    self._failed[image] = str(missing)
                    raise
        if absent := self._absent.get(name):
            raise PartRefused(absent)
        return self._store.take(name, entry)

    def _fetch(self, image: Image) -> None:
        registry = registry_for(image.registry)
        digest = _digest(registry, image)
        wanted = self._catalogue.same_image(image)
        folder = cache_folder() / "parts"
        for left in folder.glob(
            f"{UNFINISHED}*"
        ):  # by a run that was killed; whoever holds the lock is alone
            shutil.rmtree(left, ignore_errors=True)
        print(
            f"· fetching {image.reference}@{digest} from {registry.prefix} (once)",
            file=sys.stderr,
            flush=True,
        )
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=folder) as layout:
            _copy(registry, image, digest, Path(layout))
            try:
                files = files_in(_layers(Path(layout)), set(wanted.values()))
            except LayerUnreadable as error:
                raise PartRefused(f"{image.reference}@{digest}: {error}") from error
        for name, path in wanted.items():
            if path in files:
                origin = f"image {image.reference}@{digest}, /{path}"
                self._store.keep(name, self._catalogue.parts[name], files[path], origin)
            else:
                self._absent[name] = f"{image.reference}@{digest} has no /{path}"


def _digest(registry: Registry, image: Image) -> str:
    """Digest to fetch: the pinned one, else what the tag is now. Raises PartMissing, PartRefused."""
    address = registry.address(image.repository)

    def digest_of(reference: str) -> str:
        raw = _skopeo(registry, "inspect", "--raw", reference, timeout=MANIFEST_TIMEOUT)
        return f"sha256:{hashlib.sha256(raw).hexdigest()}"

    if not image.digest:
        return digest_of(f"{address}:{image.tag}")
    try:
        return digest_of(f"{address}@{image.digest}")
    except PartMissing:
        tagged = digest_of(f"{address}:{image.tag}")
    raise PartRefused(
        f"{registry.prefix} has no {image.digest}, which parts.toml pins, and {image.reference} is {tagged} there: "
        "find out which is right before you change the pin"
    )


def _copy(registry: Registry, image: Image, digest: str, folder: Path) -> None:
    source = f"{registry.address(image.repository)}@{digest}"
    _skopeo(registry, "copy", "--quiet", source, f"dir:{folder}", timeout=COPY_TIMEOUT)


def _skopeo(registry: Registry, command: str, *arguments: str, timeout: str) -> bytes:
    """What skopeo prints. Raises PartMissing with its words, PartRefused where a digest is not what it should be."""
    machine = platform.machine()
    tls = {"inspect": "--tls-verify", "copy": "--src-tls-verify"}[command]
    done = subprocess.run(
        [
            "skopeo",
            # No signatures are asked for: what is taken is checked by its digest.
            "--insecure-policy",
            f"--command-timeout={timeout}",
            "--override-os=linux",
            f"--override-arch={ARCHITECTURES.get(machine, machine)}",
            command,
            f"{tls}={'false' if registry.plain else 'true'}",
            *arguments,
        ],
        capture_output=True,
        check=False,
    )
    if done.returncode == 0:
        return done.stdout
    lines = done.stderr.decode(errors="replace").strip()
    said = (re.sub(r'^time=\S+ level=\w+ msg="(.*)"$', r"\1", lines) or f"status {done.returncode}")[-400:]
    if _WRONG_CONTENT in said:
        raise PartRefused(f"what {registry.prefix} sends is not what its digest says: {said}")
    raise PartMissing(f"`skopeo {command}` failed: {said}")


def _layers(folder: Path) -> list[Path]:
    """The layers of an image that skopeo has put into `folder`, lowest first."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    return [folder / layer["digest"].partition(":")[2] for layer in manifest["layers"]]
