"""Leadership: never two at once, epochs strictly rising, whatever clocks, networks and processes do.

One file, long as it is: every test runs candidates on the bench below, and one promise is kept by all of them together.
"""

import asyncio
import json
import random
from itertools import pairwise

import pytest
import structlog

from poolmgr.cluster.client import Client
from poolmgr.cluster.lease import Elector
from poolmgr.cluster.lease_settings import LeaseSettings
from poolmgr.cluster.transport import Response
from poolmgr.domain.errors import Rejected
from poolmgr.domain.identifiers import LeaseEpoch
from tests.unit.cluster.fake_api import FakeApi, FakeTransport
from tests.unit.cluster.virtual_clock import Skewed, VirtualClock

LEASES = "/apis/coordination.k8s.io/v1/namespaces/poolmgr-system/leases"
LEASE = f"{LEASES}/poolmgr-manager"
ALL_LEASES = "/apis/coordination.k8s.io/v1/leases"


class NoJitter(random.Random):
    """Every wait is as short as it may be, so that instants are known."""

    def uniform(self, a: float, b: float) -> float:
        return a


class Candidate:
    """One manager process with its own connection and wall clock."""

    def __init__(
        self,
        bench: "Bench",
        name: str,
        wall_offset: float = 0.0,
        settings: LeaseSettings | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        self.transport: FakeTransport = bench.api.transport()
        self.clock = Skewed(bench.clock, wall_offset)
        client = Client(self.transport, clock=self.clock, rng=rng or random.Random(name))
        self.elector = Elector(client, identity=name, floor=lambda: bench.floor, settings=settings)
        self.working = False
        self.led: list[int] = []
        self._bench = bench
        self._task: asyncio.Future[None] | None = None

    def start(self) -> "Candidate":
        self._task = asyncio.ensure_future(self.elector.run(self.lead))
        return self

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        while not self._task.done():  # giving the lease back may have to wait for a slow network
            await self._bench.clock.advance(1, each=self._bench.check)

    async def lead(self, epoch: LeaseEpoch) -> None:
        self.led.append(epoch)
        self._bench.epochs.append(epoch)
        # Every leader writes its epoch on the objects of the cluster.
        self._bench.floor = max(self._bench.floor or 0, epoch)
        self.working = True
        try:
            await asyncio.Event().wait()
        finally:
            self.working = False


class Bench:
    """With a lease that nobody holds, unless it is to be made first."""

    def __init__(self, floor: int | None = 0, *, made: bool = True) -> None:
        self.clock = VirtualClock()
        self.api = FakeApi(self.clock)
        self.api.kinds.add(LEASES)
        self.floor = floor
        self.epochs: list[int] = []
        self.candidates: list[Candidate] = []
        if made:
            given_back = {"holderIdentity": "", "acquireTime": "2026-01-01T00:00:00.000000Z"}
            self.api.put(ALL_LEASES, lease(**given_back, leaseTransitions=0))

    def candidate(self, name: str, wall_offset: float = 0.0) -> Candidate:
        candidate = Candidate(self, name, wall_offset)
        self.candidates.append(candidate)
        return candidate.start()

    def check(self) -> None:
        holders = [c.name for c in self.candidates if c.elector.epoch is not None]
        assert len(holders) <= 1, f"two hold at {self.clock.monotonic()}: {holders}"
        held = [c.elector.epoch for c in self.candidates if c.elector.epoch is not None]
        assert all(epoch == max(self.epochs or [epoch]) for epoch in held if epoch is not None)

    async def advance(self, seconds: float) -> None:
        await self.clock.advance(seconds, each=self.check)
        self.check()

    async def close(self) -> None:
        for candidate in self.candidates:
            await candidate.stop()
        assert self.epochs == sorted(set(self.epochs)), f"epochs do not strictly rise: {self.epochs}"


async def test_first_candidate_leads_in_epoch_1_and_the_second_waits() -> None:
    bench = Bench()
    one = bench.candidate("one")
    await bench.advance(3)
    two = bench.candidate("two")
    await bench.advance(120)
    assert one.elector.epoch == 1
    assert one.working
    assert two.elector.epoch is None
    assert two.elector.holder == "one"
    await bench.close()


async def test_stopping_gives_the_lease_back_at_once() -> None:
    bench = Bench()
    one = bench.candidate("one")
    await bench.advance(3)
    two = bench.candidate("two")
    await bench.advance(3)
    await one.stop()
    assert one.elector.epoch is None
    await bench.advance(4)
    assert two.elector.epoch == 2
    await bench.close()


async def test_killed_leader_is_followed_after_the_lease_has_expired() -> None:
    bench = Bench()
    one = bench.candidate("one")
    await bench.advance(3)
    two = bench.candidate("two")
    await bench.advance(3)
    one.transport.down = True
    await bench.advance(9)
    assert two.elector.epoch is None
    await bench.advance(15)
    assert two.elector.epoch == 2
    await bench.close()


async def test_leader_cut_off_stops_before_anyone_else_can_begin() -> None:
    bench = Bench()
    one, two = bench.candidate("one"), bench.candidate("two")
    await bench.advance(6)
    leader, follower = (one, two) if one.elector.epoch else (two, one)
    leader.transport.down = True
    stopped_at = None
    for second in range(40):
        await bench.advance(1)
        if leader.elector.epoch is None and stopped_at is None:
            stopped_at = second
            assert not leader.working or second < 12
            assert follower.elector.epoch is None
    assert stopped_at is not None
    assert stopped_at <= 10
    assert follower.elector.epoch == 2
    assert not leader.working
    await bench.close()


async def test_the_deadline_counts_from_before_the_renewal_was_sent() -> None:
    """A renewal takes three seconds to be answered; others may have seen it when it was sent."""
    bench = Bench()
    one = bench.candidate("one")
    await bench.advance(3)
    one.transport.delay = 3.0
    sent = bench.api.count("PUT")
    while bench.api.count("PUT") == sent:
        await bench.advance(0.1)
    begun = bench.clock.monotonic()
    await bench.advance(3.5)
    one.transport.down = True
    seen = []
    for seconds in (9.5, 10.2):
        await bench.advance(begun + seconds - bench.clock.monotonic())
        seen.append(one.elector.epoch)
    one.transport.delay = 0.0
    await bench.close()
    assert seen == [1, None]


async def test_a_longer_duration_that_the_holder_wrote_is_waited_for() -> None:
    """The holder is of another release or has other settings: it counts on what it wrote."""
    bench = Bench()
    bench.api.put(
        ALL_LEASES,
        {
            "metadata": {"name": "poolmgr-manager", "namespace": "poolmgr-system"},
            "spec": {"holderIdentity": "patient", "leaseDurationSeconds": 40, "leaseTransitions": 6},
        },
    )
    one = bench.candidate("one")
    seen = []
    for seconds in (39, 10):
        await bench.advance(seconds)
        seen.append(one.elector.epoch)
    await bench.close()
    assert seen == [None, 7]


async def test_connection_error_never_escapes_and_the_old_leader_comes_back() -> None:
    bench = Bench()
    one = bench.candidate("one")
    await bench.advance(3)
    one.transport.down = True
    await bench.advance(60)
    assert one.elector.epoch is None
    assert not one.working
    one.transport.down = False
    await bench.advance(25)
    assert one.elector.epoch == 2
    await bench.close()


async def test_short_outage_costs_nothing() -> None:
    bench = Bench()
    one = bench.candidate("one")
    await bench.advance(3)
    one.transport.down = True
    await bench.advance(6)
    one.transport.down = False
    await bench.advance(30)
    assert (one.elector.epoch, one.led) == (1, [1])
    await bench.close()


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0, 1e9])
async def test_jump_of_the_wall_clock_changes_nothing(jump: float) -> None:
    bench = Bench()
    one = bench.candidate("one")
    await bench.advance(3)
    two = bench.candidate("two", wall_offset=-7200.0)
    await bench.advance(10)
    one.clock.wall_offset = jump
    await bench.advance(30)
    two.clock.wall_offset = -jump
    await bench.advance(60)
    assert (one.elector.epoch, two.elector.epoch) == (1, None)
    await bench.close()


async def test_process_that_was_stopped_knows_at_once_that_it_does_not_lead() -> None:
    bench = Bench()
    one = bench.candidate("one")
    await bench.advance(3)
    assert one.elector.epoch == 1
    await bench.clock.stop(30)
    assert one.elector.epoch is None
    await bench.advance(30)
    assert one.led[0] == 1
    await bench.close()


async def test_lost_answers_to_renewals_are_recognised_as_our_own() -> None:
    bench = Bench()
    one = bench.candidate("one")
    await bench.advance(3)
    one.transport.lose_answers = True
    await bench.advance(5)
    one.transport.lose_answers = False
    await bench.advance(20)
    assert (one.elector.epoch, one.led) == (1, [1])
    await bench.close()


async def test_lost_answer_to_the_acquisition_costs_one_epoch_and_no_wait() -> None:
    bench = Bench()
    one = bench.candidate("one")
    one.transport.lose_answers = True
    await bench.advance(1)
    one.transport.lose_answers = False
    await bench.advance(4)
    assert one.elector.epoch == 2
    await bench.close()


async def test_lease_that_someone_deletes_does_not_bring_epochs_back() -> None:
    bench = Bench(floor=41)
    one = bench.candidate("one")
    await bench.advance(22)
    assert one.elector.epoch == 42
    bench.api.remove(LEASE)
    await bench.advance(25)
    assert one.elector.epoch == 43
    await bench.close()


async def test_a_deleted_lease_is_made_anew_and_not_taken_while_its_holder_may_lead() -> None:
    """The holder is cut off, so it cannot learn that the lease is gone."""
    bench = Bench()
    one, two = bench.candidate("one"), bench.candidate("two")
    await bench.advance(6)
    leader, follower = (one, two) if one.elector.epoch else (two, one)
    leader.transport.down = True
    bench.api.remove(LEASE)
    await bench.advance(9)
    assert follower.elector.epoch is None
    assert follower.elector.not_leading_message == (
        "the lease poolmgr-system/poolmgr-manager is new: it is taken after 15 s, when whoever held one that somebody deleted "
        "must have stopped"
    )
    await bench.advance(12)
    assert follower.elector.epoch == 2
    leader.transport.down = False
    await bench.close()


async def test_a_lease_deleted_before_anybody_else_has_read_it_is_waited_for_as_well() -> None:
    """Nobody else knows of its holder, which is cut off and has written nothing."""
    bench = Bench(made=False)
    one = bench.candidate("one")
    await bench.advance(18)
    assert one.elector.epoch == 1
    one.transport.down, bench.floor = True, 0
    bench.api.remove(LEASE)
    two = bench.candidate("two")
    await bench.advance(7)
    assert (one.elector.epoch, two.elector.epoch) == (1, None)
    bench.epochs.clear()  # that it says the same epoch, once the other has stopped, nobody can know
    await bench.advance(14)
    assert (one.elector.epoch, two.elector.epoch) == (None, 1)
    one.transport.down = False
    await bench.close()


async def test_the_first_lease_of_a_cluster_is_taken_by_one_of_those_who_make_it() -> None:
    bench = Bench(made=False)
    candidates = [bench.candidate(name) for name in ("one", "two", "three")]
    await bench.advance(14.9)
    assert [c.elector.epoch for c in candidates] == [None] * 3
    await bench.advance(4)
    assert sorted(str(c.elector.epoch) for c in candidates) == ["1", "None", "None"]
    await bench.close()


async def test_whoever_makes_a_lease_or_finds_a_new_one_says_so_from_the_first_moment() -> None:
    bench = Bench()
    one, two = bench.candidate("one"), bench.candidate("two")
    await bench.advance(6)
    leader, follower = (one, two) if one.elector.epoch else (two, one)
    leader.transport.down = True
    bench.api.remove(LEASE)
    while LEASE not in bench.api.objects:
        await bench.advance(0.1)
    late = bench.candidate("late")
    await bench.advance(0.1)
    for candidate in (follower, late):
        assert "is new" in candidate.elector.not_leading_message
        assert candidate.elector.holder == ""
    leader.transport.down = False
    await bench.close()


async def test_a_lease_that_is_deleted_while_it_is_new_is_waited_for_anew() -> None:
    bench = Bench(made=False)
    one = bench.candidate("one")
    await bench.advance(12)
    bench.api.remove(LEASE)
    await bench.advance(14)
    assert one.elector.epoch is None
    await bench.advance(8)
    assert one.elector.epoch == 1
    await bench.close()


async def test_a_holder_stops_at_the_renewal_that_finds_its_lease_deleted() -> None:
    bench = Bench()
    one = bench.candidate("one")
    await bench.advance(3)
    bench.api.remove(LEASE)
    await bench.advance(3)
    assert one.elector.epoch is None
    assert not one.working
    await bench.close()


async def test_an_epoch_that_was_seen_does_not_come_again_where_no_object_carries_it() -> None:
    bench = Bench()
    one, two = bench.candidate("one"), bench.candidate("two")
    await bench.advance(6)
    bench.floor = 0
    leader = one if one.elector.epoch else two
    leader.transport.down = True
    bench.api.remove(LEASE)
    await bench.advance(25)
    assert bench.epochs == [1, 2]
    leader.transport.down = False
    await bench.close()


async def test_nobody_leads_before_the_epochs_in_the_cluster_are_known() -> None:
    bench = Bench(floor=None)
    one = bench.candidate("one")
    await bench.advance(30)
    assert one.elector.epoch is None
    bench.floor = 7
    await bench.advance(22)
    assert one.elector.epoch == 8
    await bench.close()


async def test_a_manager_that_stands_by_says_why() -> None:
    bench = Bench(floor=None, made=False)
    bench.api.missing_namespaces.add("poolmgr-system")
    two = bench.candidate("two")
    await bench.advance(15)
    assert "still being read" in two.elector.not_leading_message
    bench.floor = 0
    await bench.advance(15)
    assert two.elector.not_leading_message == (
        "the lease poolmgr-system/poolmgr-manager cannot be acquired, so nothing is moved: there is no namespace "
        "poolmgr-system. Install the chart, which makes it, or name another with POOLMGR_NAMESPACE."
    )
    bench.api.missing_namespaces.clear()
    await bench.advance(21)
    assert two.elector.epoch == 1
    await bench.advance(15)
    three = bench.candidate("three")
    await bench.advance(15)
    assert three.elector.not_leading_message == (
        "manager two holds the lease poolmgr-system/poolmgr-manager; this one stands by"
    )
    await bench.close()


async def test_work_that_ends_by_itself_gives_the_lease_back_and_its_error_is_told() -> None:
    bench = Bench()
    one = Candidate(bench, "one")

    async def fails(epoch: LeaseEpoch) -> None:
        raise RuntimeError(f"at epoch {epoch}")

    running = asyncio.ensure_future(one.elector.run(fails))
    await bench.clock.settle()
    with pytest.raises(RuntimeError, match="at epoch 1"):
        await running
    assert bench.api.get(LEASE)["spec"]["holderIdentity"] == ""
    assert one.elector.epoch is None
    assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing renews it any more"


async def test_lease_is_kept_until_the_cancelled_work_has_ended() -> None:
    bench = Bench()
    one = Candidate(bench, "one")
    ending = asyncio.Event()

    async def slow(epoch: LeaseEpoch) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await ending.wait()

    running = asyncio.ensure_future(one.elector.run(slow))
    await bench.clock.advance(3)
    running.cancel()
    await bench.clock.advance(1)
    assert bench.api.get(LEASE)["spec"]["holderIdentity"] == "one"
    ending.set()
    await asyncio.gather(running, return_exceptions=True)
    assert bench.api.get(LEASE)["spec"]["holderIdentity"] == ""


@pytest.mark.parametrize("seed", range(6))
async def test_three_candidates_under_random_faults_never_lead_together(seed: int) -> None:
    rng = random.Random(seed)
    bench = Bench()
    for name in ("one", "two", "three"):
        bench.candidate(name, wall_offset=rng.uniform(-1e6, 1e6))
    for _ in range(60):
        candidate = rng.choice(bench.candidates)
        match rng.randrange(7):
            case 0:
                candidate.transport.down = not candidate.transport.down
            case 1:
                candidate.transport.delay = rng.choice([0.0, 0.5, 3.0, 6.0])
            case 2:
                candidate.transport.lose_answers = not candidate.transport.lose_answers
            case 3:
                candidate.clock.wall_offset = rng.uniform(-1e9, 1e9)
            case 4:
                await candidate.stop()
                candidate.start()
            case 5 if LEASE in bench.api.objects:
                bench.api.remove(LEASE)
            case _:
                await bench.clock.stop(rng.uniform(0, 20))
                bench.check()
        await bench.advance(rng.uniform(0, 12))
    assert len(bench.epochs) >= 2
    for candidate in bench.candidates:
        candidate.transport.down = candidate.transport.lose_answers = False
        candidate.transport.delay = 0.0
    await bench.advance(60)
    assert sum(c.elector.epoch is not None for c in bench.candidates) == 1
    await bench.close()


def test_times_are_client_gos_unless_others_are_set() -> None:
    assert LeaseSettings() == LeaseSettings(
        duration_seconds=15, renew_deadline_seconds=10.0, retry_seconds=2.0
    )


@pytest.mark.parametrize(
    ("duration", "deadline", "retry", "fits"),
    [
        (15, 10.0, 2.0, True),
        (14, 10.0, 2.0, False),
        (15, 10.0, 0.5, True),
        (15, 10.0, 0.0, False),
        (15, 10.0, 5.0, True),
        (15, 10.0, 5.1, False),
    ],
    ids=["as they are", "a late write", "often", "without a pause", "two retries", "one retry"],
)
def test_settings_that_would_let_two_lead_are_refused(
    duration: int, deadline: float, retry: float, fits: bool
) -> None:
    """A write that takes the 4 s that a request may is over before another may lead, and one renewal may fail."""
    times = {"duration_seconds": duration, "renew_deadline_seconds": deadline, "retry_seconds": retry}
    if fits:
        assert LeaseSettings(**times).duration_seconds == duration  # type: ignore[arg-type]
    else:
        with pytest.raises(Rejected, match="must exceed the renew deadline"):
            LeaseSettings(**times)  # type: ignore[arg-type]


# -- what a manager says of itself, and asks of the API server -----------------------------------------------


def lease(**spec: object) -> dict[str, object]:
    return {"metadata": {"name": "poolmgr-manager", "namespace": "poolmgr-system"}, "spec": spec}


async def test_a_manager_that_has_not_asked_yet_says_so_and_knows_no_leader() -> None:
    elector = Candidate(Bench(), "one").elector
    assert (elector.epoch, elector.holder) == (None, "")
    assert elector.not_leading_message == "the lease has not been requested yet; nothing is moved"


async def test_a_lease_that_nobody_holds_names_no_leader() -> None:
    bench = Bench(floor=None)
    bench.api.put(ALL_LEASES, lease(leaseTransitions=3))
    one = bench.candidate("one")
    await bench.advance(5)
    assert one.elector.holder == ""
    await bench.close()


async def test_the_lease_is_the_one_of_the_settings() -> None:
    bench = Bench()
    bench.api.kinds.add(others := "/apis/coordination.k8s.io/v1/namespaces/gpus/leases")
    settings = LeaseSettings("gpus", "theirs", duration_seconds=40, renew_deadline_seconds=30)
    one = Candidate(bench, "one", settings=settings)
    bench.candidates.append(one.start())
    await bench.advance(44)
    assert bench.api.get(f"{others}/theirs")["spec"]["leaseDurationSeconds"] == 40
    assert one.elector.epoch == 1
    one.transport.down = True
    await bench.advance(25)
    assert one.elector.epoch == 1, "until its own deadline"
    one.transport.down = False
    await bench.close()


async def test_at_the_deadline_itself_the_lease_is_not_held_any_more() -> None:
    bench = Bench()
    one = bench.candidate("one")
    await bench.clock.settle()
    assert one.elector.epoch == 1
    one.transport.down = True
    await bench.clock.stop(10.0)
    assert one.elector.epoch is None
    one.transport.down = False
    await bench.close()


async def test_attempts_are_spread_over_one_to_one_and_a_half_times_the_retry() -> None:
    """So that managers that start together do not ask together for ever."""
    bench = Bench()
    bench.api.put(ALL_LEASES, lease(holderIdentity="other", leaseDurationSeconds=1000))
    one, asked = bench.candidate("one"), []
    for _ in range(600):
        before = bench.api.count("GET")
        await bench.advance(0.1)
        asked += [bench.clock.monotonic()] * (bench.api.count("GET") - before)
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert 1.9 <= min(pauses) < 2.2 and 2.8 < max(pauses) <= 3.1
    assert one.elector.epoch is None
    await bench.close()


async def test_a_lease_that_cannot_be_acquired_is_logged_once_and_again_after_it_could_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Not the process's settings, which a test before this one may have made: they may drop warnings.
    logged = structlog.testing.LogCapture()
    logger = structlog.wrap_logger(None, processors=[logged], wrapper_class=structlog.BoundLogger)
    monkeypatch.setattr("poolmgr.cluster.lease.log", logger)
    bench = Bench()
    one = Candidate(bench, "one")
    bench.api.put(ALL_LEASES, lease(holderIdentity="other", leaseDurationSeconds=1000))
    one.transport.down = True
    bench.candidates.append(one.start())
    complaints = []
    for down in (True, False, True):
        one.transport.down = down
        await bench.advance(20)
        complaints.append([entry["event"] for entry in logged.entries].count("lease_not_acquired"))
    one.transport.down = False
    await bench.close()
    assert complaints == [1, 1, 2]


async def test_a_lease_that_says_no_duration_and_no_epoch_is_waited_for_all_the_same() -> None:
    bench = Bench()
    bench.api.put(ALL_LEASES, lease(holderIdentity="other"))
    one = bench.candidate("one")
    await bench.advance(14.9)
    assert one.elector.epoch is None
    await bench.advance(3.1)
    assert (one.elector.epoch, one.elector.holder) == (1, "one")
    await bench.close()
    assert one.elector.holder == "", "given back"


@pytest.mark.parametrize("deleted", [False, True])
async def test_the_lease_is_free_at_the_end_of_its_duration(deleted: bool) -> None:
    bench = Bench(floor=1)
    settings = LeaseSettings(duration_seconds=16)
    bench.api.put(ALL_LEASES, lease(holderIdentity="other", leaseDurationSeconds=16))
    if deleted:
        bench.api.remove(LEASE)
    one = Candidate(bench, "one", settings=settings, rng=NoJitter())
    bench.candidates.append(one.start())
    await bench.advance(15.9)
    assert one.elector.epoch is None
    await bench.advance(0.1)
    assert one.elector.epoch == 2
    await bench.close()


@pytest.mark.parametrize(
    ("retry_seconds", "seconds_down", "works"),
    [(2, 10.0, False), (3, 8.5, True)],
    ids=["over", "last second"],
)
async def test_work_ends_at_the_deadline_and_the_last_second_is_enough_to_renew(
    retry_seconds: float, seconds_down: float, works: bool
) -> None:
    bench = Bench()
    one = Candidate(bench, "one", settings=LeaseSettings(retry_seconds=retry_seconds))
    bench.candidates.append(one.start())
    await bench.clock.settle()
    one.transport.down = True
    await bench.advance(seconds_down)
    one.transport.down = False
    assert one.working is works
    await bench.advance(10)
    assert one.led == ([1] if works else [1, 2])
    await bench.close()


async def test_an_epoch_of_its_own_does_not_come_again() -> None:
    bench = Bench()
    one = bench.candidate("one")
    await bench.advance(3)
    bench.floor = 0  # nothing that carries it was written
    bench.api.remove(LEASE)
    await bench.advance(25)
    assert bench.epochs == [1, 2]
    assert one.elector.epoch == 2
    await bench.close()


# -- a renewal that meets another state of the lease ---------------------------------------------------------


class Stubborn(Candidate):
    """Its work goes on until it is told to end."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench, "one")
        self.ending = asyncio.Event()

    async def lead(self, epoch: LeaseEpoch) -> None:
        try:
            await super().lead(epoch)
        finally:
            self.working = True
            await self.ending.wait()
            self.working = False


TAKEN = lease(holderIdentity="two", leaseTransitions=1)
AGAIN = lease(holderIdentity="one", leaseTransitions=2)
"""By another manager, which says the same epoch; by another process that has our name."""
CONFLICT, NOT_FOUND, UNREADABLE = Response(409, b"{}"), Response(404, b"{}"), Response(403, b"{}")


@pytest.mark.parametrize(
    ("answers", "holder"),
    [
        ([NOT_FOUND], "one"),
        ([CONFLICT, NOT_FOUND], "one"),
        ([CONFLICT, Response(200, json.dumps(TAKEN).encode())], "two"),
        ([CONFLICT, Response(200, json.dumps(AGAIN).encode())], "one"),
        ([CONFLICT, Response(200, json.dumps(lease(leaseTransitions=1)).encode())], ""),
    ],
    ids=["deleted", "deleted since", "taken", "taken by our name", "given away"],
)
async def test_who_finds_the_lease_lost_leads_no_more_though_its_work_still_ends(
    answers: list[Response], holder: str
) -> None:
    bench = Bench()
    one = Stubborn(bench)
    bench.candidates.append(one.start())
    await bench.clock.settle()
    one.transport.answers = list(answers)
    await bench.advance(2)
    assert (one.elector.epoch, one.working, one.elector.holder) == (None, True, holder)
    one.ending.set()
    await bench.advance(20)
    await bench.close()


async def test_a_lease_that_cannot_be_read_after_a_conflict_is_kept_and_soon_renewed() -> None:
    bench = Bench()
    one = bench.candidate("one")
    await bench.clock.settle()
    one.transport.answers = [CONFLICT, UNREADABLE]
    await bench.advance(2)
    renewals = bench.api.count("PUT")
    assert one.elector.epoch == 1
    await bench.advance(0.3)
    assert bench.api.count("PUT") == renewals + 1
    await bench.advance(20)
    assert one.led == [1]
    await bench.close()


async def test_a_lease_deleted_while_it_was_taken_is_no_missing_namespace() -> None:
    bench = Bench()
    one = Candidate(bench, "one")
    free = lease(holderIdentity="", acquireTime="2026-01-01T00:00:00.000000Z")
    free["metadata"] = {"name": "poolmgr-manager", "namespace": "poolmgr-system", "resourceVersion": "7"}
    one.transport.answers = [Response(200, json.dumps(free).encode()), Response(404, b"{}")]
    bench.candidates.append(one.start())
    await bench.clock.settle()
    assert "cannot be acquired" in one.elector.not_leading_message
    assert "Install the chart" not in one.elector.not_leading_message
    await bench.advance(5)
    assert one.elector.epoch == 1
    await bench.close()
