"""The phases of a run, the same for every arm on one filled API server."""

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bench.live import calls
from bench.live.changes import Changes
from bench.live.counterparts import Counterparts
from bench.live.fill import Api, Tell, connected
from bench.live.fleet import Size
from bench.live.manager import Arm, Manager
from e2e.controlplane.plane import ControlPlane

READY_WITHIN_SECONDS = 300.0
SETTLE_SECONDS = 20.0
"""Between ready and the first figure: what a start leaves to be done is no rest."""
BEGIN_WITHIN_SECONDS = 60.0
"""From the last VM on."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long each phase is, and what happens in it."""

    rest_seconds: float = 30.0
    changes_seconds: float = 60.0
    rate: float = 40.0
    """Changes a second."""
    vms: int = 60
    vm_seconds: float = 1.5
    """Between two VMs."""
    rounds: int = 25
    """Of all calls."""
    open_seconds: float = 30.0


QUICK = Schedule(rest_seconds=3, changes_seconds=5, vms=3, vm_seconds=1.0, rounds=2, open_seconds=3)


@dataclass(slots=True)
class Figures:
    """What one arm came to. Seconds, MiB, cores."""

    ready_s: float = 0.0
    leads_s: float = 0.0
    rest_mib: float = 0.0
    """RSS at rest, before anything was asked."""
    rss_mib: float = 0.0
    pss_mib: float = 0.0
    """The highest of those seen."""
    rest_cores: float = 0.0
    changes_cores: float = 0.0
    changes_rate: float = 0.0
    """Writes a second that the API server took meanwhile."""
    moves_cores: float = 0.0
    begin_s: list[float] = field(default_factory=list)
    never_begun: int = 0
    """VMs for which none began within BEGIN_WITHIN_SECONDS; they count as such a wait."""
    calls_s: dict[str, list[float]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    """Calls that were not answered with a 2xx, or not in time."""
    open_cores: float = 0.0
    """With changes, and with the page open in one browser."""
    open_bytes: list[int] = field(default_factory=list)


async def measure(
    plane: ControlPlane, arms: Sequence[Arm], size: Size, schedule: Schedule, folder: Path, tell: Tell
) -> dict[str, Figures]:
    """Every arm, one after another. `plane` is running and holds the fleet."""
    figures = {}
    async with connected(plane.kubeconfig) as api:
        changes = Changes(api, size, schedule.rate, random.Random(1))
        for arm in arms:
            tell(f"{arm.name}: starting")
            figures[arm.name] = await _measure(
                plane, arm, api, changes, size, schedule, folder / arm.name, tell
            )
    return figures


async def _measure(
    plane: ControlPlane,
    arm: Arm,
    api: Api,
    changes: Changes,
    size: Size,
    schedule: Schedule,
    folder: Path,
    tell: Tell,
) -> Figures:
    manager, found = Manager(plane, arm, folder), Figures()
    counterparts = Counterparts(api, size, time.monotonic, tell)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        begun = time.monotonic()
        manager.start()
        stack.callback(manager.stop)
        await _until(manager, http, begun, found)
        tell(f"{arm.name}: ready after {found.ready_s:.1f} s, leads after {found.leads_s:.1f} s")
        stack.push_async_callback(_ended, asyncio.create_task(counterparts.run()))
        stack.push_async_callback(_ended, asyncio.create_task(_watch_memory(manager, found)))
        while not await manager.hears_agents(http):
            if time.monotonic() - begun > READY_WITHIN_SECONDS:
                raise TimeoutError(f"the manager did not hear every agent\n{manager.process.tail()}")
            await asyncio.sleep(0.5)
        await asyncio.sleep(min(SETTLE_SECONDS, schedule.rest_seconds))
        found.rest_cores = await _cores(manager, schedule.rest_seconds)
        found.rest_mib = manager.rss_mib()
        tell(f"{arm.name}: {found.rest_cores:.2f} cores and {found.rest_mib:.0f} MiB at rest")
        changing = asyncio.create_task(changes.run())
        stack.push_async_callback(_stopped, changes, changing)
        made = changes.made
        found.changes_cores = await _cores(manager, schedule.changes_seconds)
        found.changes_rate = (changes.made - made) / schedule.changes_seconds
        tell(f"{arm.name}: {found.changes_cores:.2f} cores at {found.changes_rate:.0f} changes/s")
        await _vms(manager, counterparts, schedule, found)
        tell(f"{arm.name}: a move begins after {calls.percentile(found.begin_s, 0.5):.2f} s (p50)")
        found.calls_s, found.refused = await calls.measure(http, manager.address, schedule.rounds)
        slowest = max(found.calls_s, key=lambda name: calls.percentile(found.calls_s[name], 0.99))
        tell(
            f"{arm.name}: slowest call {slowest}, {calls.percentile(found.calls_s[slowest], 0.99):.2f} s (p99)"
        )
        async with calls.page_open(http, manager.address) as found.open_bytes:
            found.open_cores = await _cores(manager, schedule.open_seconds)
        tell(f"{arm.name}: {found.open_cores:.2f} cores with the page open")
    await counterparts.end_vms()
    return found


async def _until(manager: Manager, http: httpx.AsyncClient, begun: float, found: Figures) -> None:
    while not found.leads_s:
        ready, leads = await manager.ready(http)
        now = time.monotonic() - begun
        if ready and not found.ready_s:
            found.ready_s = now
        if leads:
            found.leads_s = now
        if now > READY_WITHIN_SECONDS:
            raise TimeoutError(f"the manager did not lead within {now:.0f} s\n{manager.process.tail()}")
        await asyncio.sleep(0.1)


async def _vms(manager: Manager, counterparts: Counterparts, schedule: Schedule, found: Figures) -> None:
    """VMs one after another, each of which needs a GPU moved, while the changes go on."""
    cpu, begun = manager.cpu_seconds(), time.monotonic()
    for number in range(schedule.vms):
        await counterparts.start_vm(number)
        await asyncio.sleep(schedule.vm_seconds)
    found.moves_cores = (manager.cpu_seconds() - cpu) / (time.monotonic() - begun)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(BEGIN_WITHIN_SECONDS):
            for desktop in counterparts.desktops:
                await desktop.begun.wait()
    now = time.monotonic()
    found.never_begun = sum(d.begun_at is None for d in counterparts.desktops)
    found.begin_s = [(d.begun_at or now) - d.created_at for d in counterparts.desktops]


async def _cores(manager: Manager, seconds: float) -> float:
    """CPU seconds a second over so long."""
    cpu, begun = manager.cpu_seconds(), time.monotonic()
    await asyncio.sleep(seconds)
    return (manager.cpu_seconds() - cpu) / (time.monotonic() - begun)


async def _watch_memory(manager: Manager, found: Figures) -> None:
    while True:
        rss, pss = manager.highest_mib()
        found.rss_mib, found.pss_mib = max(found.rss_mib, rss), max(found.pss_mib, pss)
        await asyncio.sleep(1.0)


async def _stopped(changes: Changes, task: "asyncio.Task[None]") -> None:
    changes.stop()
    await task


async def _ended(task: "asyncio.Task[None]") -> None:
    """Cancel it; what ended it before is raised."""
    failed = task.done() and not task.cancelled() and task.exception()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if failed:
        raise failed
