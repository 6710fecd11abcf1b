"""The HTTP shell, called in memory."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.unit.webhooks.objects import container, pod, small_fleet, vm
from webhooks.admission import BODY_LIMIT_BYTES
from webhooks.app import build_app
from webhooks.decide import Policy
from webhooks.fleet_view import FleetView


class StillClock:
    def now(self) -> float:
        return 1_800_000_000.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the webhook waits for nothing")


class Feed:
    """A view that a test sets; an exception in its place is raised."""

    def __init__(self, view: FleetView | Exception | None) -> None:
        self.view = view

    def current(self) -> FleetView | None:
        if isinstance(self.view, Exception):
            raise self.view
        return self.view


def client(view: FleetView | Exception | None) -> httpx.AsyncClient:
    app = build_app(Policy(), Feed(view), StillClock())
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://webhook")


def review(new: dict[str, Any]) -> dict[str, Any]:
    return {"request": {"uid": "u1", "operation": "CREATE", "namespace": "ml", "object": new}}


async def test_answers_a_review() -> None:
    async with client(small_fleet()) as http:
        answer = await http.post("/admit/pods", json=review(pod(container(gpu=3))))
        assert answer.status_code == 200
        assert answer.json()["response"]["status"]["reason"] == "MoreThanAnyNode"
        answer = await http.post("/admit/virtualmachines", json=review(vm("nvidia.com/GA102GL_A10")))
        assert answer.json()["response"]["allowed"] is True
        assert len(answer.json()["response"]["warnings"]) == 2
        metrics = (await http.get("/metrics")).text
        assert 'poolmgr_webhook_requests_total{kind="pods",reason="MoreThanAnyNode"} 1.0' in metrics
        assert 'poolmgr_webhook_seconds_count{kind="virtualmachines"} 1.0' in metrics


@pytest.mark.parametrize("kind", ["pods", "virtualmachines", "gpupools"])
async def test_a_defect_of_ours_lets_the_request_pass_with_a_warning(kind: str) -> None:
    async with client(RuntimeError("planted")) as http:
        response = (await http.post(f"/admit/{kind}", json=review(vm("nvidia.com/x") | pod()))).json()[
            "response"
        ]
        assert response["allowed"] is True
        assert response["warnings"] == [
            "poolmgr could not check this request and let it pass; its webhook's log says why"
        ]


async def test_passes_everything_and_is_not_ready_while_the_fleet_is_unknown() -> None:
    async with client(None) as http:
        answer = await http.post("/admit/pods", json=review(pod(container(gpu=3))))
        response = answer.json()["response"]
        assert (response["allowed"], "warnings" in response) == (True, False)
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.text) == (
            503,
            "The fleet has not been read from the API server yet.\n",
        )
        assert (await http.get("/healthz")).status_code == 200


async def test_ready_once_the_fleet_is_known() -> None:
    async with client(small_fleet()) as http:
        assert (await http.get("/readyz")).status_code == 200


async def test_what_is_no_review_is_a_bad_request() -> None:
    async with client(None) as http:
        answer = await http.post("/admit/pods", content=b"{}")
        assert answer.status_code == 400
        assert "Only an API server should call here." in answer.text
        assert (await http.post("/admit/secrets", content=b"{}")).status_code == 404
        assert (await http.get("/admit/pods")).status_code == 405


async def test_nesting_beyond_measure_is_a_bad_request() -> None:
    deep = b'{"request": {"uid": "u1", "operation": "CREATE", "object": {"spec": ' + b'{"a":' * 100_000
    async with client(None) as http:
        for kind in ("pods", "virtualmachines"):
            answer = await http.post(f"/admit/{kind}", content=deep + b"1" + b"}" * 100_003)
            assert answer.status_code == 400


async def test_a_body_over_the_limit_is_not_read_to_its_end() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 4 * BODY_LIMIT_BYTES:
            sent += 2**20
            yield b"x" * 2**20

    async with client(None) as http:
        answer = await http.post("/admit/pods", content=endless())
        assert answer.status_code == 413
    assert sent < 2 * BODY_LIMIT_BYTES


async def test_an_answer_is_json_with_the_uid_of_the_question() -> None:
    async with client(small_fleet()) as http:
        answer = await http.post("/admit/pods", content=json.dumps(review(pod(container(gpu=1)))))
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["response"]["uid"] == "u1"
