"""Lists of parts for tests of the package."""

from pathlib import Path

from e2e.parts import resolver
from e2e.parts.catalogue import load
from e2e.parts.resolve import Resolver

ORDER = 'order = ["folder", "cache", "image", "chart", "module"]\n'


def lists(folder: Path, parts: str, images: str = "[images]\n") -> Resolver:
    """Finds the parts of a list of `parts` and `images`, written into `folder`."""
    path = folder / "parts.toml"
    path.write_text(ORDER + images + parts)
    return resolver(load(path))
