"""The mirror: complete, honest about its age, and quiet while the API server is down.

One file, long as it is: list, watch and what breaks them are one sequence, and the last test mixes all of it.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from poolmgr import wire
from poolmgr.cluster.client import Client
from poolmgr.cluster.reflector import Reflector
from poolmgr.cluster.transport import Response
from poolmgr.wire import kinds
from tests.unit.cluster.builders import node
from tests.unit.cluster.fake_api import FakeApi, FakeTransport
from tests.unit.cluster.virtual_clock import VirtualClock

NODES = "/api/v1/nodes"


class Bench:
    def __init__(self, *, optional: bool = False) -> None:
        self.clock = VirtualClock()
        self.api = FakeApi(self.clock)
        self.transport: FakeTransport = self.api.transport()
        self.changes: list[tuple[str, bool]] = []
        client = Client(self.transport, clock=self.clock, rng=random.Random(1))
        self.mirror: Reflector[wire.Node, str] = Reflector(
            client,
            kinds.NODES,
            wire.Node,
            project=lambda n: n.metadata.labels.get("mark", "-"),
            apply=lambda key, record: self.changes.append((key, record is not None)),
            optional=optional,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Bench"]:
        task = asyncio.ensure_future(self.mirror.run())
        await self.clock.settle()
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def mark(self, name: str, mark: str) -> None:
        self.api.put(NODES, node(name, labels={"mark": mark}))

    def version(self, name: str) -> str:
        found: str = self.api.get(f"{NODES}/{name}")["metadata"]["resourceVersion"]
        return found


async def test_lists_in_pages_then_follows_the_watch() -> None:
    bench = Bench()
    bench.api.page_limit = 2
    for i in range(5):
        bench.mark(f"n{i}", "a")
    async with bench.running():
        assert bench.mirror.synced
        assert len(bench.mirror.records) == 5
        assert bench.api.count("GET") == 3
        bench.mark("n1", "b")
        bench.api.remove(f"{NODES}/n2")
        await bench.clock.settle()
        assert bench.mirror.records == {"n0": "a", "n1": "b", "n3": "a", "n4": "a"}
        assert bench.changes[-2:] == [("n1", True), ("n2", False)]


async def test_record_that_stays_the_same_is_no_change() -> None:
    bench = Bench()
    bench.mark("n1", "a")
    async with bench.running():
        reported = len(bench.changes)
        bench.api.put(NODES, node("n1", labels={"mark": "a"}, unschedulable=True))
        await bench.clock.settle()
        assert len(bench.changes) == reported


async def test_age_grows_only_while_nothing_is_heard() -> None:
    bench = Bench()
    bench.mark("n1", "a")
    async with bench.running():
        await bench.clock.advance(20)
        assert bench.mirror.age == 20
        bench.api.bookmark()
        await bench.clock.settle()
        assert bench.mirror.age == 0


async def test_quiet_kind_is_confirmed_at_least_every_45_seconds() -> None:
    bench = Bench()
    bench.mark("n1", "a")
    oldest = 0.0

    def look() -> None:
        nonlocal oldest
        oldest = max(oldest, bench.mirror.age)

    async with bench.running():
        await bench.clock.advance(600, each=look)
        assert oldest <= 45
        assert bench.api.count("GET") == 1


async def test_ended_watch_goes_on_where_it_stopped_without_a_new_list() -> None:
    bench = Bench()
    bench.mark("n1", "a")
    async with bench.running():
        bench.api.end_watches()
        bench.mark("n2", "b")
        await bench.clock.advance(6)
        assert bench.mirror.records == {"n1": "a", "n2": "b"}
        assert bench.api.count("GET") == 1


async def test_expired_watch_lists_again_and_forgets_what_went_meanwhile() -> None:
    bench = Bench()
    bench.mark("n1", "a")
    bench.mark("n2", "a")
    async with bench.running():
        bench.transport.down = True
        bench.api.end_watches()
        await bench.clock.advance(3)
        bench.api.remove(f"{NODES}/n1")
        bench.mark("n3", "a")
        bench.api.compact()
        bench.transport.down = False
        await bench.clock.advance(30)
        assert bench.mirror.records == {"n2": "a", "n3": "a"}
        assert bench.mirror.synced


async def test_restored_api_server_is_listed_anew_though_its_watch_would_be_silent() -> None:
    bench = Bench()
    bench.mark("kept", "a")
    backup = bench.api.backup()
    bench.mark("lost", "a")
    bench.mark("kept", "b")
    async with bench.running():
        bench.api.restore(backup)
        bench.mark("since", "a")
        await bench.clock.advance(10)
        assert bench.mirror.records == {"kept": "a", "since": "a"}
        assert bench.mirror.synced
        bench.mark("since", "b")
        await bench.clock.settle()
        assert bench.mirror.records == {"kept": "a", "since": "b"}, "and followed from there"


async def test_mirror_of_a_restored_api_server_is_not_trusted_before_everything_is_listed() -> None:
    bench = Bench()
    bench.mark("n1", "a")
    backup = bench.api.backup()
    bench.mark("n1", "b")
    async with bench.running():
        bench.api.restore(backup)
        trusted: list[bool] = []
        bench.api.on_list = lambda: trusted.append(bench.mirror.synced)
        await bench.clock.advance(10)
        assert trusted == [False]
        assert bench.mirror.synced


async def test_version_that_was_written_over_before_a_restore_is_shown_after_it() -> None:
    bench = Bench()
    bench.mark("n1", "a")
    backup, over = bench.api.backup(), bench.version("n1")
    async with bench.running():
        bench.mark("n1", "b")
        bench.mirror.wrote("n1", over, "b")
        bench.api.restore(backup)
        await bench.clock.advance(10)
        assert bench.mirror.records == {"n1": "a"}


async def test_api_server_that_does_not_say_how_far_it_is_is_listed_anew() -> None:
    bench = Bench()
    bench.mark("n1", "a")
    async with bench.running():
        bench.transport.answers = [Response(200, b'{"metadata": {"resourceVersion": "opaque"}}')]
        bench.api.end_watches()
        await bench.clock.advance(6)
        assert bench.api.count("GET") == 2


async def test_error_event_410_in_the_stream_lists_again() -> None:
    bench = Bench()
    bench.mark("n1", "a")
    async with bench.running():
        bench.api.error_watches(410)
        await bench.clock.advance(10)
        assert bench.api.count("GET") == 2
        assert bench.mirror.synced


async def test_list_whose_continue_token_expires_starts_over() -> None:
    bench = Bench()
    bench.api.page_limit = 1
    bench.mark("n1", "a")
    bench.mark("n2", "a")
    handle, pages = bench.api.handle, 0

    def compact_after_first(*request: object) -> object:
        nonlocal pages
        answer = handle(*request)  # type: ignore[arg-type]
        pages += 1
        if pages == 1:
            bench.api.compact()
        return answer

    bench.api.handle = compact_after_first  # type: ignore[assignment,method-assign]
    async with bench.running():
        await bench.clock.advance(10)
        assert bench.mirror.synced
        assert len(bench.mirror.records) == 2


async def test_outage_keeps_the_records_says_why_and_costs_next_to_nothing() -> None:
    bench = Bench()
    bench.mark("n1", "a")
    async with bench.running():
        bench.transport.down = True
        bench.api.end_watches()
        before = len(bench.api.requests)
        await bench.clock.advance(300)
        tries = len(bench.api.requests) - before
        assert bench.mirror.records == {"n1": "a"}
        assert bench.mirror.age >= 300
        assert "did not answer" in bench.mirror.problem
        # Pauses grow to 5 s (jittered to half of that on average, more where the server names a pause).
        assert 20 <= tries <= 200
        bench.transport.down = False
        bench.mark("n2", "b")
        await bench.clock.advance(25)
        assert bench.mirror.records == {"n1": "a", "n2": "b"}
        assert bench.mirror.problem == ""
        assert bench.mirror.age < 45


async def test_not_synced_until_the_first_list_is_through() -> None:
    bench = Bench()
    bench.mark("n1", "a")
    bench.transport.down = True
    async with bench.running():
        await bench.clock.advance(60)
        assert not bench.mirror.synced
        bench.transport.down = False
        await bench.clock.advance(25)
        assert bench.mirror.synced


async def test_server_that_ends_every_watch_at_once_is_no_hot_loop() -> None:
    bench = Bench()
    bench.mark("n1", "a")
    async with bench.running():
        for _ in range(600):
            bench.api.end_watches()
            await bench.clock.advance(0.1)
        assert bench.api.count("WATCH") <= 60


async def test_optional_kind_that_is_absent_counts_as_listed_and_is_found_when_it_appears() -> None:
    bench = Bench(optional=True)
    async with bench.running():
        assert bench.mirror.synced
        assert bench.mirror.records == {}
        bench.mark("n1", "a")
        await bench.clock.advance(11)
        assert bench.mirror.records == {"n1": "a"}


async def test_kind_that_vanishes_for_a_moment_is_not_believed() -> None:
    bench = Bench(optional=True)
    bench.mark("n1", "a")
    async with bench.running():
        bench.api.kinds.clear()
        bench.api.end_watches()
        await bench.clock.advance(15)
        assert not bench.mirror.synced
        assert bench.mirror.records == {"n1": "a"}
        bench.api.kinds.add(NODES)
        await bench.clock.advance(15)
        assert bench.mirror.synced
        assert bench.mirror.records == {"n1": "a"}


async def test_kind_that_stays_gone_is_forgotten() -> None:
    bench = Bench(optional=True)
    bench.mark("n1", "a")
    async with bench.running():
        bench.api.kinds.clear()
        bench.api.end_watches()
        await bench.clock.advance(90)
        assert bench.mirror.synced
        assert bench.mirror.records == {}


async def test_required_kind_that_is_absent_is_never_synced() -> None:
    bench = Bench()
    async with bench.running():
        await bench.clock.advance(60)
        assert not bench.mirror.synced
        assert "404" in bench.mirror.problem or "could not find" in bench.mirror.problem


async def test_object_that_does_not_fit_its_schema_is_set_aside_and_named() -> None:
    bench = Bench()
    bench.mark("n1", "a")
    async with bench.running():
        broken = node("n2")
        broken["status"]["conditions"] = "none"
        bench.api.put(NODES, broken)
        await bench.clock.settle()
        assert bench.mirror.synced
        assert bench.mirror.records == {"n1": "a"}
        assert "Expected `array`" in bench.mirror.unread["n2"].why
        bench.mark("n2", "b")
        await bench.clock.settle()
        assert bench.mirror.records == {"n1": "a", "n2": "b"}
        assert bench.mirror.unread == {}


async def test_object_that_does_not_say_which_it_is_stops_trust() -> None:
    bench = Bench()
    bench.mark("n1", "a")
    async with bench.running():
        nameless = bench.api.put(NODES, node("n2"))
        nameless["metadata"]["uid"] = 7
        bench.mirror.relist()
        bench.mark("n3", "c")
        await bench.clock.settle()
        assert not bench.mirror.synced
        assert "nodes an object does not match its schema" in bench.mirror.problem
        nameless["metadata"]["uid"] = "uid-n2"
        await bench.clock.advance(15)
        assert bench.mirror.synced


async def test_relist_reads_everything_with_the_new_projection() -> None:
    bench = Bench()
    bench.mark("n1", "a")
    async with bench.running():
        bench.mirror.relist()
        assert not bench.mirror.synced
        bench.mark("n2", "a")
        await bench.clock.settle()
        assert bench.mirror.synced
        assert bench.api.count("GET") == 2


async def test_own_write_is_shown_before_the_watch_tells_of_it_and_counts_once() -> None:
    bench = Bench()
    bench.mark("n1", "a")
    async with bench.running():
        over = bench.version("n1")
        bench.mark("n1", "b")  # the write; its answer is here before its event
        bench.mirror.wrote("n1", over, "b")
        assert bench.mirror.records == {"n1": "b"}
        reported = len(bench.changes)
        await bench.clock.settle()
        assert bench.mirror.records == {"n1": "b"}
        assert len(bench.changes) == reported


async def test_versions_written_over_are_never_shown_again() -> None:
    """Two writes, one after the other; the watch tells of the first one when both are answered."""
    bench = Bench()
    bench.mark("n1", "a")
    async with bench.running():
        first = bench.version("n1")
        bench.mark("n1", "b")
        bench.mirror.wrote("n1", first, "b")
        second = bench.version("n1")
        bench.mark("n1", "c")
        bench.mirror.wrote("n1", second, "c")
        shown = len(bench.changes)
        await bench.clock.settle()
        assert bench.mirror.records == {"n1": "c"}
        assert len(bench.changes) == shown
        bench.mark("n1", "a")
        await bench.clock.settle()
        assert bench.mirror.records == {"n1": "a"}, "whatever comes after it counts"


async def test_list_that_was_read_before_a_write_does_not_undo_it() -> None:
    bench = Bench()
    bench.mark("n1", "a")
    async with bench.running():
        over = bench.version("n1")
        before = bench.api.handle("GET", NODES, {}, None, "")
        bench.mark("n1", "b")
        bench.mirror.wrote("n1", over, "b")
        bench.transport.answers.append(before)
        bench.mirror.relist()
        bench.api.end_watches()
        await bench.clock.settle()
        assert ("GET", NODES) in bench.api.requests
        assert bench.transport.answers == []
        assert bench.mirror.records == {"n1": "b"}


async def test_object_that_was_written_and_is_gone_is_forgotten() -> None:
    bench = Bench()
    bench.mark("n1", "a")
    async with bench.running():
        over = bench.version("n1")
        bench.mark("n1", "b")
        bench.mirror.wrote("n1", over, "b")
        bench.api.remove(f"{NODES}/n1")
        await bench.clock.settle()
        assert bench.mirror.records == {}


async def test_random_history_with_random_faults_ends_in_the_truth() -> None:
    for seed in range(8):
        rng = random.Random(seed)
        bench = Bench()
        bench.mark("n0", "a")
        async with bench.running():
            for _ in range(60):
                match rng.randrange(7):
                    case 0 | 1 | 2:
                        bench.mark(f"n{rng.randrange(6)}", rng.choice("abc"))
                    case 3:
                        paths = list(bench.api.objects)
                        if paths:
                            bench.api.remove(rng.choice(paths))
                    case 4:
                        bench.api.end_watches()
                    case 5:
                        bench.api.compact()
                    case _:
                        bench.transport.down = not bench.transport.down
                        if bench.transport.down:
                            bench.api.end_watches()
                await bench.clock.advance(rng.uniform(0, 3))
            bench.transport.down = False
            await bench.clock.advance(60)
            truth = {
                p.rpartition("/")[2]: o["metadata"]["labels"]["mark"] for p, o in bench.api.objects.items()
            }
            assert bench.mirror.records == truth, f"seed {seed}"
