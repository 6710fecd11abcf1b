"""poolmgr.io/v1alpha1 GPUReservation. The chart's CRD describes every field."""

from datetime import date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.modes import Mode
from poolmgr.domain.reservation import Holders, Reservation, Window
from poolmgr.wire.instants import from_rfc3339, unix_or_zero
from poolmgr.wire.meta import Condition, ObjectMeta, Wire

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
"""As `datetime.weekday` counts them."""
LONGEST_SECONDS = 366 * 86_400.0
"""From the first moment of the first window to the last of the last, as the CRD has it."""


class HoldersSpec(Wire, frozen=True):
    namespaces: tuple[str, ...] = ()
    match_labels: dict[str, str] = {}
    by_claim: bool = False


class Repeat(Wire, frozen=True):
    until: str
    days: tuple[str, ...] = DAYS
    time_zone: str = "UTC"


class ReservationSpec(Wire, frozen=True):
    model: str
    gpus: int
    start: str
    end: str
    mode: str = "Passthrough"
    lead_seconds: int = 0
    holders: HoldersSpec = HoldersSpec()
    repeat: Repeat | None = None


class KeptCard(Wire, frozen=True):
    node: str
    uuid: str


class WindowStatus(Wire, frozen=True):
    start: str
    end: str


class ReservationStatus(Wire, frozen=True, omit_defaults=False):
    observed_generation: int = 0
    phase: str = ""
    window: WindowStatus | None = None
    ready: int = 0
    used: int = 0
    kept: int = 0
    cards: tuple[KeptCard, ...] = ()
    conditions: tuple[Condition, ...] = ()


class GpuReservation(Wire, frozen=True):
    spec: ReservationSpec
    metadata: ObjectMeta = ObjectMeta()
    status: ReservationStatus = ReservationStatus()


def mode_of(spec: ReservationSpec) -> Mode | None:
    """None for a mode of a newer release."""
    return Mode(spec.mode) if spec.mode in tuple(Mode) else None


def reservation_from(reservation: GpuReservation) -> Reservation | None:
    """None for a mode of a newer release, and for windows that cannot be read: nothing is kept for it."""
    spec, meta, mode = reservation.spec, reservation.metadata, mode_of(reservation.spec)
    try:
        windows = windows_of(spec)
    except ValueError:
        windows = ()
    if mode is None or not windows:
        return None
    holders = Holders(
        frozenset(spec.holders.namespaces or (meta.namespace,)),
        tuple(sorted(spec.holders.match_labels.items())),
        spec.holders.by_claim,
    )
    return Reservation(
        namespace=meta.namespace,
        name=meta.name,
        model=spec.model,
        gpus=spec.gpus,
        mode=mode,
        windows=windows,
        holders=holders,
        created_at=unix_or_zero(meta.creation_timestamp),
        lead_seconds=float(spec.lead_seconds),
        cards=tuple(GpuUuid(card.uuid) for card in reservation.status.cards),
        generation=meta.generation,
    )


def windows_of(spec: ReservationSpec) -> tuple[Window, ...]:
    """Every window, in order. One that repeats begins at the same time of day of its zone on each of its days, and lasts as
    long as the first. Raises ValueError, with a sentence, for what is no window."""
    first = Window(from_rfc3339(spec.start), from_rfc3339(spec.end))
    length = first.ends_at - first.starts_at
    if length <= 0:
        raise ValueError("end must be after start")
    if spec.repeat is None:
        return (first,)
    until = from_rfc3339(spec.repeat.until)
    if until - first.starts_at > LONGEST_SECONDS:
        raise ValueError("repeat.until must not be more than 366 days after start")
    if length > 86_400.0:
        raise ValueError("a window that repeats must not be longer than a day")
    zone = zone_of(spec.repeat.time_zone)
    try:
        starts = [first.starts_at, *_repeated(first.starts_at, until, spec.repeat.days, zone)]
    except (OverflowError, OSError) as error:
        raise ValueError("repeat.until must not be in the year 9999 or later") from error
    # Where clocks go forward, days of 23 hours follow each other sooner than windows of 24 hours end.
    ends = (*starts[1:], float("inf"))
    return tuple(Window(s, min(s + length, following)) for s, following in zip(starts, ends, strict=True))


def _repeated(start: float, until: float, days: tuple[str, ...], zone: tzinfo) -> list[float]:
    """When it begins again after its first day."""
    moment = datetime.fromtimestamp(start, zone)
    found, day = list[float](), moment.date() + timedelta(days=1)
    while (at := _at(day, moment, zone)) < until:
        if DAYS[day.weekday()] in days:
            found.append(at)
        day += timedelta(days=1)
    return found


def _at(day: date, moment: datetime, zone: tzinfo) -> float:
    """The same time of day on another day; where clocks skip it, as much later as they skip."""
    return datetime.combine(day, moment.time(), zone).timestamp()


def zone_of(name: str) -> tzinfo:
    """Raises ValueError for a name that the IANA's database does not have."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{name!r} is no time zone of IANA's database, such as Europe/Berlin") from error
