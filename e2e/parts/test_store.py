"""What an earlier run fetched is used as long as it is what it was then."""

from pathlib import Path

import pytest

from e2e.parts.catalogue import Catalogue, Chart, Entry
from e2e.parts.source import State
from e2e.parts.store import CacheSource

CHART = Entry("1", chart=Chart("https://charts.example/tool.tgz", "0" * 64))


@pytest.mark.parametrize(
    "damage", [lambda path: path.write_bytes(b""), Path.unlink], ids=["emptied", "deleted"]
)
def test_what_is_no_longer_what_was_fetched_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: object
) -> None:
    assert callable(damage)
    monkeypatch.setenv("POOLMGR_CACHE", str(tmp_path))
    store = CacheSource(Catalogue((), {}, {}))
    kept = store.keep("tool-1/chart.tgz", CHART, b"chart", "a test")
    found = store.look("tool-1/chart.tgz", CHART)
    assert found is not None
    assert found.state is State.HERE
    damage(kept.path)
    found = store.look("tool-1/chart.tgz", CHART)
    assert found is not None
    assert found.state is State.MISSING
