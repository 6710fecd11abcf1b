"""Holds the lock order of `locks.h`, the explanation of it and the sources to each other."""

import re

from conftest import LIBHOOK

LISTED = re.compile(r"^ +X\((\w+), PH_(\w+)\)", re.MULTILINE)
EXPLAINED = re.compile(r"^\| `([A-Z_]+)` \| (\w+\.[ch]) \| [^|]+ \| (no|asks|waits)\b", re.MULTILINE)
USES = {"NO_DRIVER": "no", "ASKS": "asks", "WAITS": "waits"}
SOURCES = {path.name: path.read_text() for path in (LIBHOOK / "src").glob("*.[ch]")}


def listed() -> list[tuple[str, str]]:
    return LISTED.findall(SOURCES["locks.h"])


def test_the_explanation_has_the_same_locks_in_the_same_order() -> None:
    explained = (LIBHOOK.parent / "docs/explanation/how-the-hook-limits.md").read_text()
    assert [(lock, use) for lock, _, use in EXPLAINED.findall(explained)] == [
        (lock, USES[use]) for lock, use in listed()
    ]
    for lock, file, _ in EXPLAINED.findall(explained):
        assert re.search(rf"PH_MUTEX\({lock}\)|PH_{lock}_LOCK", SOURCES[file]), f"{lock} is not in {file}"


def test_every_mutex_is_in_the_order_and_begins_anew_in_children() -> None:
    for name, text in SOURCES.items():
        bare = re.search(r"pthread_(mutex|rwlock|cond|spin)", text)
        assert not bare or name in ("locks.h", "old_glibc.h"), name
        for mutex, lock in re.findall(r"struct ph_mutex (\w+) = PH_MUTEX\((\w+)\)", text):
            assert lock in dict(listed())
            assert f"ph_mutex_after_fork(&{mutex})" in text, f"{name}: {mutex} stays shut in children"


def test_no_two_mutexes_share_a_place_in_the_order() -> None:
    taken = [lock for text in SOURCES.values() for lock in re.findall(r"= PH_MUTEX\((\w+)\)", text)]
    assert sorted([*taken, "BATCH"]) == sorted(dict(listed()))
