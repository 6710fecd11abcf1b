"""The agent's loop goes on, whatever a round meets."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from poolmgr.agent.heartbeat import STUCK_SECONDS, Heartbeat
from poolmgr.agent.run import FAILED_PASS_SECONDS, Loop
from poolmgr.agent.settings import AgentSettings
from poolmgr.domain.errors import Unavailable
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.reasons import Reason
from tests.fake_node import FakeClock

OF_DATA = (
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a name that is no text"),
    ValueError("a number that is none"),
    KeyError("a field that is missing"),
    TypeError("a list where a text should be"),
    RecursionError("brackets without end"),
    OSError("a file that cannot be read"),
    Unavailable(Reason.API_UNAVAILABLE, "nobody answers"),
)


class Rounds:
    """Meets `error` in its first round, nothing in the next."""

    def __init__(self, error: Exception) -> None:
        self._errors = [error]

    async def reconcile(self, body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        if self._errors:
            raise self._errors.pop()
        return body, False


@pytest.mark.parametrize("error", OF_DATA, ids=lambda error: type(error).__name__)
async def test_a_round_that_fails_is_followed_by_another(error: Exception) -> None:
    settings = AgentSettings(NodeName("n"))
    clock, api = FakeClock(), Api()
    heartbeat = Heartbeat(api, clock)
    loop = Loop(Rounds(error), api, settings, clock, heartbeat)  # type: ignore[arg-type]
    clock.time += STUCK_SECONDS + 1
    assert await loop._reconcile() == FAILED_PASS_SECONDS
    await heartbeat.beat()
    assert api.beats == 0, "an agent whose every look fails says nothing new"
    assert await loop._reconcile() == settings.poll_seconds
    await heartbeat.beat()
    assert api.beats == 1


class Cluster:
    """Our GPUNode on an API server whose watch is silent from a version that it has not reached."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.watched_from: list[int] = []

    async def read_or_create(self) -> dict[str, Any]:
        return {"metadata": {"name": "n", "resourceVersion": str(self.version)}}

    async def watch(self, resource_version: str) -> AsyncIterator[dict[str, Any]]:
        self.watched_from.append(int(resource_version))
        await asyncio.Event().wait()
        yield {}


class Leaders:
    forgotten = 0

    def forget_leaders(self) -> None:
        self.forgotten += 1


async def watching(loop: Loop) -> None:
    task = asyncio.ensure_future(loop._watch())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(("restored", "forgotten"), [(7, 1), (960, 0), (961, 0)])
async def test_gpunode_of_a_restored_etcd_takes_the_place_of_a_newer_one(
    restored: int, forgotten: int
) -> None:
    clock, api, leaders = FakeClock(), Cluster(960), Leaders()
    loop = Loop(leaders, api, AgentSettings(NodeName("n")), clock, Heartbeat(Api(), clock))  # type: ignore[arg-type]
    await loop._read()
    api.version = restored
    await watching(loop)
    assert api.watched_from == [restored]
    assert loop._body == await api.read_or_create()
    assert leaders.forgotten == forgotten


async def test_restore_is_noticed_also_where_a_refused_write_tells_of_it_first() -> None:
    clock, api, leaders = FakeClock(), Cluster(960), Leaders()
    loop = Loop(leaders, api, AgentSettings(NodeName("n")), clock, Heartbeat(Api(), clock))  # type: ignore[arg-type]
    await loop._read()
    api.version, loop._body = 7, {}
    await loop._read()
    assert leaders.forgotten == 1


class Api:
    beats = 0

    async def beat(self) -> None:
        self.beats += 1

    async def read_or_create(self) -> dict[str, Any]:
        return {"metadata": {"name": "n"}}
