"""Finds a part: its sources are asked in the order that parts.toml says."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from e2e.cache import CacheUnusable
from e2e.parts.catalogue import Catalogue, CatalogueError, Entry, SourceKind
from e2e.parts.folder import VARIABLE
from e2e.parts.source import Finding, Part, PartMissing, PartRefused, Source, State


@dataclass(frozen=True)
class Outlook:
    """What would come of asking for a part: from where, and what the sources before that one said."""

    state: State
    where: str
    passed: tuple[str, ...]


class Resolver:
    """A list of parts and the places that they come from."""

    def __init__(self, catalogue: Catalogue, sources: Mapping[SourceKind, Source]) -> None:
        self.catalogue = catalogue
        self._sources = sources

    def obtain(self, name: str) -> Part:
        """The part from the first source that has it. Raises PartMissing with what each of them said, PartRefused."""
        entry = self._entry(name)
        said: list[str] = []
        for kind, source, finding in self._findings(name, entry):
            if finding.state is State.MISSING:
                said.append(f"{kind}: {finding.sentence}")
                continue
            try:
                return source.take(name, entry)
            except PartMissing as missing:
                said.append(f"{kind}: {missing}")
            except CacheUnusable as unusable:
                raise PartRefused(str(unusable)) from unusable
        raise PartMissing(
            f"{name} cannot be had here ({'; '.join([*said, *_unpublished(entry)])}); "
            f"set {VARIABLE} to a folder that has it, or see `make parts`"
        )

    def outlook(self, name: str) -> Outlook:
        """Where the part would come from; nothing is fetched or built. Raises PartRefused."""
        entry = self._entry(name)
        said: list[str] = []
        for kind, _, finding in self._findings(name, entry):
            if finding.state is not State.MISSING:
                return Outlook(finding.state, f"{kind}: {finding.sentence}", tuple(said))
            said.append(f"{kind}: {finding.sentence}")
        return Outlook(State.MISSING, "", (*said, *_unpublished(entry)))

    def _findings(self, name: str, entry: Entry) -> Iterator[tuple[SourceKind, Source, Finding]]:
        for kind in self.catalogue.order:
            source = self._sources[kind]
            try:
                finding = source.look(name, entry)
            except CacheUnusable as unusable:
                raise PartRefused(str(unusable)) from unusable
            if finding:
                yield kind, source, finding

    def _entry(self, name: str) -> Entry:
        try:
            return self.catalogue.parts[name]
        except KeyError:
            raise CatalogueError(f"{name} is no part that parts.toml lists") from None


def _unpublished(entry: Entry) -> list[str]:
    return [f"not published: {entry.missing}"] if entry.missing else []
