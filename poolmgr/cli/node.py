"""`poolmgr node drain` and `undrain`: give all GPUs of a node back to one side, for maintenance."""

from typing import Annotated

import typer

from poolmgr.api import directive_schemas
from poolmgr.cli.daily.connection import SURROUNDINGS, Context, Kubeconfig
from poolmgr.cli.daily.directives import DryRun, Why, carry_out, print_answers
from poolmgr.cli.daily.listing import Format
from poolmgr.cli.daily.reading import Output
from poolmgr.domain.directives import Verb
from poolmgr.domain.modes import Mode

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Move all GPUs of a node to one side.")

Node = Annotated[str, typer.Argument(metavar="NODE", help="Name of the node.")]
WAIT_SECONDS = 5.0
"""Between two looks of --wait."""

DRAIN_EXAMPLES = """
Examples:

  poolmgr node drain gpu-7 --dry-run

  poolmgr node drain gpu-7 --to Shared --reason "new driver" --wait

  poolmgr node drain gpu-7 --to Passthrough -o json
"""


@app.command(epilog=DRAIN_EXAMPLES)
def drain(
    node: Node,
    to: Annotated[Mode, typer.Option(help="The side to which its GPUs go.")] = Mode.SHARED,
    reason: Why = "",
    dry_run: DryRun = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="Return when every GPU is there; show what the drain waits for meanwhile."
        ),
    ] = False,
    output: Output = Format.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Move all GPUs of a node to one side. By default to containers, where the vendor's driver has them.

    GPUs on the other side take no new workload and move once they are idle, within mode, bounds and budget of their pool.
    No pod is evicted and no VM is stopped. GPUs that are on the wanted side stay usable: to empty the node, use kubectl drain
    as well. The drain lasts until poolmgr node undrain. Run the same command again to see how far it is.

    Exit code 0: recorded, and with --wait finished. Requires the right to patch gpunodes.
    """
    printed: list[str] = []
    while True:
        (answer,) = answers = carry_out(
            [node], Verb.DRAIN, reason=reason, dry_run=dry_run, kubeconfig=kubeconfig, context=context, to=to
        )
        said = [gpu.message for gpu in answer.gpus]
        if said != printed:
            print_answers([node], answers, output, f"drained to {to}", f"drained to {to} already")
            if output is Format.TABLE:
                print(progress(answer, to))
        printed = said
        if not wait or dry_run or is_done(answer, to):
            return
        try:
            SURROUNDINGS.get().pause(WAIT_SECONDS)
        except KeyboardInterrupt:
            return


def is_done(answer: directive_schemas.DirectiveAnswer, to: Mode) -> bool:
    """Every GPU is there, and rests."""
    return all(gpu.mode is to and gpu.state.value != "Moving" for gpu in answer.gpus)


def progress(answer: directive_schemas.DirectiveAnswer, to: Mode) -> str:
    there = sum(gpu.mode is to for gpu in answer.gpus)
    return f"{there} of {len(answer.gpus)} GPU(s) are {to}"


@app.command(epilog="Examples:\n\n  poolmgr node undrain gpu-7\n\n  poolmgr node undrain gpu-7 --dry-run")
def undrain(
    node: Node,
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """End the drain of a node. Its GPUs move back when they are needed, not at once."""
    answers = carry_out(
        [node], Verb.UNDRAIN, reason="", dry_run=dry_run, kubeconfig=kubeconfig, context=context
    )
    print_answers([node], answers, output, "drained no longer", "was not drained")


if __name__ == "__main__":
    app()
