"""`python -m e2e.parts`: what each part is, where it comes from, or why it is missing."""

import argparse
import sys
from collections.abc import Mapping

from e2e.cache import CacheUnusable, cache_folder
from e2e.parts import PartMissing, PartRefused, own_resolver
from e2e.parts.catalogue import CatalogueError
from e2e.parts.folder import VARIABLE as FOLDER
from e2e.parts.reachable import VARIABLE as REGISTRY
from e2e.parts.resolve import Resolver
from e2e.parts.source import State

EPILOG = f"""\
examples:
  python -m e2e.parts                                 list all; nothing is fetched or built
  python -m e2e.parts --fetch                         fetch and build now what can be had
  python -m e2e.parts --fetch hami-2.10.0/scheduler   only this one
  {FOLDER}=DIR python -m e2e.parts               first a folder with parts by their names and a SHA256SUMS
  {REGISTRY}=mirror.example python -m e2e.parts  images from a mirror (http://… without TLS)
  {REGISTRY}=none python -m e2e.parts            nothing over the network but Go modules

Parts and their sources are listed in e2e/parts/parts.toml; what was fetched or built is kept in
$POOLMGR_CACHE, else $XDG_CACHE_HOME/poolmgr, else ~/.cache/poolmgr.
"""


def main(arguments: list[str] | None = None) -> int:
    """0 when all is listed, missing parts or not; 1 when a part is refused, or `--fetch` cannot get one. Raises
    SystemExit where there is nothing to list."""
    parser = argparse.ArgumentParser(
        prog="python -m e2e.parts",
        description="List the parts that tests take from other projects: version, where each comes from, or why "
        "it is missing. Tests that need a missing part say so.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="PART", help="only these, as hami-2.10.0/scheduler")
    parser.add_argument("--fetch", action="store_true", help="fetch or build now what can be had")
    options = parser.parse_args(arguments)
    try:
        resolver, kept = own_resolver(), cache_folder()
    except (CatalogueError, CacheUnusable) as error:
        parser.exit(1, f"{error}\n")
    if unknown := [name for name in options.names if name not in resolver.catalogue.parts]:
        parser.error(f"no such part: {', '.join(unknown)} (run without arguments for the list)")
    names = options.names or list(resolver.catalogue.parts)
    refused: dict[str, str] = {}
    missing: dict[str, str] = {}
    lost = [name for name in names if options.fetch and not _fetch(resolver, name, refused, missing)]
    sound = _show(resolver, names, refused, missing)
    print(f"\nkept in {kept}")
    return 0 if sound and not lost else 1


def _fetch(resolver: Resolver, name: str, refused: dict[str, str], missing: dict[str, str]) -> bool:
    """False where a part that is published could not be had; the reason goes into `refused` or `missing`."""
    try:
        resolver.obtain(name)
    except PartMissing as reason:
        missing[name] = str(reason)
        return bool(resolver.catalogue.parts[name].missing)
    except PartRefused as reason:
        refused[name] = str(reason)
        return False
    return True


def _show(
    resolver: Resolver, names: list[str], refused: Mapping[str, str], missing: Mapping[str, str]
) -> bool:
    """Prints a line for each part, and once each reason why parts are missing. False when one is refused, now or
    by `--fetch` before."""
    reasons: dict[tuple[str, ...], int] = {}
    sound = True
    columns = f"{{:{max(map(len, names)) + 2}}}{{:20}}{{}}"
    print(columns.format("PART", "VERSION", "WHERE"))
    for name in names:
        try:
            outlook = resolver.outlook(name)
            if name in refused:
                raise PartRefused(refused[name])
        except PartRefused as reason:
            sound, where = False, f"refused: {reason}"
        else:
            where = outlook.where
            if outlook.state is State.MISSING:
                where = f"missing [{reasons.setdefault(outlook.passed, len(reasons) + 1)}]"
            elif (
                name in missing
            ):  # what was promised did not come: a build that failed, a server that went away
                where = f"missing [{reasons.setdefault((missing[name],), len(reasons) + 1)}]"
        print(columns.format(name, resolver.catalogue.parts[name].version, where))
    for sentences, number in reasons.items():
        print(f"\n[{number}] " + "\n    ".join(sentences))
    return sound


if __name__ == "__main__":
    sys.exit(main())
