"""What is promised over time, and what is still free: reservations that conflict are found before their time.

Of two that cannot both be kept, the one that was made first is.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from poolmgr.domain.backoff import utc
from poolmgr.domain.fleet import Pool
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Verdict
from poolmgr.domain.quota import ROUNDING, gpus_text
from poolmgr.domain.reasons import Reason
from poolmgr.domain.reservation import Reservation, Window

WINDOWS_NAMED = 3


class Profile:
    """How many GPUs are promised at each moment."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._levels: list[int] = []
        """From each time to the next."""

    @property
    def times(self) -> tuple[float, ...]:
        """The moments at which it changes."""
        return tuple(self._times)

    def add(self, window: Window, gpus: int) -> None:
        first, last = self._cut(window.starts_at), self._cut(window.ends_at)
        for index in range(first, last):
            self._levels[index] += gpus

    def most(self, window: Window) -> int:
        """The most at any moment of the window."""
        first = max(0, bisect_right(self._times, window.starts_at) - 1)
        return max(self._levels[first : bisect_left(self._times, window.ends_at)], default=0)

    def _cut(self, at: float) -> int:
        index = bisect_left(self._times, at)
        if index == len(self._times) or self._times[index] != at:
            self._times.insert(index, at)
            self._levels.insert(index, self._levels[index - 1] if index else 0)
        return index


@dataclass(frozen=True, slots=True)
class Capacity:
    """What there is of one model to promise, in GPUs."""

    gpus: int
    """Of all pools, in whichever mode."""
    sides: Mapping[Mode, int]
    """The most that the pools let be in a mode."""
    quotas: Mapping[str, float] = field(default_factory=dict)
    """Namespace → what it may hold; those without a limit are not in it."""


NONE = Capacity(0, {})


def capacity_of(held: Mapping[Pool, int]) -> Capacity:
    """Of a model of which each pool holds so many GPUs."""
    namespaces = {quota.namespace for pool in held for quota in pool.quotas if quota.max_gpus is not None}
    quotas = {}
    for namespace in namespaces:
        limits = [(pool.quota(namespace).max_gpus, gpus) for pool, gpus in held.items()]
        quotas[namespace] = sum(gpus if most is None else min(most, gpus) for most, gpus in limits)
    sides = {}
    for mode in Mode:
        bounds = [(pool.side(mode).max, gpus) for pool, gpus in held.items()]
        sides[mode] = sum(gpus if most is None else min(most, gpus) for most, gpus in bounds)
    return Capacity(sum(held.values()), sides, quotas)


class Calendar:
    """The promises of one model. Reservations are added in the order in which they were made."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._all = Profile()
        self._sides = {mode: Profile() for mode in Mode}
        self._namespaces: dict[str, Profile] = {}

    def verdict(self, wanted: Reservation, now: float) -> Verdict:
        """Whether it can be promised beside what is already, and if not, what could be instead."""
        most = self._capacity.sides.get(wanted.mode, 0)
        if wanted.gpus > min(most, self._capacity.gpus):
            return Verdict(
                False,
                Reason.AT_MAXIMUM,
                f"it requests {wanted.gpus} {wanted.model} in {wanted.mode}, but the pools allow {most} of "
                f"{self._capacity.gpus} in that mode; request at most {min(most, self._capacity.gpus)}",
            )
        quota = self._capacity.quotas.get(wanted.namespace)
        if quota is not None and wanted.gpus > quota + ROUNDING:
            return Verdict(
                False,
                Reason.QUOTA_EXCEEDED,
                f"namespace {wanted.namespace} may have {gpus_text(quota)} {wanted.model}; request no more than that",
            )
        for window in wanted.windows:
            left = self._left(wanted.namespace, wanted.mode, window)
            if window.ends_at > now and left < wanted.gpus:
                return Verdict(False, Reason.RESERVATION_CONFLICT, self._conflict(wanted, window, left, now))
        return Verdict(True, Reason.ADMITTED)

    def add(self, promised: Reservation) -> None:
        own = self._namespaces.setdefault(promised.namespace, Profile())
        for window in promised.windows:
            for profile in (self._all, self._sides[promised.mode], own):
                profile.add(window, promised.gpus)

    def free_windows(self, wanted: Reservation, window: Window, now: float) -> list[Window]:
        """The next windows as long as `window` in which the GPUs are free, not before it and not in the past."""
        length, found = window.ends_at - window.starts_at, list[Window]()
        begin = max(now, window.starts_at)
        for start in sorted({begin, *(t for t in self._all.times if t > begin)}):
            candidate = Window(start, start + length)
            after = not found or start >= found[-1].ends_at
            if after and self._left(wanted.namespace, wanted.mode, candidate) >= wanted.gpus:
                found.append(candidate)
            if len(found) == WINDOWS_NAMED:
                break
        return found

    def _left(self, namespace: str, mode: Mode, window: Window) -> int:
        """GPUs that could be promised to the namespace throughout the window."""
        left = min(
            self._capacity.gpus - self._all.most(window),
            self._capacity.sides.get(mode, 0) - self._sides[mode].most(window),
        )
        quota = self._capacity.quotas.get(namespace)
        if quota is not None:
            own = self._namespaces.get(namespace)
            left = min(left, int(quota + ROUNDING) - (own.most(window) if own else 0))
        return max(0, left)

    def _conflict(self, wanted: Reservation, window: Window, left: int, now: float) -> str:
        free = " or ".join(map(window_text, self.free_windows(wanted, window, now)))
        return (
            f"other reservations leave {left} of the {wanted.gpus} {wanted.model} that it requests {window_text(window)}; "
            f"all {wanted.gpus} are free {free}"
        )


def window_text(window: Window) -> str:
    return f"from {utc(window.starts_at)} to {utc(window.ends_at)}"


def judge(
    reservations: Iterable[Reservation], capacities: Mapping[str, Capacity], now: float
) -> dict[str, Verdict]:
    """Which of them are promised, by key. `capacities` by the model's name in lower case."""
    calendars: dict[str, Calendar] = {}
    found: dict[str, Verdict] = {}
    for reservation in sorted(reservations, key=lambda r: (r.created_at, r.key)):
        model = reservation.model.casefold()
        calendar = calendars.setdefault(model, Calendar(capacities.get(model, NONE)))
        verdict = found[reservation.key] = calendar.verdict(reservation, now)
        if verdict:
            calendar.add(reservation)
    return found
