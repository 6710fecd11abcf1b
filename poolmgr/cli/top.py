"""`poolmgr top`: who has how much of the GPUs, most first."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from poolmgr.cli.daily.connection import Context, Kubeconfig
from poolmgr.cli.daily.holdings import by_gpu, by_namespace, by_node
from poolmgr.cli.daily.listing import Format, Listing
from poolmgr.cli.daily.reading import NoHeaders, Output, Watch, about, read, show, warn
from poolmgr.domain.census import take_census

app = typer.Typer(add_completion=False)

EPILOG = """
Examples:

  poolmgr top

  poolmgr top gpus

  poolmgr top namespaces -o json
"""


class By(StrEnum):
    NODES = "nodes"
    GPUS = "gpus"
    NAMESPACES = "namespaces"


@app.command(epilog=EPILOG)
def top(
    what: Annotated[By, typer.Argument(help="nodes, gpus or namespaces.")] = By.NODES,
    output: Output = Format.TABLE,
    watch: Watch = False,
    no_headers: NoHeaders = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show how many GPUs are allocated, most first. GIVEN AWAY counts what workloads hold, in GPUs, not how busy they are.

    A VM holds whole GPUs. A pod holds the larger of its parts of memory and of compute.
    """

    def once() -> tuple[Listing, Mapping[str, Any]]:
        found = read(kubeconfig, context)
        warn(found)
        census = take_census(found.snapshot)
        match what:
            case By.NODES:
                return by_node(found, census), about(found)
            case By.GPUS:
                return by_gpu(found, census), about(found)
            case By.NAMESPACES:
                return by_namespace(census), about(found)

    show(once, output, watch=watch, header=not no_headers, nothing="no GPU is reported")


if __name__ == "__main__":
    app()
