"""`poolmgr manager`: everything that runs in the manager's pod, composed on a real cluster.

All replicas watch the cluster and answer reads; the one that holds the lease acts. Nothing here decides.
"""

import asyncio
import os
import platform
import random
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import structlog
import typer

from poolmgr.cli.settings import ManagerSettings, load, misspelt

if TYPE_CHECKING:
    from poolmgr.cluster.client import Client
    from poolmgr.domain.access import AccessControl
    from poolmgr.domain.identifiers import LeaseEpoch

app = typer.Typer(add_completion=False, rich_markup_mode=None)

log = structlog.get_logger()


@app.command()
def manager(
    kubeconfig: Annotated[
        Path | None,
        typer.Option(envvar="KUBECONFIG", help="Kubeconfig file; leave it out in a pod."),
    ] = None,
    context: Annotated[str | None, typer.Option(help="Context in the kubeconfig.")] = None,
    namespace: Annotated[
        str | None, typer.Option(help="Namespace of the manager's Lease (POOLMGR_NAMESPACE).")
    ] = None,
    database: Annotated[
        str | None, typer.Option(help="SQLAlchemy URL of the ledger (POOLMGR_DATABASE_URL).")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (POOLMGR_API__HOST).")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port of dashboard and REST API (POOLMGR_API__PORT).", min=0, max=65535)
    ] = None,
    log_text: Annotated[bool, typer.Option("--log-text", help="Log readable text instead of JSON.")] = False,
) -> None:
    """Run the manager: observe the cluster, plan, move GPUs, serve dashboard and REST API.

    Every setting is an environment variable, listed in docs/reference/manager-settings.md; options win.

    \b
    In the Deployment:  poolmgr manager
    From a machine:     poolmgr manager --kubeconfig ~/.kube/config --log-text
    """
    given: dict[str, Any] = {
        "kubeconfig": kubeconfig,
        "context": context,
        "namespace": namespace,
        "database_url": database,
        "log_text": log_text or None,
    }
    settings = load(**{name: value for name, value in given.items() if value is not None})
    if host is not None or port is not None:
        update = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
        settings = settings.model_copy(update={"api": settings.api.model_copy(update=update)})
    run_manager(settings)


def run_manager(settings: ManagerSettings) -> None:
    """Run until SIGTERM or Ctrl-C. Raises Rejected where a setting or the kubeconfig cannot be used."""
    from poolmgr.cli.serving import listen
    from poolmgr.kit.log import configure

    configure(json_lines=not settings.log_text, level=settings.log_level)
    for name, meant in misspelt(os.environ).items():
        log.warning("setting_unknown", variable=name, did_you_mean=meant)
    listener = listen(settings.api.host, settings.api.port)
    asyncio.run(_run(settings, listener, settings.write_token))


async def _run(settings: ManagerSettings, listener: socket.socket, token: str) -> None:
    from poolmgr.api.app import create_app
    from poolmgr.api.request_limits import hosts_served
    from poolmgr.cli.live_planner import in_a_thread, live_planner
    from poolmgr.cli.serving import serve, stop_on_signals
    from poolmgr.cluster.connect import ClusterSettings, connected
    from poolmgr.cluster.view import ViewSettings
    from poolmgr.controller.interfaces import Dependencies
    from poolmgr.controller.loop import Controller, LoopSettings
    from poolmgr.kit.clock import SystemClock
    from poolmgr.store.database import Database
    from poolmgr.store.history import SqlHistory
    from poolmgr.store.ledger import Retention, SqlLedger
    from poolmgr.store.queue import QueuedLedger

    clock, stopping = SystemClock(), asyncio.Event()
    stop_on_signals(stopping)
    database = Database(settings.ledger_url, timeout_seconds=settings.ledger.timeout_seconds)
    history = settings.ledger
    ledger = SqlLedger(
        database,
        Retention(
            history.plans_days,
            history.transitions_days,
            history.samples_days,
            history.rest_calls_days,
            history.mebibytes,
        ),
    )
    queued = QueuedLedger(ledger)
    where = ClusterSettings(
        kubeconfig=str(settings.kubeconfig) if settings.kubeconfig else None,
        context=settings.context,
        identity=os.environ.get("POD_NAME") or platform.node(),
        view=ViewSettings(
            hami_version=settings.hami_version,
            hami_namespace=settings.hami_namespace,
            hami_device_config=settings.hami_device_config,
            heartbeats_in=settings.namespace,
        ),
        lease=settings.lease.in_namespace(settings.namespace),
    )
    try:
        async with connected(where, clock=clock, rng=random.Random()) as cluster:
            controller = Controller(
                Dependencies(
                    clock=clock,
                    view=cluster.view,
                    fleet=cluster.fleet,
                    sharing=cluster.sharing,
                    services=cluster.services,
                    evictor=cluster.evictor,
                    admitter=cluster.admitter,
                    recorder=cluster.recorder,
                    ledger=queued,
                    leadership=cluster.elector,
                    reporter=cluster.reporter,
                    reservations=cluster.reservations,
                    beside=in_a_thread(),
                ),
                live_planner(forecast=settings.loop.forecast),
                LoopSettings(
                    idle_seconds=settings.loop.idle_seconds,
                    busy_seconds=settings.loop.busy_seconds,
                    settle_seconds=settings.loop.settle_seconds,
                    stale_after_seconds=settings.loop.stale_after_seconds,
                    sample_seconds=settings.loop.sample_seconds,
                    deadlines=settings.steps.deadlines,
                ),
            )
            address = listener.getsockname()
            web = create_app(
                control=controller,
                history=SqlHistory(database),
                audit=ledger,
                clock=clock,
                access=_access(settings, token, address[0], cluster.client),
                cluster=settings.api.cluster_name,
                stopping=stopping,
                hosts=hosts_served(address[0]),
            )
            log.info("manager_started", address=f"{address[0]}:{address[1]}", ledger=database.where)
            await until_first_ends(
                stopping,
                watches=cluster.run(),
                controller=controller.run(),
                # The loop looks at the lease itself before every act, so that a standby's view stays warm.
                lease=cluster.elector.run(_leading(settings, cluster.client)),
                ledger=queued.run(),
                web=serve(web, listener, stopping),
            )
    finally:
        await database.close()
    log.info("manager_ended")


def _access(settings: ManagerSettings, token: str, address: str, client: "Client") -> "AccessControl":
    """Who may ask the API, as the settings say."""
    from poolmgr.api.auth import OpenAccess, TokenAccess
    from poolmgr.api.request_limits import hosts_served
    from poolmgr.cluster.access import KubernetesAccess

    chosen = settings.api.access
    if chosen == "token" or (not chosen and token):
        return TokenAccess(token)
    if chosen == "open" or (not chosen and hosts_served(address)):
        log.info("api_open", address=address)
        return OpenAccess()
    return KubernetesAccess(client)


def _leading(settings: ManagerSettings, client: "Client") -> Callable[["LeaseEpoch"], Awaitable[None]]:
    """What leading consists of here, until the lease is lost or this process ends: in a pod of the chart, being marked."""
    from poolmgr.cluster.leader_label import LeaderLabel

    if settings.mark_leader and (pod := os.environ.get("POD_NAME")):
        return LeaderLabel(client, settings.namespace, pod).keep
    return _hold


async def _hold(_epoch: object) -> None:
    await asyncio.Event().wait()


async def until_first_ends(stopping: asyncio.Event, **parts: Any) -> None:
    """Run the coroutines until `stopping` or until one ends; then end the others, the web server in its time.

    Raises what a part raised: a manager with a dead part must end, so that the Deployment starts a whole one.
    """
    tasks = {name: asyncio.create_task(part, name=name) for name, part in parts.items()}
    stop = asyncio.create_task(stopping.wait(), name="stop")
    await asyncio.wait({*tasks.values(), stop}, return_when=asyncio.FIRST_COMPLETED)
    failed = [task for task in tasks.values() if task.done() and task.exception() is not None]
    stopping.set()
    for name, task in tasks.items():
        if name != "web":
            task.cancel()
    await asyncio.gather(*tasks.values(), stop, return_exceptions=True)
    for task in failed:
        task.result()
