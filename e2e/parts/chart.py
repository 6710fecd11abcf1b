"""Charts from the Helm repository of their project, checked by the digest that its index gives."""

import hashlib

import httpx

from e2e.parts.catalogue import Entry
from e2e.parts.reachable import RegistryOff, site_unreachable
from e2e.parts.source import Finding, Part, PartMissing, PartRefused, State
from e2e.parts.store import CacheSource

TIMEOUT_SECONDS = 30.0
"""For each answer of the server; a chart has some 50 KB."""


class ChartSource:
    """Archives by URL."""

    def __init__(self, store: CacheSource) -> None:
        self._store = store

    def look(self, name: str, entry: Entry) -> Finding | None:
        if entry.chart is None:
            return None
        try:
            trouble = site_unreachable(entry.chart.url)
        except RegistryOff as off:
            trouble = str(off)
        if trouble:
            return Finding(State.MISSING, f"{entry.chart.url}: {trouble}")
        return Finding(State.OBTAINABLE, f"is fetched from {entry.chart.url}")

    def take(self, name: str, entry: Entry) -> Part:
        if entry.chart is None:
            raise PartMissing(f"{name} is no chart")
        url = entry.chart.url
        try:
            answer = httpx.get(url, timeout=TIMEOUT_SECONDS, follow_redirects=True).raise_for_status()
        except httpx.HTTPError as error:
            raise PartMissing(f"{url} cannot be fetched: {error}") from error
        digest = hashlib.sha256(answer.content).hexdigest()
        if digest != entry.chart.sha256:
            raise PartRefused(
                f"{url} has digest {digest}, and parts.toml says {entry.chart.sha256}: "
                "find out which is right before you change it"
            )
        return self._store.keep(name, entry, answer.content, f"chart {url} (sha256:{digest})")
