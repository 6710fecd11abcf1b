"""`poolmgr snapshot`: a live cluster as JSON, for `poolmgr plan --from` here or elsewhere. It only reads."""

import asyncio
import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from poolmgr.domain.errors import Rejected, Unavailable
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot

if TYPE_CHECKING:
    from poolmgr.cluster.objects import ObjectStore
    from poolmgr.cluster.transport import Transport

app = typer.Typer(add_completion=False)

POLL_SECONDS = 0.2
FILE_SECONDS = 60.0
"""For a file to be read completely: ten thousand nodes take some seconds."""
EPILOG = """
Examples:

  poolmgr snapshot > snapshot.json

  poolmgr snapshot --kubeconfig ~/.kube/lab --context lab > snapshot.json

  poolmgr plan --from snapshot.json
"""

Kubeconfig = Annotated[
    Path | None,
    typer.Option(help="Kubeconfig of the cluster to read; default: KUBECONFIG, or ~/.kube/config."),
]
Context = Annotated[str | None, typer.Option(help="Kubeconfig context; default: the current one.")]
HamiConfig = Annotated[
    str, typer.Option(help="Name of HAMi's device ConfigMap, if its chart was not installed as `hami`.")
]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds to wait for the whole cluster.", min=1.0)]


@app.command(epilog=EPILOG)
def snapshot(
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    hami_device_config: HamiConfig = "",
    timeout: Timeout = 30.0,
) -> None:
    """Read a cluster as the manager does and print what it sees as JSON. Needs only get, list and watch."""
    from poolmgr.sim.snapshots import encode_snapshot

    taken = take(kubeconfig, context, hami_device_config, timeout)
    print(encode_snapshot(taken).decode())
    typer.echo(said_of(taken), err=True)


def said_of(taken: ClusterSnapshot) -> str:
    """One line for a human: how much was seen."""
    gpus = sum(len(node.gpus) for node in taken.nodes)
    return (
        f"{len(taken.nodes)} node(s) with {gpus} GPU(s), {len(taken.pools)} pool(s), "
        f"{len(taken.vms)} VM(s), {len(taken.pods)} pod(s)"
    )


def take(kubeconfig: Path | None, context: str | None, device_config: str, seconds: float) -> ClusterSnapshot:
    """A complete snapshot of the live cluster. Raises Rejected for a kubeconfig that cannot be used, Unavailable
    when the cluster has not been read completely within `seconds`, with what is missing."""
    import os

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    chosen = kubeconfig or Path(os.environ.get("KUBECONFIG") or "~/.kube/config")
    chosen = chosen.expanduser()
    if not chosen.is_file():
        raise Rejected(
            Reason.NOT_FOUND, f"there is no kubeconfig {chosen}; name the cluster's with --kubeconfig"
        )
    return asyncio.run(_take_live(str(chosen), context, device_config, seconds))


def take_from(objects: "ObjectStore", source: str) -> ClusterSnapshot:
    """The snapshot of a cluster that has these objects. Raises Unavailable where they are not enough for one."""
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    return asyncio.run(_take(objects, f"the objects of {source}", "", FILE_SECONDS))


async def _take_live(
    kubeconfig: str, context: str | None, device_config: str, seconds: float
) -> ClusterSnapshot:
    from poolmgr.cluster import transport

    connected = await transport.connect(kubeconfig, context=context)
    return await _take(connected, f"the cluster of {kubeconfig}", device_config, seconds)


async def _take(transport: "Transport", source: str, device_config: str, seconds: float) -> ClusterSnapshot:
    from poolmgr.cluster.client import Client
    from poolmgr.cluster.view import KubernetesView, ViewSettings
    from poolmgr.kit.clock import SystemClock

    clock = SystemClock()
    client = Client(transport, clock=clock, rng=random.Random())
    settings = ViewSettings(hami_device_config=device_config) if device_config else ViewSettings()
    view = KubernetesView(client, settings)
    watching = asyncio.create_task(view.run())
    try:
        ends = clock.monotonic() + seconds
        while view.trouble():
            if clock.monotonic() > ends:
                missing = " ".join(view.trouble()[:3])
                raise Unavailable(
                    Reason.NOT_SYNCED,
                    f"after {seconds:.0f} s {source} has not been read completely: {missing}",
                )
            await clock.sleep(POLL_SECONDS)
        return await view.snapshot()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await client.close()


if __name__ == "__main__":
    app()
