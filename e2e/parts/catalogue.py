"""The list of parts, `parts.toml`, read and checked."""

from pathlib import Path
from typing import Literal

import msgspec

LIST = Path(__file__).with_name("parts.toml")

SourceKind = Literal["folder", "cache", "image", "chart", "module"]


class CatalogueError(Exception):
    """The list is not as it should be; the message says where."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file: a key that nobody reads is a mistake."""


class Image(_Table, frozen=True):
    """A published container image. `digest`, as `sha256:…`, pins it; empty where it is not known."""

    registry: str
    repository: str
    tag: str
    digest: str = ""

    @property
    def reference(self) -> str:
        """Image as people write it, as `docker.io/projecthami/hami:v2.10.0`."""
        return f"{self.registry}/{self.repository}:{self.tag}"


class ImageFile(_Table, frozen=True):
    """The file at `path` in the image that `[images]` calls `name`."""

    name: str
    path: str


class Chart(_Table, frozen=True):
    """A chart's archive in a Helm repository; `sha256` is what the repository's index says of it."""

    url: str
    sha256: str


class ModuleProgram(_Table, frozen=True):
    """`program` of a Go module that tests build, or what the program `output_of` prints."""

    name: str
    program: str = ""
    output_of: str = ""


class Entry(_Table, frozen=True):
    """One part: its version, a key for each of its sources, and `missing`, why it has none."""

    version: str
    image: ImageFile | None = None
    chart: Chart | None = None
    module: ModuleProgram | None = None
    missing: str = ""


class Catalogue(_Table, frozen=True):
    """All parts by name, the images that they name, and the order in which sources are tried."""

    order: tuple[SourceKind, ...]
    images: dict[str, Image]
    parts: dict[str, Entry]

    def image_of(self, entry: Entry) -> Image | None:
        """The image that has the part."""
        return self.images[entry.image.name] if entry.image else None

    def same_image(self, image: Image) -> dict[str, str]:
        """Part → path of every part that comes from `image`, so that one fetch serves them all."""
        return {
            name: entry.image.path
            for name, entry in self.parts.items()
            if entry.image and self.images[entry.image.name] == image
        }


def load(path: Path = LIST) -> Catalogue:
    """The list in `path`. Raises CatalogueError."""
    try:
        catalogue = msgspec.toml.decode(path.read_bytes(), type=Catalogue)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path}: {error}") from error
    for name, entry in catalogue.parts.items():
        if entry.image and entry.image.name not in catalogue.images:
            raise CatalogueError(f"{path}: {name} names image {entry.image.name!r}, which [images] has not")
        if entry.module and bool(entry.module.program) == bool(entry.module.output_of):
            raise CatalogueError(f"{path}: {name} needs either program or output_of")
        if bool(entry.missing) == bool(entry.image or entry.chart or entry.module):
            raise CatalogueError(
                f"{path}: {name} needs a source, or `missing` with the reason why it has none"
            )
    return catalogue
