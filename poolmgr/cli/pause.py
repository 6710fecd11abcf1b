"""`poolmgr pause` and `poolmgr resume`: take a pool out of planning, and give it back the mode that it had."""

from typing import Annotated

import typer

from poolmgr.cli.daily.connection import Context, Kubeconfig, with_cluster
from poolmgr.cluster.operator_edits import pause_pool, resume_pool
from poolmgr.domain.fleet import RebalanceMode

app = typer.Typer(add_completion=False)
resume_app = typer.Typer(add_completion=False)

Pool = Annotated[str, typer.Argument(help="Name of the GPUPool.")]


@app.command(epilog="Examples:\n\n  poolmgr pause desktops\n\n  poolmgr resume desktops")
def pause(pool: Pool, kubeconfig: Kubeconfig = None, context: Context = None) -> None:
    """Stop planning for a pool until it is resumed. Moves under way are finished.

    Sets spec.rebalance.mode of the GPUPool to Off and records the previous mode in an annotation. Where Argo CD
    or Flux manages the GPUPool, it undoes that: change the mode in Git instead.
    """
    before = with_cluster(kubeconfig, context, lambda client: pause_pool(client, pool))
    if before is RebalanceMode.OFF:
        print(f"pool {pool} was Off already; nothing was changed")
    else:
        print(
            f"pool {pool} is paused: nothing is planned for it, moves under way are finished (before: {before})"
        )


@resume_app.command(
    epilog="Examples:\n\n  poolmgr resume desktops\n\n  poolmgr resume desktops --mode Recommend"
)
def resume(
    pool: Pool,
    mode: Annotated[
        RebalanceMode | None, typer.Option(help="Mode to set; default: the one before the pause.")
    ] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Resume planning for a paused pool, in the mode that it had."""
    now = with_cluster(kubeconfig, context, lambda client: resume_pool(client, pool, mode))
    print(f"pool {pool} is {now} again")


if __name__ == "__main__":
    app()
