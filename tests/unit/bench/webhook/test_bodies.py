"""The reviews are what an API server would send, of the sizes that the table names."""

import json

import pytest

from bench.webhook.bodies import LAUNCHER, PLAIN, VGPU, bodies
from poolmgr.domain.reasons import Reason
from tests.unit.webhooks.objects import small_fleet
from webhooks.decide import Policy, handlers, read


@pytest.mark.parametrize(("key", "kilobytes"), [(VGPU, 2), (PLAIN, 2), (LAUNCHER, 18)])
def test_a_review_has_the_size_that_it_is_named_by(key: str, kilobytes: int) -> None:
    body = bodies()[key]
    assert abs(len(body.content) / 1000 - kilobytes) <= 0.5
    assert body.title.endswith(f", {kilobytes} KB")
    assert json.loads(body.content)["request"]["uid"] == body.uid


@pytest.mark.parametrize(
    ("key", "reason", "patched"),
    [(VGPU, Reason.ADMITTED, True), (PLAIN, Reason.NOT_OURS, False), (LAUNCHER, Reason.ADMITTED, True)],
)
def test_a_review_takes_the_way_through_our_webhook_that_it_is_for(
    key: str, reason: Reason, patched: bool
) -> None:
    answer = handlers(Policy(), lambda: 0.0)["pods"](read("pods", bodies()[key].content), small_fleet())
    assert (answer.verdict.reason, bool(answer.patch)) == (reason, patched)


def test_a_review_says_who_owns_which_field_as_an_api_server_does() -> None:
    pod = json.loads(bodies()[VGPU].content)["request"]["object"]
    owned = pod["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:containers"]
    assert "f:limits" in owned['k:{"name":"main"}']["f:resources"]
