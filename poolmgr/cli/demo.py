"""`poolmgr demo`: the whole manager on a simulated fleet, on this machine, with a dashboard to watch.

Controller, planner, ledger, API and webhook are the real ones; only the cluster is simulated, with a clock of
its own that runs faster than ours. With `--kubeconfig` nothing is simulated: that is `poolmgr manager`.
"""

import asyncio
import contextlib
import gc
import socket
import tempfile
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from poolmgr.api.app import create_app
from poolmgr.api.auth import OpenAccess
from poolmgr.api.request_limits import hosts_served
from poolmgr.api.ui.wording import hour_and_minute
from poolmgr.cli.aside import aside, ended_by
from poolmgr.cli.demo_admission import ask_about_machines, tell, webhook
from poolmgr.cli.live_planner import live_planner
from poolmgr.cli.serving import listen, serve, stop_on_signals
from poolmgr.controller.interfaces import Dependencies
from poolmgr.controller.loop import Controller, LoopSettings
from poolmgr.domain.errors import Fault
from poolmgr.kit.clock import SystemClock
from poolmgr.kit.log import configure
from poolmgr.sim.actuators import FixedLeadership
from poolmgr.sim.desktop_day import DesktopDay, desktop_day
from poolmgr.sim.fleet import SimulatedFleet
from poolmgr.store.database import Database
from poolmgr.store.history import SqlHistory
from poolmgr.store.ledger import SqlLedger

app = typer.Typer(add_completion=False)

MORNING_SECONDS = 3.5 * 3_600
"""Replayed as fast as it goes before the page opens, so that it opens on a working fleet with a chart."""
FRAME_SECONDS = 2.0
"""Virtual seconds of the replay between two looks whether the ledger has caught up: while the controller waits
for it, simulated time runs on."""


SERVERS = frozenset({"dashboard", "webhook"})
"""Parts that end by themselves once the demo is stopping, letting answers in flight out."""


@dataclass(frozen=True, slots=True)
class _Demo:
    """What runs: every part composed, nothing started."""

    fleet: SimulatedFleet
    controller: Controller
    database: Database
    ledger: SqlLedger
    speed: float

    async def replay_morning(self, console: Console) -> None:
        begin = self.fleet.clock.now()
        columns = (TextColumn("  replaying the morning"), BarColumn(30), TextColumn("{task.description}"))
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(hour_and_minute(begin), total=MORNING_SECONDS)
            while self.fleet.clock.now() < begin + MORNING_SECONDS:
                await self.fleet.clock.run_for(FRAME_SECONDS)
                await self.database.quiet()
                progress.update(
                    task, advance=FRAME_SECONDS, description=hour_and_minute(self.fleet.clock.now())
                )

    async def run(self, console: Console, listener: socket.socket) -> None:
        """Until a signal. Raises a PoolError when a part failed that the demo cannot do without."""
        stopping = asyncio.Event()
        stop_on_signals(stopping)
        work = asyncio.create_task(self.controller.run(), name="controller")
        morning = asyncio.create_task(self.replay_morning(console), name="morning")
        ended = asyncio.create_task(stopping.wait(), name="stop")
        parts: set[asyncio.Task[Any]] = {work, morning, ended}
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            if morning.done() and not work.done() and not morning.exception():
                _say_where(console, listener, self)
                needed = self._going_on(listener, stopping)
                parts |= needed | self._front_desk(console, stopping)
                await asyncio.wait({work, ended, *needed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            failed = [(p.get_name(), p.exception()) for p in parts if p.done() and not p.cancelled()]
            stopping.set()
            for part in parts:
                if part.get_name() not in SERVERS:
                    part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            await self.database.close()
        for name, error in failed:
            if error is not None:
                raise ended_by(f"the demo's {name}", error)
        console.print("\n[dim]Ended; nothing is left running.[/dim]")

    def _going_on(self, listener: socket.socket, stopping: asyncio.Event) -> set[asyncio.Task[None]]:
        """Time and dashboard: the demo ends with either."""
        return {
            asyncio.create_task(self.fleet.clock.run_paced(SystemClock(), self.speed), name="clock"),
            asyncio.create_task(serve(self._web(listener, stopping), listener, stopping), name="dashboard"),
        }

    def _front_desk(self, console: Console, stopping: asyncio.Event) -> set[asyncio.Task[None]]:
        """The webhook, and the people whom it answers: lines below the address, which nothing depends on."""
        say = partial(console.print, style="dim", soft_wrap=True)
        desk = listen("127.0.0.1", 0)
        address = f"http://127.0.0.1:{desk.getsockname()[1]}"
        admission = serve(webhook(self.controller, self.fleet.clock), desk, stopping)
        questions = tell(ask_about_machines(self.controller, address, SystemClock()), say)
        return {
            asyncio.create_task(aside("the webhook", admission, say), name="webhook"),
            asyncio.create_task(aside("asking the webhook", questions, say), name="people"),
        }

    def _web(self, listener: socket.socket, stopping: asyncio.Event) -> object:
        day = self.fleet
        return create_app(
            control=self.controller,
            access=OpenAccess(),
            history=SqlHistory(self.database),
            audit=self.ledger,
            clock=day.clock,
            cluster="simulated fleet",
            pace=f"{self.speed:g} times real time",
            stopping=stopping,
            hosts=hosts_served(listener.getsockname()[0]),
        )


def compose(day: DesktopDay, seed: int, speed: float, url: str) -> _Demo:
    """Put the demo together on a ledger at `url`."""
    fleet = desktop_day(seed, day)
    database = Database(url)
    ledger = SqlLedger(database)
    dependencies = Dependencies(
        clock=fleet.clock,
        view=fleet,
        fleet=fleet.actuators,
        sharing=fleet.actuators,
        services=fleet.actuators,
        evictor=fleet.actuators,
        admitter=fleet.actuators,
        recorder=fleet.actuators,
        ledger=ledger,
        leadership=FixedLeadership(),
        reporter=fleet.actuators,
        reservations=fleet.actuators.reservations,
    )
    controller = Controller(dependencies, live_planner(), LoopSettings(busy_seconds=2.0))
    return _Demo(fleet, controller, database, ledger, speed)


def _say_where(console: Console, listener: socket.socket, run: _Demo) -> None:
    host, port = listener.getsockname()[:2]
    address = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
    hour = hour_and_minute(run.fleet.clock.now())
    console.print(
        f"""
  [bold]Dashboard[/bold]  [bold cyan]{address}/[/bold cyan]
  REST API   {address}/api/v1/pools    (described at /api/v1/openapi.json)

It is {hour} on a Monday there, and a minute takes {60 / run.speed:.1f} s. People start desktops that need a
whole GPU, jobs ask for slices of one; poolmgr moves GPUs between the two and says why.

Ask what it would do now, without doing it:
  curl -s -X POST {address}/api/v1/pools/desktops:rebalance \\
       -H 'Content-Type: application/json' -d '{{"dryRun": true}}'

Below is what the webhook tells people who have to wait. Ctrl-C ends everything.
""",
        soft_wrap=True,
    )


def _run_on_cluster(kubeconfig: Path, host: str, port: int, database: str) -> None:
    # Here and not at the top: a simulated demo needs no Kubernetes client.
    from poolmgr.cli.manager import run_manager
    from poolmgr.cli.settings import load

    settings = load(
        kubeconfig=kubeconfig,
        api={"host": host, "port": port, "cluster_name": kubeconfig.name},
        log_text=True,
        **({"database_url": database} if database else {}),
    )
    typer.echo(f"poolmgr manager on the cluster of {kubeconfig}; dashboard at http://{host}:{port}/")
    run_manager(settings)


@app.command()
def demo(
    port: Annotated[int, typer.Option(help="Port of dashboard and REST API.", min=0, max=65535)] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    speed: Annotated[float, typer.Option(help="Simulated seconds per second.", min=1, max=600)] = 60,
    nodes: Annotated[int, typer.Option(help="Simulated nodes.", min=1, max=200)] = 6,
    gpus: Annotated[int, typer.Option(help="GPUs of each node.", min=1, max=16)] = 8,
    days: Annotated[int, typer.Option(help="Days of demand.", min=1, max=28)] = 5,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal days.")] = 7,
    database: Annotated[
        str, typer.Option(help="SQLAlchemy URL of the ledger; by default SQLite in a temporary folder.")
    ] = "",
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Run the manager on this cluster instead of a simulated one.")
    ] = None,
    verbose: Annotated[bool, typer.Option(help="Print the manager's log.")] = False,
) -> None:
    """Run poolmgr on a simulated fleet, with its dashboard, on this machine."""
    if kubeconfig is not None:
        _run_on_cluster(kubeconfig, host, port, database)
        return
    configure(json_lines=False, level="info" if verbose else "error")
    console = Console(highlight=False)
    listener = listen(host, port)
    with tempfile.TemporaryDirectory(prefix="poolmgr-demo-") as folder:
        url = database or f"sqlite:///{folder}/ledger.sqlite"
        console.print(
            f"[bold]poolmgr demo[/bold]: {nodes} simulated nodes with {gpus} NVIDIA A10 each, seed {seed}"
        )
        run = compose(DesktopDay(nodes=nodes, gpus_per_node=gpus, days=days), seed, speed, url)
        console.print(f"  ledger at {run.database.where}")
        try:
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(run.run(console, listener))
        except Fault as fault:
            if verbose:
                traceback.print_exception(fault.__cause__)
            raise
    # The process ends here: without this, Python first looks through everything it ever imported, for seconds
    # on a busy machine, while somebody waits for their prompt.
    gc.freeze()
