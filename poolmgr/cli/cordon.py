"""`poolmgr cordon` and `poolmgr uncordon`: keep GPUs in their present mode, and let them move again."""

import typer

from poolmgr.cli.daily.connection import Context, Kubeconfig
from poolmgr.cli.daily.directives import DryRun, Targets, Why, carry_out, print_answers
from poolmgr.cli.daily.listing import Format
from poolmgr.cli.daily.reading import Output
from poolmgr.domain.directives import Verb

app = typer.Typer(add_completion=False)
uncordon_app = typer.Typer(add_completion=False)

EXAMPLES = "Examples:\n\n  poolmgr {0} gpu-7/0000:3b:00.0{1}\n\n  poolmgr {0} gpu-7 gpu-8 --dry-run"


@app.command(epilog=EXAMPLES.format("cordon", ' --reason "benchmark until Friday"'))
def cordon(
    what: Targets,
    reason: Why = "",
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Keep GPUs in their present mode: no plan moves them, and no move of them starts.

    A move that is under way is finished. Workloads may still be placed on the GPUs and stay on them: to keep new ones off,
    use poolmgr gpu quarantine, or for a whole node kubectl cordon. Requires the right to patch gpunodes.
    """
    answers = carry_out(
        what, Verb.CORDON, reason=reason, dry_run=dry_run, kubeconfig=kubeconfig, context=context
    )
    print_answers(what, answers, output, "cordoned", "cordoned before")


@uncordon_app.command(epilog=EXAMPLES.format("uncordon", ""))
def uncordon(
    what: Targets,
    dry_run: DryRun = False,
    output: Output = Format.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Let cordoned GPUs move again. Naming a node uncordons all of its GPUs."""
    answers = carry_out(
        what, Verb.UNCORDON, reason="", dry_run=dry_run, kubeconfig=kubeconfig, context=context
    )
    print_answers(what, answers, output, "uncordoned", "was not cordoned")


if __name__ == "__main__":
    app()
