"""Events: merged, limited, never in the way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from poolmgr.cluster.events import BURST, MERGE_SECONDS, QUEUE_LENGTH, REFILL_SECONDS, KubernetesRecorder
from poolmgr.cluster.references import ObjectReference
from poolmgr.domain.plan import Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from tests.unit.cluster.api_bench import ApiBench

POD = Subject(SubjectKind.POD, "ml", "p1")


class Bench(ApiBench):
    def __init__(self) -> None:
        super().__init__()
        self.recorder = KubernetesRecorder(self.client, self.resolve, instance="me")

    def resolve(self, subject: Subject) -> tuple[ObjectReference, ...]:
        return (
            ObjectReference("v1", subject.kind.value, subject.name, subject.namespace, f"uid-{subject.name}"),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self.recorder.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def say(self, message: str, subject: Subject = POD, **over: Any) -> None:
        await self.recorder.event(subject, Reason.NO_CANDIDATE, message, **over)
        await self.clock.settle()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [o for path, o in self.api.objects.items() if "/events/" in path]


async def test_event_names_its_object_so_that_kubectl_describe_finds_it() -> None:
    bench = Bench()
    async with bench.running():
        await bench.say("no GPU can be moved", warning=True)
    (event,) = bench.events
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": "p1",
        "namespace": "ml",
        "uid": "uid-p1",
    }
    assert (event["type"], event["reason"], event["message"]) == (
        "Warning",
        "NoCandidate",
        "no GPU can be moved",
    )
    assert event["metadata"]["namespace"] == "ml"


async def test_event_about_a_cluster_object_lives_in_default() -> None:
    bench = Bench()
    async with bench.running():
        await bench.say("x", Subject(SubjectKind.POOL, "", "a10"))
    assert bench.events[0]["metadata"]["namespace"] == "default"


async def test_equal_events_count_up_one_object_until_the_window_has_passed() -> None:
    bench = Bench()
    async with bench.running():
        for _ in range(3):
            await bench.say("same")
        await bench.say("another")
        assert sorted(event["count"] for event in bench.events) == [1, 3]
        await bench.clock.advance(MERGE_SECONDS + 1)
        await bench.say("same")
        assert sorted(event["count"] for event in bench.events) == [1, 1, 3]


async def test_object_that_flaps_is_limited_and_others_are_not() -> None:
    bench = Bench()
    async with bench.running():
        for i in range(BURST + 10):
            await bench.say(f"message {i}")
        assert len(bench.events) == BURST
        assert bench.recorder.dropped == 10
        await bench.say("mine", Subject(SubjectKind.POD, "ml", "p2"))
        assert len(bench.events) == BURST + 1
        await bench.clock.advance(2 * REFILL_SECONDS)
        await bench.say("one more")
        assert len(bench.events) == BURST + 2


async def test_event_forgotten_by_the_api_server_is_made_again() -> None:
    bench = Bench()
    async with bench.running():
        await bench.say("same")
        bench.api.remove(next(iter(bench.api.objects)))
        await bench.say("same")
        assert [event["count"] for event in bench.events] == [1]


async def test_outage_loses_events_and_nothing_else() -> None:
    bench = Bench()
    async with bench.running():
        bench.transport.down = True
        await bench.say("lost")
        bench.transport.down = False
        await bench.say("kept")
        assert [event["message"] for event in bench.events] == ["kept"]
        assert bench.recorder.dropped == 1


async def test_queue_is_bounded_and_drops_the_oldest() -> None:
    bench = Bench()
    for i in range(QUEUE_LENGTH + 5):
        await bench.recorder.event(Subject(SubjectKind.POD, "ml", f"p{i}"), Reason.SERVED, "x")
    assert bench.recorder.dropped == 5
