"""The agent's loop goes on, whatever a round meets."""

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


class Api:
    beats = 0

    async def beat(self) -> None:
        self.beats += 1

    async def read_or_create(self) -> dict[str, Any]:
        return {"metadata": {"name": "n"}}
