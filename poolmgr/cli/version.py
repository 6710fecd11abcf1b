"""`poolmgr version`: of this program, and of what runs in the cluster."""

from collections import Counter
from importlib.metadata import version as installed
from typing import Annotated, Any

import typer

from poolmgr import wire
from poolmgr.cli.daily.connection import Context, Kubeconfig, with_cluster
from poolmgr.cli.daily.listing import Format, aligned, dumped
from poolmgr.cli.daily.reading import Output
from poolmgr.cluster.client import Client
from poolmgr.cluster.look import listed
from poolmgr.domain.errors import PoolError
from poolmgr.wire.kinds import GPU_NODES

app = typer.Typer(add_completion=False)


@app.command(epilog="Examples:\n\n  poolmgr version\n\n  poolmgr version --client -o json")
def version(
    client: Annotated[
        bool, typer.Option("--client", help="Print only this program's version; contact no cluster.")
    ] = False,
    output: Output = Format.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Print the version of this program and, if a cluster can be reached, of its agents."""
    said: dict[str, Any] = {"client": installed("poolmgr")}
    trouble = ""
    if not client:
        try:
            nodes = with_cluster(kubeconfig, context, _nodes)
            said["agents"] = dict(sorted(Counter(n.status.agent_version or "unknown" for n in nodes).items()))
        except PoolError as error:
            trouble = error.message
    if output in (Format.JSON, Format.YAML):
        print(dumped(said, output))
    else:
        lines = [("client", str(said["client"]))]
        lines += [("agent", f"{name} ({count} node(s))") for name, count in said.get("agents", {}).items()]
        print(aligned(lines))
    if trouble:
        typer.echo(f"the cluster was not asked: {trouble}", err=True)


async def _nodes(client: Client) -> list[wire.GpuNode]:
    return await listed(client, GPU_NODES, wire.GpuNode)


if __name__ == "__main__":
    app()
