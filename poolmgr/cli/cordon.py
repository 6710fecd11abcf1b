"""`poolmgr cordon` and `poolmgr uncordon`: keep GPUs in the mode that they are in, and let them move again."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from poolmgr.cli.daily.connection import Context, Kubeconfig, with_cluster

if TYPE_CHECKING:
    from poolmgr.cluster.client import Client

app = typer.Typer(add_completion=False)
uncordon_app = typer.Typer(add_completion=False)

Targets = Annotated[
    list[str], typer.Argument(metavar="NODE[/PCI-ADDRESS]...", help="GPUs, or nodes with all their GPUs.")
]
EXAMPLES = "Examples:\n\n  poolmgr {0} gpu-7/0000:3b:00.0\n\n  poolmgr {0} gpu-7 gpu-8"


@app.command(epilog=EXAMPLES.format("cordon"))
def cordon(what: Targets, kubeconfig: Kubeconfig = None, context: Context = None) -> None:
    """Keep GPUs in the mode that they are in: nothing plans to move them, and no move of them begins.

    A move that is under way is finished. Workloads may still be placed on the GPUs and stay on them: to keep new ones off
    a whole node use kubectl cordon. You need the right to patch gpunodes.
    """
    from poolmgr.cluster import operator_edits

    for node, address, changed in _each(what, operator_edits.cordon, kubeconfig, context):
        print(
            f"{_named(node, address)}: cordoned{'' if changed else ' before'}; poolmgr leaves it in its mode"
        )


@uncordon_app.command(epilog=EXAMPLES.format("uncordon"))
def uncordon(what: Targets, kubeconfig: Kubeconfig = None, context: Context = None) -> None:
    """Let cordoned GPUs move again. A node ends its cordons one and all."""
    from poolmgr.cluster import operator_edits

    for node, address, changed in _each(what, operator_edits.uncordon, kubeconfig, context):
        print(f"{_named(node, address)}: {'uncordoned' if changed else 'was not cordoned'}")


def _each(
    what: list[str],
    edit: Callable[["Client", str, str], Awaitable[bool]],
    kubeconfig: str | None,
    context: str | None,
) -> list[tuple[str, str, bool]]:
    """Node, address and whether anything changed, for each of them in order."""

    async def ask(client: "Client") -> list[tuple[str, str, bool]]:
        parts = [target.partition("/") for target in what]
        return [(node, at.casefold(), await edit(client, node, at.casefold())) for node, _, at in parts]

    return with_cluster(kubeconfig, context, ask)


def _named(node: str, address: str) -> str:
    return f"{node}/{address}" if address else f"{node}, all GPUs"


if __name__ == "__main__":
    app()
