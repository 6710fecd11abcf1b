"""Failure is remembered: a GPU whose move failed rests for a while, and so does a node that was disturbed in vain.

The pause doubles with each failure in a row and ends with a success or by an operator's word. It is kept in
`GPUNode.spec`, beside what the manager wants of the node, so that a change of leader forgets nothing. How often a node
was disturbed is kept there as well, which bounds what moves may cost the pods of a node even while all of them succeed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2s

from poolmgr.domain.identifiers import NodeName, PciAddress
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason

WHOLE_NODE = PciAddress("")
"""In place of a GPU: the node's own reason, or a disturbance in vain that all of its pods have paid for."""

GPU_SECONDS = 600.0
"""First pause of a GPU: long enough for what blocked it to end by itself, short enough not to matter if it has."""
NODE_SECONDS = 3_600.0
"""First pause of a node: what took HAMi's plugin off it and moved nothing happens once an hour at most."""
LONGEST_SECONDS = 12 * 3_600.0
JITTER = 0.25
"""Part by which a pause may be longer, so that nodes that failed together are not tried together again."""
REMEMBERED_SECONDS = 24 * 3_600.0
"""After the end of a pause: a failure within this time counts as another one in a row."""

HOUR = 3_600.0
PLUGIN_STOPS_AN_HOUR = 20
"""Of one node. HAMi's plugin is away for about a minute each time, so at most a third of the hour."""
CLOSED_SECONDS_AN_HOUR = 1_800.0
"""Of one node, for which HAMi gives out none of its GPUs, or twice as long half of them."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """One GPU, or the whole node, that rests until an instant because its last moves failed."""

    pci_address: PciAddress
    """WHOLE_NODE for the node."""
    reason: str
    """Reason code of the last failure."""
    message: str
    failures: int
    """In a row."""
    failed_at: float
    until: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One time that a move closed GPUs of a node to new vGPU pods, as a rule all of them with HAMi's plugin taken off it."""

    started_at: float
    """So long before its end as `closed_seconds` says."""
    plugin_stops: int
    """0 where the move was given up before."""
    closed_seconds: float = 0.0
    """Of the whole node: GPUs that are closed alone, while a move waits for their pods, count by their part of it. 0 while the
    plugin is stopped."""


def utc(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _pause(first: float, failures: int, seed: str) -> float:
    """Seconds. The jitter follows from `seed`: equal input, equal pause."""
    chance = int.from_bytes(blake2s(seed.encode(), digest_size=4).digest()) / 2**32
    return min(LONGEST_SECONDS, first * 2.0 ** (failures - 1)) * (1 + JITTER * chance)


def failed(
    known: tuple[Backoff, ...],
    node: NodeName,
    whom: Iterable[PciAddress],
    reason: str,
    message: str,
    now: float,
) -> tuple[Backoff, ...]:
    """`known` after one more failure of everybody in `whom`; those long over are forgotten."""
    remembered = {b.pci_address: b for b in known if now - b.until < REMEMBERED_SECONDS}
    for address in whom:
        before = remembered.get(address)
        failures = before.failures + 1 if before is not None else 1
        first = NODE_SECONDS if address == WHOLE_NODE else GPU_SECONDS
        until = now + _pause(first, failures, f"{node} {address} {failures} {now}")
        remembered[address] = Backoff(address, reason, message, failures, now, until)
    return tuple(sorted(remembered.values(), key=lambda b: b.pci_address))


def succeeded(known: tuple[Backoff, ...], devices: Iterable[PciAddress]) -> tuple[Backoff, ...]:
    """`known` after a move of `devices` that was completed: neither they nor their node have failed since."""
    done = {WHOLE_NODE, *devices}
    return tuple(b for b in known if b.pci_address not in done)


def begun(
    known: tuple[Disturbance, ...], now: float, *, again: bool = False, since: float | None = None
) -> tuple[Disturbance, ...]:
    """`known`, and that HAMi's plugin is about to be stopped; `again`: a second time within the same move. `since`: where the move
    has kept the node's GPUs closed for a while."""
    recent = _recent(known, now)
    if again and recent:
        return (*recent[:-1], replace(recent[-1], plugin_stops=recent[-1].plugin_stops + 1))
    return (*recent, Disturbance(now if since is None else since, 1))


def closed(known: tuple[Disturbance, ...], seconds: float, now: float) -> tuple[Disturbance, ...]:
    """`known`, and that GPUs were closed until now for nothing, for `seconds` of the whole node. Less than one is not kept: 0
    means that it lasts."""
    return (*_recent(known, now), Disturbance(now - seconds, 0, seconds)) if seconds >= 1.0 else known


def _recent(known: tuple[Disturbance, ...], now: float) -> tuple[Disturbance, ...]:
    return tuple(d for d in known if now - d.started_at - d.closed_seconds < HOUR)


def ended(known: tuple[Disturbance, ...], began_at: float, now: float) -> tuple[Disturbance, ...]:
    """`known` once the move that began at `began_at` is over and the node open again."""
    if not known or known[-1].started_at < began_at or known[-1].closed_seconds:
        return known
    return (*known[:-1], replace(known[-1], closed_seconds=max(1.0, now - known[-1].started_at)))


@dataclass(frozen=True, slots=True)
class Spent:
    """What moves cost one node within the last hour."""

    plugin_stops: int
    closed_seconds: float
    until: float
    """When the oldest of it is an hour ago; now where there is nothing."""


def spent(known: tuple[Disturbance, ...], now: float) -> Spent:
    counted = [d for d in known if d.started_at + d.closed_seconds > now - HOUR]
    seconds = sum(d.closed_seconds or now - d.started_at for d in counted)
    ends = min((d.started_at + d.closed_seconds + HOUR for d in counted), default=now)
    return Spent(sum(d.plugin_stops for d in counted), seconds, ends)


def node_rests(
    node: NodeName, backoffs: tuple[Backoff, ...], disturbances: tuple[Disturbance, ...], now: float
) -> Verdict:
    """Whether nothing of the node may be moved now, for how long, and how an operator ends it."""
    for backoff in backoffs:
        if backoff.pci_address == WHOLE_NODE and backoff.until > now:
            return Verdict(True, Reason.RECENTLY_FAILED, _sentence(f"node {node}", node, "all", backoff))
    used = spent(disturbances, now) if disturbances else None
    if used and (used.plugin_stops >= PLUGIN_STOPS_AN_HOUR or used.closed_seconds >= CLOSED_SECONDS_AN_HOUR):
        return Verdict(
            True,
            Reason.DISTURBANCE_SPENT,
            f"in the last hour moves stopped HAMi's plugin on {node} {used.plugin_stops} time(s) and kept new vGPU "
            f"pods off it for {used.closed_seconds:.0f} s, which is the limit; the next move there waits until {utc(used.until)}",
        )
    return AT_WORK


def gpu_rests(node: NodeName, address: PciAddress, backoffs: tuple[Backoff, ...], now: float) -> Verdict:
    """The same for one GPU, its node apart."""
    for backoff in backoffs:
        if backoff.pci_address == address and backoff.until > now:
            name = f"GPU {address} on {node}"
            return Verdict(True, Reason.RECENTLY_FAILED, _sentence(name, node, address, backoff))
    return AT_WORK


AT_WORK = Verdict(False, Reason.ADMITTED)
"""Does not rest."""


def _sentence(name: str, node: NodeName, word: str, backoff: Backoff) -> str:
    often = "its last move" if backoff.failures == 1 else f"{backoff.failures} moves in a row"
    return (
        f"{name} is not moved before {utc(backoff.until)}, because {often} failed: {backoff.message}; to try at once, run "
        f"kubectl annotate gpunode {node} poolmgr.io/retry={word}"
    )


def retried(known: tuple[Backoff, ...], asked: str) -> tuple[Backoff, ...]:
    """`known` without what an operator asks to try again: `all`, or PCI addresses with commas between them. Whoever asks
    for a GPU means its node as well."""
    words = {word.strip() for word in asked.split(",")}
    if "all" in words:
        return ()
    return tuple(b for b in known if b.pci_address not in words and b.pci_address != WHOLE_NODE)


def steady_until(backoffs: tuple[Backoff, ...], disturbances: tuple[Disturbance, ...], now: float) -> float:
    """Until when the answers of `node_rests` and `gpu_rests` stay the same if nobody writes anything."""
    ends = [b.until for b in backoffs if b.until > now]
    ends += [d.started_at + d.closed_seconds + HOUR for d in disturbances]
    open_ones = [d for d in disturbances if not d.closed_seconds]
    return now if open_ones else min((end for end in ends if end > now), default=float("inf"))
