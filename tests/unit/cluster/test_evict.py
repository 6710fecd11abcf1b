"""Evictions."""

from typing import Any

import pytest

from poolmgr.cluster.evict import KubernetesEvictor
from poolmgr.cluster.transport import Response
from poolmgr.domain.errors import Rejected, Stale
from poolmgr.domain.identifiers import WorkloadUid
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from tests.unit.cluster.api_bench import ApiBench, Held


async def evicted(status: int, message: str = "said", epoch: int | None = 3) -> tuple[ApiBench, Verdict]:
    cluster = ApiBench()
    cluster.transport.answers.append(Response(status, f'{{"message":"{message}"}}'.encode()))
    return cluster, await KubernetesEvictor(cluster.client, Held(epoch)).evict(WorkloadUid("u"), "ml", "p1")


async def test_granted_eviction() -> None:
    cluster, verdict = await evicted(201)
    assert (verdict.ok, verdict.reason) == (True, Reason.EVICTED)
    assert cluster.api.requests == [("POST", "/api/v1/namespaces/ml/pods/p1/eviction")]


async def test_budgets_no_is_a_verdict_in_its_own_words() -> None:
    _, verdict = await evicted(429, "would violate the pod's disruption budget")
    assert (verdict.ok, verdict.reason) == (False, Reason.EVICTION_DENIED)
    assert verdict.message == "pod ml/p1 stays: would violate the pod's disruption budget"


@pytest.mark.parametrize("status", [404, 409])
async def test_pod_that_is_gone_or_replaced_counts_as_evicted(status: int) -> None:
    _, verdict = await evicted(status)
    assert verdict.ok


async def test_missing_right_is_an_error() -> None:
    with pytest.raises(Rejected, match="Grant this service account"):
        await evicted(403)


async def test_without_the_lease_nobody_is_evicted() -> None:
    with pytest.raises(Stale):
        await evicted(201, epoch=None)


@pytest.mark.parametrize(("there", "hit"), [("u", True), ("successor", False)])
async def test_a_successor_of_the_same_name_is_not_hit(there: str, hit: bool) -> None:
    cluster = ApiBench()
    evicted: list[str] = []

    def evict(method: str, path: str, query: object, body: Any, content_type: str) -> Response:
        wanted = body.get("deleteOptions", {}).get("preconditions", {}).get("uid", there)
        if wanted != there:
            return Response(409, b'{"message":"the UID in the precondition does not match"}')
        evicted.append(there)
        return Response(201, b"{}")

    cluster.api.handle = evict  # type: ignore[method-assign]
    verdict = await KubernetesEvictor(cluster.client, Held(3)).evict(WorkloadUid("u"), "ml", "p1")
    assert verdict.ok
    assert bool(evicted) is hit
