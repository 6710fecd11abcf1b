"""Who a token belongs to and what they may is asked of the cluster, and not too often."""

import json
import random
from collections.abc import Mapping
from typing import Any

import pytest

from poolmgr.cluster.access import (
    ACCESS_REVIEWS,
    CACHE_SECONDS,
    LONGEST_TOKEN,
    MOST_CACHED,
    TOKEN_REVIEWS,
    KubernetesAccess,
)
from poolmgr.cluster.client import Client
from poolmgr.cluster.transport import Response
from poolmgr.domain.access import METRICS, READ, Forbidden, Unauthenticated, rebalance
from poolmgr.domain.errors import Unavailable
from tests.unit.cluster.virtual_clock import VirtualClock

ANN = {"username": "ann", "uid": "7", "groups": ["desk", "system:authenticated"], "extra": {"scope": ["a"]}}


class Cluster:
    """Answers the two reviews by `users` (token → user) and `rights` (user's name, verb and target)."""

    def __init__(self) -> None:
        self.users = {"good": ANN}
        self.rights = {("ann", "list gpupools")}
        self.asked: list[tuple[str, Any]] = []
        self.down = False

    async def request(
        self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str, seconds: float
    ) -> Response:
        spec = body["spec"]
        self.asked.append((path, spec))
        if self.down:
            return Response(503, b"{}")
        if path == TOKEN_REVIEWS:
            user = self.users.get(spec["token"])
            status: Any = {"authenticated": True, "user": user} if user else {"error": "unknown token"}
        else:
            assert path == ACCESS_REVIEWS
            about = spec.get("resourceAttributes") or spec["nonResourceAttributes"]
            target = "/".join(
                filter(None, (about.get("path"), about.get("resource"), about.get("subresource")))
            )
            status = {"allowed": (spec["user"], f"{about['verb']} {target}") in self.rights}
        return Response(201, json.dumps({"status": status}).encode())


class Rig:
    def __init__(self) -> None:
        self.cluster, self.clock = Cluster(), VirtualClock()
        client = Client(self.cluster, clock=self.clock, rng=random.Random(1))  # type: ignore[arg-type]
        self.access = KubernetesAccess(client)

    @property
    def asked(self) -> int:
        return len(self.cluster.asked)


async def test_who_has_the_right_is_let_in_by_name() -> None:
    rig = Rig()
    assert await rig.access.admit("good", "10.0.0.9", READ) == "ann"
    (_, token), (_, spec) = rig.cluster.asked
    assert token == {"token": "good"}
    assert (spec["user"], spec["uid"], spec["groups"], spec["extra"]) == (
        "ann",
        "7",
        ANN["groups"],
        ANN["extra"],
    )
    assert spec["resourceAttributes"]["group"] == "poolmgr.io"


async def test_who_lacks_the_right_is_told_which() -> None:
    rig = Rig()
    with pytest.raises(Forbidden, match=r"ann may not create gpupools\.poolmgr\.io/rebalance"):
        await rig.access.admit("good", "", rebalance("desktops"))
    assert rig.cluster.asked[-1][1]["resourceAttributes"]["name"] == "desktops"


async def test_metrics_are_a_path_and_no_resource() -> None:
    rig = Rig()
    rig.cluster.rights.add(("ann", "get /metrics"))
    assert await rig.access.admit("good", "", METRICS) == "ann"


@pytest.mark.parametrize("token", ["", "bad", "x" * (LONGEST_TOKEN + 1)])
async def test_a_stranger_is_let_in_nowhere(token: str) -> None:
    rig = Rig()
    with pytest.raises(Unauthenticated):
        await rig.access.admit(token, "", READ)
    assert ACCESS_REVIEWS not in {path for path, _ in rig.cluster.asked}


async def test_a_user_without_a_name_is_nobody() -> None:
    rig = Rig()
    rig.cluster.users["odd"] = {"username": ""}
    with pytest.raises(Unauthenticated):
        await rig.access.admit("odd", "", READ)


async def test_answers_are_kept_for_seconds_and_then_asked_for_anew() -> None:
    rig = Rig()
    for _ in range(5):
        await rig.access.admit("good", "", READ)
    assert rig.asked == 2
    del rig.cluster.users["good"]
    await rig.clock.advance(CACHE_SECONDS)
    with pytest.raises(Unauthenticated):
        await rig.access.admit("good", "", READ)


async def test_a_right_that_was_given_counts_seconds_later() -> None:
    rig = Rig()
    rig.cluster.rights.clear()
    with pytest.raises(Forbidden):
        await rig.access.admit("good", "", READ)
    rig.cluster.rights.add(("ann", "list gpupools"))
    await rig.clock.advance(CACHE_SECONDS)
    assert await rig.access.admit("good", "", READ) == "ann"


async def test_an_api_server_that_cannot_answer_lets_nobody_in_and_is_asked_again() -> None:
    rig = Rig()
    rig.cluster.down = True
    with pytest.raises(Unavailable):
        await rig.access.admit("good", "", READ)
    rig.cluster.down = False
    assert await rig.access.admit("good", "", READ) == "ann"


async def test_tokens_that_are_none_fill_no_memory() -> None:
    rig = Rig()
    for number in range(MOST_CACHED + 200):
        with pytest.raises(Unauthenticated):
            await rig.access.admit(f"bad-{number}", "", READ)
    assert len(rig.access._cache) <= MOST_CACHED
