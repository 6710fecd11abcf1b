"""Parts that an earlier run fetched, each with a record of where it came from."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from e2e.cache import cache_folder, has_digest, put
from e2e.parts.catalogue import Catalogue, Entry
from e2e.parts.source import Finding, Part, PartRefused, State


class Record(msgspec.Struct, frozen=True):
    """Beside every kept part. `declared` is what parts.toml said then: said otherwise, the part is stale."""

    declared: str
    origin: str
    sha256: str
    taken_at: str


class CacheSource:
    """The cache's folder `parts`."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def look(self, name: str, entry: Entry) -> Finding | None:
        if entry.image is None and entry.chart is None:
            return None
        record = _record(name)
        if record is None:
            return Finding(State.MISSING, "not fetched yet")
        if record.declared != declared(self._catalogue, entry):
            return Finding(State.MISSING, "what was fetched is not what parts.toml asks for now")
        if not has_digest(_kept(name, record), record.sha256):
            return Finding(State.MISSING, "what was fetched has been deleted or damaged")
        return Finding(State.HERE, f"fetched {record.taken_at[:10]}: {record.origin}")

    def take(self, name: str, entry: Entry) -> Part:
        record = _record(name)
        if record is None:
            raise PartRefused(f"{name} has left the cache")
        return Part(name, entry.version, _kept(name, record), record.origin)

    def keep(self, name: str, entry: Entry, content: bytes, origin: str) -> Part:
        """Stores a part that was fetched."""
        digest = hashlib.sha256(content).hexdigest()
        taken_at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        record = Record(declared(self._catalogue, entry), origin, digest, taken_at)
        path = _kept(name, record)
        put(path, content, 0o755)
        put(_record_path(name), msgspec.json.format(msgspec.json.encode(record)))
        return Part(name, entry.version, path, origin)


def declared(catalogue: Catalogue, entry: Entry) -> str:
    """What the list asks for, as one line."""
    if entry.image:
        image = catalogue.images[entry.image.name]
        return " ".join(filter(None, ("image", image.reference, image.digest, entry.image.path)))
    return f"chart {entry.chart.url} {entry.chart.sha256}" if entry.chart else ""


def _kept(name: str, record: Record) -> Path:
    return cache_folder() / "parts" / "by-digest" / record.sha256 / Path(name).name


def _record_path(name: str) -> Path:
    return cache_folder() / "parts" / "records" / f"{name}.json"


def _record(name: str) -> Record | None:
    try:
        return msgspec.json.decode(_record_path(name).read_bytes(), type=Record)
    except (FileNotFoundError, msgspec.DecodeError):
        return None  # torn or of another release: fetched again
