"""`POST /nodes/{name}:retry`: whose pauses end, by whom, and that a refusal changes nothing."""

import pytest

from poolmgr.domain.backoff import WHOLE_NODE, Backoff
from poolmgr.domain.errors import PoolError, Rejected, Unavailable
from poolmgr.domain.reasons import Reason
from tests.showcase import NOW
from tests.unit.api.stand_ins import Records, Steering, client

URL = "/api/v1/nodes/gpu-1:retry"
PAUSE = Backoff(WHOLE_NODE, "StepTimedOut", "Detach took over 240 s", 2, NOW - 60, NOW + 3_600)


async def test_says_whose_pauses_end() -> None:
    control, records = Steering(resting=(PAUSE,)), Records()
    async with client(control, records) as http:
        answer = await http.post(URL, json={"dryRun": False, "devices": ["0000:3b:00.0"]})
    assert answer.status_code == 200
    assert control.retried == [("gpu-1", ("0000:3b:00.0",), False)]
    body = answer.json()
    assert (body["node"], body["dryRun"]) == ("gpu-1", False)
    assert [(p["pciAddress"], p["reason"], p["failures"]) for p in body["ended"]] == [("", "StepTimedOut", 2)]
    assert [(c.path, c.status, c.dry_run) for c in records.calls] == [(URL, 200, False)]


@pytest.mark.parametrize(
    "body", [{}, {"dryRun": True, "devices": "0000:3b:00.0"}, {"dryRun": True, "all": True}]
)
async def test_a_body_that_is_not_understood_asks_nothing(body: dict[str, object]) -> None:
    control = Steering()
    async with client(control) as http:
        assert (await http.post(URL, json=body)).status_code == 422
    assert control.retried == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Rejected(Reason.NOT_FOUND, "there is no node 'gpu-1' with an agent"), 404),
        (Unavailable(Reason.NODE_IN_TRANSITION, "GPUs of gpu-1 are moving", 30.0), 503),
    ],
)
async def test_refusals_are_problems(error: PoolError, status: int) -> None:
    async with client(Steering(refuse=error)) as http:
        answer = await http.post(URL, json={"dryRun": False})
    assert (answer.status_code, answer.json()["detail"]) == (status, error.message)


async def test_it_takes_the_right_of_an_operator() -> None:
    control = Steering()
    async with client(control, token="secret") as http:
        assert (await http.post(URL, json={"dryRun": False})).status_code == 401
    assert control.retried == []
