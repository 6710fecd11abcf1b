"""Calls that are refused or not answered in time are counted, and the others are asked all the same."""

import httpx
import pytest

from bench.live import calls


async def test_a_call_that_is_not_answered_in_time_is_counted_and_the_next_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "PAUSE_SECONDS", 0.0)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/":
            raise httpx.ReadTimeout("slow", request=request)
        return httpx.Response(409 if request.url.path == "/metrics" else 200)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        took, refused = await calls.measure(http, "http://manager", 2)
    assert {name: times for name, times in refused.items() if times} == {"page": 2, "GET /metrics": 2}
    assert {len(seconds) for seconds in took.values()} == {2}
