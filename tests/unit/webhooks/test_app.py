"""The HTTP shell, called in memory."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from poolmgr.kit.clock import Clock
from tests.unit.webhooks.objects import container, pod, small_fleet, vm
from webhooks.admission import BODY_LIMIT_BYTES, DECIDED_LIMIT_BYTES
from webhooks.app import build_app
from webhooks.decide import Policy
from webhooks.fleet_view import FleetView
from webhooks.turns import MOST_WAITING


class StillClock:
    def now(self) -> float:
        return 1_800_000_000.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the webhook waits for nothing")


class TickingClock(StillClock):
    """A second passes at each look, so that nothing is in time."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        self.at += 2.0
        return self.at


class Feed:
    """A view that a test sets; an exception in its place is raised."""

    def __init__(self, view: FleetView | Exception | None) -> None:
        self.view = view

    def current(self) -> FleetView | None:
        if isinstance(self.view, Exception):
            raise self.view
        return self.view


def client(view: FleetView | Exception | None, clock: Clock | None = None) -> httpx.AsyncClient:
    app = build_app(Policy(), Feed(view), clock or StillClock())
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
            "poolmgr could not check this request and admitted it unchecked; the webhook's log says why"
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


async def test_nesting_beyond_measure_is_a_bad_request_and_counted() -> None:
    deep = b'{"request": {"uid": "u1", "operation": "CREATE", "object": {"spec": ' + b'{"a":' * 100_000
    async with client(None) as http:
        for kind in ("pods", "virtualmachines"):
            answer = await http.post(f"/admit/{kind}", content=deep + b"1" + b"}" * 100_003)
            assert answer.status_code == 400
            assert "nested too deeply to be checked" in answer.text
            assert await unchecked(http, kind, "unreadable") == 1.0
        metrics = (await http.get("/metrics")).text
    assert 'poolmgr_webhook_requests_total{kind="pods",reason="InvalidBody"} 1.0' in metrics


@pytest.mark.parametrize("kind", ["pods", "virtualmachines"])
async def test_an_object_with_a_deep_field_that_nobody_reads_is_decided_on(kind: str) -> None:
    asked = (
        pod(container(gpu=3)) if kind == "pods" else vm("nvidia.com/GA102GL_A10", "nvidia.com/GA102GL_A10")
    )
    body = json.dumps(review(asked)).encode()
    deep = body.replace(
        b'"metadata": {', b'"metadata": {"managedFields": ' + b"[" * 5_000 + b"]" * 5_000 + b", ", 1
    )
    assert deep != body
    async with client(small_fleet()) as http:
        plain = (await http.post(f"/admit/{kind}", content=body)).json()
        assert (await http.post(f"/admit/{kind}", content=deep)).json() == plain


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


async def unchecked(http: httpx.AsyncClient, kind: str, why: str) -> float:
    """How often a review was let pass for this reason."""
    lines = (await http.get("/metrics")).text.splitlines()
    name = f'poolmgr_webhook_unchecked_total{{kind="{kind}",why="{why}"}} '
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


async def test_a_review_whose_turn_comes_too_late_is_let_pass_and_counted() -> None:
    async with client(small_fleet(), TickingClock()) as http:
        answer = await http.post("/admit/pods", json=review(pod(container(gpu=3))))
        response = answer.json()["response"]
        assert (response["uid"], response["allowed"]) == ("u1", True)
        assert response["warnings"] == [
            "poolmgr admitted this request unchecked: it waited too long for its turn"
        ]
        assert await unchecked(http, "pods", "late") == 1


@pytest.mark.parametrize(
    ("kind", "new"),
    [
        ("pods", pod(container(gpu=3), annotations={"note": "x" * DECIDED_LIMIT_BYTES})),
        ("pods", pod(*[container(f"c{n}", gpu=3) for n in range(257)])),
        ("pods", pod(container(gpu=3), annotations={"nvidia.com/use-gputype": "a," * 1024})),
        ("virtualmachines", vm(*["nvidia.com/NONE"] * 257)),
    ],
)
async def test_what_is_larger_than_any_that_is_checked_is_let_pass_and_counted(
    kind: str, new: dict[str, Any]
) -> None:
    async with client(small_fleet()) as http:
        response = (await http.post(f"/admit/{kind}", json=review(new))).json()["response"]
        assert response == {
            "uid": "u1",
            "allowed": True,
            "warnings": ["poolmgr admitted this request unchecked: it is too large to check"],
        }
        assert await unchecked(http, kind, "too_large") == 1


async def test_a_flood_of_one_namespace_is_turned_away_in_part_and_anothers_review_is_checked() -> None:
    async with client(small_fleet()) as http:
        asked = [review(pod(container(gpu=3))) for _ in range(MOST_WAITING + 50)]
        other = review(pod(container(gpu=3)))
        other["request"]["namespace"] = "other"
        answers = await asyncio.gather(*(http.post("/admit/pods", json=one) for one in (*asked, other)))
        allowed = [answer.json()["response"]["allowed"] for answer in answers]
        assert allowed[-1] is False
        assert await unchecked(http, "pods", "crowded") == sum(allowed) <= 50


async def test_an_answer_is_json_with_the_uid_of_the_question() -> None:
    async with client(small_fleet()) as http:
        answer = await http.post("/admit/pods", content=json.dumps(review(pod(container(gpu=1)))))
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["response"]["uid"] == "u1"
