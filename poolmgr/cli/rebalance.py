"""`poolmgr rebalance`: have the manager plan for one pool now, and do it."""

from typing import Annotated, Any

import typer

from poolmgr.api import schemas
from poolmgr.cli.daily.connection import Context, Kubeconfig, Server, Token
from poolmgr.cli.daily.listing import Format, dumped
from poolmgr.cli.daily.manager import manager
from poolmgr.cli.daily.reading import Output

app = typer.Typer(add_completion=False)

EPILOG = """
Examples:

  poolmgr rebalance desktops --dry-run

  poolmgr rebalance desktops

  POOLMGR_TOKEN=$(kubectl -n poolmgr-system create token operator) poolmgr rebalance desktops
"""


@app.command(epilog=EPILOG)
def rebalance(
    pool: Annotated[str, typer.Argument(help="Name of the GPUPool.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")
    ] = False,
    generation: Annotated[
        int | None, typer.Option(help="Do nothing if the pool has changed since this generation.")
    ] = None,
    output: Output = Format.TABLE,
    server: Server = "",
    token: Token = "",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Have the manager plan for one pool now and start the moves, even if the pool is in Recommend mode or Off.

    Bounds, budgets and busy GPUs are respected as always. Requires the rights of the ClusterRole poolmgr-operate.
    """
    body: dict[str, Any] = {"dryRun": dry_run}
    body |= {"generation": generation} if generation is not None else {}
    with manager(server, token, kubeconfig, context) as api:
        answer = api.post(f"/pools/{pool}:rebalance", body)
    print(dumped(answer, output) if output in (Format.JSON, Format.YAML) else text_of(answer))


def text_of(answer: dict[str, Any]) -> str:
    """The answer for people."""
    done = schemas.Rebalance.model_validate(answer)
    lines = [f"{done.pool}: {'would start' if done.dry_run else 'started'} {len(done.started)} move(s)"]
    lines += [
        f"  {move.node}/{move.pci_address} to {move.to_mode}: {move.message} ({move.reason})"
        for move in done.started
    ]
    lines += [
        f"  held back {held.namespace}/{held.name}: {held.message} ({held.reason})" for held in done.held_back
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    app()
