"""Who leads: an elector on a coordination.k8s.io Lease.

Invariants:
- At most one elector holds an epoch at any moment, whatever their wall clocks say. A holder counts from
  *before* its renewal was sent and stops after `renew_deadline_seconds`; anyone else counts from *after* it
  saw the lease change and waits `duration_seconds`, which is longer. Only monotonic clocks are compared, each
  with itself; the instants in the lease are for people.
- A lease that somebody deleted may still be held, by somebody of whom nobody knows. So a lease is made without a holder
  and without `acquireTime`, and such a one is taken no sooner than `duration_seconds` after it was seen: whoever held one
  before it was made cannot have renewed it since, and has stopped. The first manager of a cluster waits that long, too.
- Epochs strictly rise. Every acquisition, also by the same process again, increments `leaseTransitions`; where
  the lease was deleted the count goes on from the highest epoch that the candidates saw or find on the objects that
  leaders wrote. An epoch that nobody saw and no object carries may come again, after its holder has stopped.
- `epoch` is None as soon as the lease is not surely held, also when this process was stopped for a while and
  has not yet noticed anything.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from poolmgr.cluster.client import Client, ContentType, decode, encode_body, ok
from poolmgr.cluster.lease_settings import LeaseSettings
from poolmgr.domain.errors import PoolError, Rejected, Stale, Unavailable
from poolmgr.domain.identifiers import LeaseEpoch
from poolmgr.domain.reasons import Reason
from poolmgr.wire import Lease, LeaseSpec, ObjectMeta, kinds
from poolmgr.wire.http_errors import Absent
from poolmgr.wire.instants import to_rfc3339_micro

log = structlog.get_logger()

NEVER = float("-inf")
AGAIN_SECONDS = 0.2
"""Until a renewal is tried again that met an earlier one of ours, whose answer was lost."""


class Elector:
    """Implements `controller.interfaces.Leadership`.

    `identity` names this process and must be unique to it (pod name and a random part). `floor` answers the
    highest epoch that the cluster's objects carry, None while that is not known.
    """

    def __init__(
        self,
        client: Client,
        *,
        identity: str,
        floor: Callable[[], int | None],
        settings: LeaseSettings | None = None,
    ) -> None:
        self._client = client
        self._clock = client.clock
        self._identity = identity
        self._floor = floor
        self._settings = settings or LeaseSettings()
        self._collection = kinds.LEASES.path(namespace=self._settings.namespace)
        self._path = kinds.LEASES.path(self._settings.name, namespace=self._settings.namespace)
        self._where = f"{self._settings.namespace}/{self._settings.name}"
        self._lease: Lease | None = None
        self._held: LeaseEpoch | None = None
        self._deadline = NEVER
        self._seen: tuple[str, float] | None = None
        """Version of the lease last seen in other hands, and since when it is this."""
        self._highest = 0
        self.holder = ""
        """Identity of the leader last seen, for people; empty when unknown."""
        self.not_leading_message = "the lease has not been requested yet; nothing is moved"
        """See `Leadership`."""

    @property
    def epoch(self) -> LeaseEpoch | None:
        """See `Leadership`."""
        return self._held if self._clock.monotonic() < self._deadline else None

    async def run(self, lead: Callable[[LeaseEpoch], Awaitable[None]]) -> None:
        """Acquire, run `lead(epoch)` while the lease is held, cancel it when it is lost, and start over.

        Returns when `lead` returns; raises what it raises. Cancel to stop: `lead` is cancelled and waited
        for, then the lease is given back so that a successor need not wait for it to expire.
        """
        while True:
            epoch = await self._acquire()
            log.info("lease_acquired", lease_epoch=epoch, identity=self._identity)
            leading = asyncio.ensure_future(lead(epoch))
            renewing = asyncio.ensure_future(self._renew_until_lost())
            try:
                await asyncio.wait({leading, renewing}, return_when=asyncio.FIRST_COMPLETED)
                if leading.done():
                    leading.result()
                    return
                log.warning("lease_lost", lease_epoch=epoch, holder=self.holder)
            finally:
                # The work first: as long as it runs the lease is not given away.
                await _ended(leading)
                await _ended(renewing)
                await self._release()

    async def _acquire(self) -> LeaseEpoch:
        complained = False
        while True:
            try:
                epoch = await self._try_acquire()
                if epoch is not None:
                    return epoch
                complained = False
            except PoolError as error:
                # Down, forbidden or outrun: not leading is always safe, so it is simply tried again.
                self.not_leading_message = (
                    f"the lease {self._where} cannot be acquired, so nothing is moved: {error.message}"
                )
                if not complained:
                    log.warning(
                        "lease_not_acquired", reason=error.reason.value, detail=self.not_leading_message
                    )
                complained = True
            await self._clock.sleep(self._settings.retry_seconds * self._client.rng.uniform(1.0, 1.5))

    async def _try_acquire(self) -> LeaseEpoch | None:
        try:
            lease = await self._get()
        except Absent:
            lease = None
        now = self._clock.monotonic()
        if lease is not None and not self._free(lease, now):
            return None
        floor = self._floor()
        if floor is None:
            self.not_leading_message = (
                "the cluster is still being read; the lease will be requested after that"
            )
            return None
        floor = max(floor, self._highest)
        if lease is None:
            await self._make(floor)
            return None
        epoch = LeaseEpoch(floor + 1)
        instant = to_rfc3339_micro(self._clock.now())
        await self._put(lease, self._spec(epoch, acquired=instant))
        self._held, self._highest, self.holder = epoch, epoch, self._identity
        return epoch

    async def _make(self, floor: int) -> None:
        """A lease that nobody holds, with the highest epoch that is known here."""
        self.holder = ""
        self._say_that_it_is_new()
        spec = LeaseSpec(
            holder_identity="",
            lease_duration_seconds=self._settings.duration_seconds,
            lease_transitions=floor,
        )
        metadata = ObjectMeta(name=self._settings.name, namespace=self._settings.namespace)
        try:
            made = await self._write(Lease(metadata=metadata), spec)
        except Stale:  # another was faster
            return
        except Absent as absent:
            raise Rejected(
                Reason.NOT_FOUND,
                f"there is no namespace {self._settings.namespace}. Install the chart, which makes it, or name "
                f"another with POOLMGR_NAMESPACE.",
            ) from absent
        self._unchanged_for(made.metadata.resource_version, self._clock.monotonic())

    def _free(self, lease: Lease, now: float) -> bool:
        spec = lease.spec
        self.holder = spec.holder_identity or ""
        # Our own name there, without our holding it, is a write of ours whose answer was lost.
        if self.holder == self._identity or (not self.holder and spec.acquire_time is not None):
            return True
        if self.holder:
            self.not_leading_message = (
                f"manager {self.holder} holds the lease {self._where}; this one stands by"
            )
        else:
            self._say_that_it_is_new()
        own = self._settings.duration_seconds
        duration = max(own, spec.lease_duration_seconds or own)
        return self._unchanged_for(lease.metadata.resource_version, now) >= duration

    def _say_that_it_is_new(self) -> None:
        self.not_leading_message = (
            f"the lease {self._where} is new: it is taken after {self._settings.duration_seconds} s, when whoever held one that "
            "somebody deleted must have stopped"
        )

    def _unchanged_for(self, version: str, now: float) -> float:
        """Seconds for which the lease has had this version: whoever holds it changes it with each renewal."""
        if self._seen is None or self._seen[0] != version:
            self._seen = version, now
        return now - self._seen[1]

    async def _renew_until_lost(self) -> None:
        pause = self._settings.retry_seconds
        while True:
            await self._clock.sleep(pause)
            pause = self._settings.retry_seconds
            remaining = self._deadline - self._clock.monotonic()
            if remaining <= 0:
                return
            try:
                await self._renew()
            except Stale:
                if not await self._still_ours():
                    self._deadline = NEVER
                    return
                pause = AGAIN_SECONDS  # it has just been read, so the next try meets no conflict
            except Absent:
                log.warning("lease_deleted", detail=f"somebody deleted the lease {self._where}")
                self._deadline = NEVER
                return
            except Unavailable as error:
                log.warning("lease_not_renewed", seconds_left=round(remaining, 1), detail=error.message)
            except PoolError as error:
                log.error("lease_not_renewed", reason=error.reason.value, detail=error.message)

    async def _renew(self) -> None:
        lease = self._lease
        assert lease is not None
        assert self._held is not None
        await self._put(lease, self._spec(self._held, acquired=lease.spec.acquire_time))

    async def _still_ours(self) -> bool:
        """After a conflict: True where the lease is still in our name and epoch (an earlier renewal arrived
        although its answer was lost), or where that cannot be found out now."""
        try:
            lease = await self._get()
        except Absent:
            return False
        except PoolError:
            return True
        self.holder = lease.spec.holder_identity or ""
        if self.holder != self._identity or lease.spec.lease_transitions != self._held:
            return False
        self._lease = lease
        return True

    async def _release(self) -> None:
        """Give the lease back, if it is still surely held; otherwise leave it to expire."""
        held, self._held = self.epoch, None
        if held is None:
            return
        assert self._lease is not None
        spec = LeaseSpec(
            holder_identity="",
            lease_duration_seconds=self._settings.duration_seconds,
            acquire_time=self._lease.spec.acquire_time,
            renew_time=to_rfc3339_micro(self._clock.now()),
            lease_transitions=held,
        )
        try:
            await self._put(self._lease, spec)
            self.holder = ""
            log.info("lease_released", lease_epoch=held)
        except PoolError as error:
            log.warning("lease_not_released", reason=error.reason.value, detail=error.message)

    def _spec(self, epoch: LeaseEpoch, *, acquired: str | None) -> LeaseSpec:
        return LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=self._settings.duration_seconds,
            acquire_time=acquired,
            renew_time=to_rfc3339_micro(self._clock.now()),
            lease_transitions=epoch,
        )

    async def _get(self) -> Lease:
        response = await self._client.call("GET", self._path)
        lease = decode(ok(response, f"GET {self._path}").body, Lease, self._path)
        self._highest = max(self._highest, lease.spec.lease_transitions or 0)
        return lease

    async def _put(self, lease: Lease, spec: LeaseSpec) -> None:
        """Replace by compare-and-swap; on success the lease is held from before the request."""
        begun = self._clock.monotonic()
        self._lease = await self._write(lease, spec)
        self._deadline = begun + self._settings.renew_deadline_seconds

    async def _write(self, lease: Lease, spec: LeaseSpec) -> Lease:
        """Create, or replace by compare-and-swap."""
        body = Lease(api_version="coordination.k8s.io/v1", kind="Lease", metadata=lease.metadata, spec=spec)
        exists = bool(lease.metadata.resource_version)
        method, path = ("PUT", self._path) if exists else ("POST", self._collection)
        return await self._client.write(method, path, encode_body(body), Lease, content_type=ContentType.JSON)


async def _ended(task: "asyncio.Future[None]") -> None:
    """Cancel and wait; what the task raised is the caller's to look at, not ours."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
