"""The pod that leads has the mark, and no other."""

import asyncio

import pytest

from poolmgr.cluster.leader_label import AGAIN_SECONDS, LeaderLabel
from poolmgr.domain.errors import PoolError
from poolmgr.domain.identifiers import LeaseEpoch
from poolmgr.wire.annotations import LEADS
from tests.unit.cluster.api_bench import ApiBench
from tests.unit.cluster.builders import pod

PODS = "/api/v1/pods"
HERE = "poolmgr-system"


def bench_with(**marks: str) -> ApiBench:
    """Pods by name, with what the label says; empty for one that has none."""
    bench = ApiBench()
    bench.api.kinds.add(f"/api/v1/namespaces/{HERE}/pods")
    for name, mark in marks.items():
        bench.api.put(PODS, pod(name, HERE, labels={"app": "manager", **({LEADS: mark} if mark else {})}))
    return bench


def marked(bench: ApiBench) -> dict[str, str]:
    pods = [body["metadata"] for path, body in bench.api.objects.items() if "/pods/" in path]
    assert all(meta["labels"]["app"] == "manager" for meta in pods)
    return {meta["name"]: meta["labels"][LEADS] for meta in pods if LEADS in meta["labels"]}


@pytest.mark.parametrize(
    "before", [{}, {"a": "true"}, {"b": "true"}, {"a": "true", "b": "true", "c": "true"}]
)
async def test_it_marks_its_own_pod_and_takes_the_mark_off_others(before: dict[str, str]) -> None:
    bench = bench_with(**{"a": "", "b": "", "c": "", **before})
    await LeaderLabel(bench.client, HERE, "a").mark()
    assert marked(bench) == {"a": "true"}
    writes = bench.api.count("PATCH")
    await LeaderLabel(bench.client, HERE, "a").mark()
    assert bench.api.count("PATCH") == writes, "nothing is left to do"


async def test_another_mark_than_ours_is_nobodys_business() -> None:
    bench = bench_with(a="", b="never")
    await LeaderLabel(bench.client, HERE, "a").mark()
    assert marked(bench) == {"a": "true", "b": "never"}


async def test_a_pod_that_led_before_and_comes_back_with_its_mark_loses_it() -> None:
    bench = bench_with(a="", b="")
    running = asyncio.ensure_future(LeaderLabel(bench.client, HERE, "a").keep(LeaseEpoch(1)))
    await bench.clock.advance(1)
    assert marked(bench) == {"a": "true"}
    bench.api.put(PODS, pod("b", HERE, labels={"app": "manager", LEADS: "true"}))
    await bench.clock.advance(AGAIN_SECONDS)
    assert marked(bench) == {"a": "true"}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_api_server_that_says_no_ends_nothing() -> None:
    bench = bench_with(b="")
    label = LeaderLabel(bench.client, HERE, "a")
    with pytest.raises(PoolError):
        await label.mark()
    running = asyncio.ensure_future(label.keep(LeaseEpoch(1)))
    await bench.clock.advance(AGAIN_SECONDS + 1)
    assert not running.done()
    bench.api.put(PODS, pod("a", HERE, labels={"app": "manager"}))
    await bench.clock.advance(AGAIN_SECONDS + 1)
    assert marked(bench) == {"a": "true"}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
