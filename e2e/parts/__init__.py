"""Parts that tests run and do not contain: HAMi, KubeVirt, HAMi-core. Which and from where: `parts.toml`.

`part("hami-2.10.0/scheduler")` gives a file that can be used, or raises PartMissing with the reason a skipped test
shows; `obtain` says where it came from, too. `python -m e2e.parts` lists them.
"""

from functools import cache
from pathlib import Path

from e2e.parts.catalogue import Catalogue, load
from e2e.parts.chart import ChartSource
from e2e.parts.folder import FolderSource
from e2e.parts.image import ImageSource
from e2e.parts.module import ModuleSource
from e2e.parts.resolve import Resolver
from e2e.parts.source import Part, PartMissing, PartRefused
from e2e.parts.store import CacheSource

__all__ = ["Part", "PartMissing", "PartRefused", "obtain", "own_resolver", "part", "resolver"]


def resolver(catalogue: Catalogue) -> Resolver:
    """Finds the parts of a list."""
    store = CacheSource(catalogue)
    return Resolver(
        catalogue,
        {
            "folder": FolderSource(),
            "cache": store,
            "image": ImageSource(catalogue, store),
            "chart": ChartSource(store),
            "module": ModuleSource(),
        },
    )


@cache
def own_resolver() -> Resolver:
    """Finds the parts of `parts.toml`, one for the run: what cannot be fetched is not tried again."""
    return resolver(load())


def obtain(name: str) -> Part:
    """A listed part with its version and origin, fetched or built if need be. Raises PartMissing, PartRefused."""
    return own_resolver().obtain(name)


def part(name: str) -> Path:
    """File of a listed part, as `hami-2.10.0/scheduler`. Raises PartMissing, PartRefused."""
    return obtain(name).path
