"""The demo's front desk: the webhook knows the simulated fleet, and each machine is asked about once."""

import asyncio
import json
from dataclasses import replace

import httpx
import pytest

from poolmgr.cli.demo_admission import SnapshotFeed, _new, ask_about_machines, review
from poolmgr.domain.demand import DeviceClaim
from poolmgr.domain.modes import Mode
from tests.showcase import A10_RESOURCE, fleet, vm
from tests.unit.api.stand_ins import Steering, StillClock
from webhooks.decide import Policy, handlers
from webhooks.review import decode_review


def test_webhook_sees_the_fleet_as_the_cluster_would_show_it() -> None:
    view = SnapshotFeed(Steering()).current()  # type: ignore[arg-type]
    assert view is not None
    a10 = view.named("NVIDIA A10")
    assert a10 is not None
    assert (a10.gpus, a10.most_on_a_node, a10.in_shared) == (8, 4, 3)
    assert view.leaving == {"GPU-rack-2-2"}
    assert a10.limits[Mode.PASSTHROUGH] == 6


def test_view_is_made_again_only_for_a_new_generation() -> None:
    control = Steering()
    feed = SnapshotFeed(control)  # type: ignore[arg-type]
    first = feed.current()
    assert feed.current() is first
    control.snapshot = fleet(generation=99)
    assert feed.current() is not first


def test_machine_becomes_a_review_that_the_webhook_understands() -> None:
    feed = SnapshotFeed(Steering())  # type: ignore[arg-type]
    request = decode_review(json.dumps(review(vm("greedy", claims=()))).encode())
    decide = handlers(Policy(), StillClock().now)["virtualmachines"]
    assert decide(request, feed.current()).verdict
    five = vm("five", claims=(DeviceClaim(A10_RESOURCE, 5),))
    refused = decide(decode_review(json.dumps(review(five)).encode()), feed.current())
    assert not refused.verdict
    assert "4" in refused.verdict.message
    assert A10_RESOURCE in json.dumps(review(five))


def test_each_waiting_machine_is_asked_about_once() -> None:
    asked: set[str] = set()
    snapshot = fleet()
    assert [v.name for v in _new(snapshot, asked)] == ["ada-workstation"]
    assert _new(snapshot, asked) == []
    assert _new(None, asked) == []
    assert asked == set()


class Turn:
    """A clock whose sleep only lets others run."""

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "trouble",
    [httpx.ReadError("connection closed"), httpx.ConnectError("refused"), httpx.ReadTimeout("no answer")],
)
async def test_a_machine_that_could_not_be_asked_about_is_a_line_and_the_next_is_asked(
    trouble: httpx.TransportError,
) -> None:
    control = Steering(snapshot=replace(fleet(), vms=(vm("first"),)))
    answers: list[Exception | dict[str, object]] = [trouble, {"response": {"warnings": ["wait", "follow"]}}]

    def answer(request: httpx.Request) -> httpx.Response:
        given = answers.pop(0)
        if isinstance(given, Exception):
            raise given
        return httpx.Response(200, json=given)

    asking = ask_about_machines(
        control,  # type: ignore[arg-type]
        "http://webhook",
        Turn(),
        transport=httpx.MockTransport(answer),
    )
    assert "first could not be told anything: the webhook did not answer" in await anext(asking)
    control.snapshot = replace(fleet(generation=99), vms=(vm("first"), vm("second")))
    assert await anext(asking) == "07:55 cad/second was told: wait"
    await asking.aclose()
