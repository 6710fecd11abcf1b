"""Holds libhook's sources to the layers of its README: nothing reaches up, nothing in a circle, one header per source.

Read from the #includes and from the symbols that the built objects define and want.
"""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from conftest import BUILD, LIBHOOK

SOURCES = LIBHOOK / "src"
ROW = re.compile(r"^\| \d+ [^|]*\|[^|]*\| ((?:`\w+`,? ?)+)\|$", re.MULTILINE)
"""A row of the README's table: number and name, what it may do, its files."""
INCLUDE = re.compile(r'^#include "(\w+)\.h"$', re.MULTILINE)
GENERATED = {"ph_calls": "calls", "ph_wrappers": "wrappers", "ph_hooks": "hooks"}
"""Files made from hooks.def, by the part that they are of."""
ADDRESSES_ALONE = {("calls", "wrappers")}
"""The table of calls holds the addresses of our exports. It calls none."""
EXPORT = re.compile(r"ph_dlv?sym_(old|new|answer)$")
"""Where the exported dlsym and dlvsym begin: only assembly and the version script name them."""
Edges = set[tuple[str, str]]
Symbols = dict[str, tuple[set[str], set[str]]]
"""What each object defines, and what it wants of others."""


def part_of(name: str) -> str:
    return GENERATED.get(name, name)


def layers(readme: str) -> dict[str, int]:
    """The part's layer; 0 is the lowest."""
    rows = [re.findall(r"`(\w+)`", files) for files in ROW.findall(readme)]
    listed = [(part, level) for level, parts in enumerate(rows) for part in parts]
    assert len(listed) == len(dict(listed)), "a file stands in two layers"
    return dict(listed)


def included(sources: Iterable[Path]) -> Edges:
    return {
        (part_of(path.stem), part_of(name))
        for path in sources
        for name in INCLUDE.findall(path.read_text())
        if part_of(path.stem) != part_of(name)
    }


def symbols_of(objects: Iterable[Path]) -> Symbols:
    found: Symbols = {}
    for path in objects:
        part = part_of(path.name.removesuffix(".c.o").rpartition("src_")[2].rpartition("_.._")[2])
        listed = subprocess.run(
            [os.environ.get("NM", "nm"), "-g", path], capture_output=True, text=True, check=True
        ).stdout
        rows = [line.split()[-2:] for line in listed.splitlines()]
        found[part] = (
            {name.partition("@")[0] for kind, name in rows if kind not in "Uw"},
            {name for kind, name in rows if kind in "Uw"},
        )
    return found


def linked(symbols: Symbols) -> Edges:
    where = {name: part for part, (defines, _) in symbols.items() for name in defines}
    return {
        (part, where[name])
        for part, (_, wants) in symbols.items()
        for name in wants
        if where.get(name, part) != part
    }


def violations(edges: Edges, level: dict[str, int]) -> Iterator[str]:
    edges = edges - ADDRESSES_ALONE
    for user, used in sorted(edges):
        if user not in level or used not in level:
            yield f"{user if user not in level else used} stands in no layer of the README"
        elif level[used] > level[user]:
            yield f"{user} reaches up to {used}"
    graph: dict[str, set[str]] = {}
    for user, used in edges:
        graph.setdefault(user, set()).add(used)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "a circle: " + " → ".join(reversed(error.args[1]))


@pytest.fixture(scope="module")
def level() -> dict[str, int]:
    return layers((LIBHOOK / "README.md").read_text())


@pytest.fixture(scope="module")
def symbols() -> Symbols:
    return symbols_of((BUILD / "libvgpu.so.p").glob("*.c.o"))


def files() -> list[Path]:
    return [*SOURCES.glob("*.[ch]"), *(path for path in BUILD.glob("ph_*.[ch]"))]


def test_every_source_stands_in_one_layer(level: dict[str, int]) -> None:
    assert {part_of(path.stem) for path in files()} == set(level)


def test_no_include_reaches_up_or_closes_a_circle(level: dict[str, int]) -> None:
    assert list(violations(included(files()), level)) == []


def test_no_symbol_reaches_up_or_closes_a_circle(level: dict[str, int], symbols: Symbols) -> None:
    assert len(symbols) > 30
    assert list(violations(linked(symbols), level)) == []


def test_what_a_source_offers_is_declared_by_its_own_header(symbols: Symbols) -> None:
    of_the_table = set(re.findall(r"\bph_\w+", (BUILD / "ph_hooks.h").read_text()))
    for part, (defines, _) in symbols.items():
        header = SOURCES / f"{part}.h"
        declared = set(re.findall(r"\bph_\w+", header.read_text())) if header.exists() else set()
        offered = {
            name for name in defines if name.startswith("ph_") and not EXPORT.match(name)
        } - of_the_table
        assert offered <= declared, f"{part}.c offers what {part}.h does not declare"


def test_the_pure_want_nothing_of_the_machine(level: dict[str, int], symbols: Symbols) -> None:
    offered = {name for part, (defines, _) in symbols.items() if level[part] == 0 for name in defines}
    of_the_compiler = re.compile(r"mem(set|cpy|move)$|_GLOBAL_OFFSET_TABLE_$|__\w+$")
    for part, (_, wants) in symbols.items():
        if level[part] == 0:
            assert {name for name in wants - offered if not of_the_compiler.match(name)} == set(), part


def test_the_drivers_headers_are_met_in_its_own_layer_first() -> None:
    met = {path.name for path in files() if re.search(r"#include <(cuda|nvml)\w*\.h>", path.read_text())}
    assert met == {"calls.h"}


@pytest.mark.parametrize(
    ("file", "header", "found"),
    [
        ("region.c", "limiter", "region reaches up to limiter"),
        ("measurements.h", "batches", "a circle: "),
        ("clock.c", "driver", "clock reaches up to driver"),
    ],
)
def test_a_planted_include_is_found(
    tmp_path: Path, level: dict[str, int], file: str, header: str, found: str
) -> None:
    planted = tmp_path / file
    planted.write_text((SOURCES / file).read_text() + f'#include "{header}.h"\n')
    others = [path for path in files() if path.name != file]
    assert any(line.startswith(found) for line in violations(included([*others, planted]), level))


@pytest.mark.parametrize(
    ("user", "symbol", "found"),
    [
        ("slots", "ph_shares_charge", "slots reaches up to shares"),
        ("shares", "ph_measurements_read", "a circle: "),
    ],
)
def test_a_planted_call_is_found(
    level: dict[str, int], symbols: Symbols, user: str, symbol: str, found: str
) -> None:
    defines, wants = symbols[user]
    planted = {**symbols, user: (defines, wants | {symbol})}
    assert any(line.startswith(found) for line in violations(linked(planted), level))
