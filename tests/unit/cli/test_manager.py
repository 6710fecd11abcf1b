"""The manager's composition, as far as it has a mind of its own."""

import asyncio
import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from poolmgr.cli import manager


@pytest.fixture
def frozen() -> Iterator[Any]:
    gc.unfreeze()
    yield gc.get_freeze_count
    gc.unfreeze()


@pytest.mark.parametrize(("synced", "spared"), [(True, True), (False, False)])
async def test_collector_is_kept_off_a_view_once_it_is_whole(frozen: Any, synced: bool, spared: bool) -> None:
    controller: Any = SimpleNamespace(snapshot=SimpleNamespace(synced=synced))
    part = asyncio.create_task(manager._spare_the_collector(controller))
    await asyncio.sleep(0)
    assert (frozen() > 0) is spared
    assert not part.done(), "a part that ends would end the manager"
    part.cancel()
