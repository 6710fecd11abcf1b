"""`poolmgr explain`: why one VM or pod waits, or one GPU stays; since when, and until when."""

from typing import Annotated

import typer

from poolmgr.cli.daily.connection import Context, Kubeconfig, Namespace
from poolmgr.cli.daily.explanation import Explanation, find, judge, of_gpu, of_workload
from poolmgr.cli.daily.listing import Format, dumped
from poolmgr.cli.daily.reading import Output, about, read, warn
from poolmgr.cli.plan import gpu_named
from poolmgr.cluster.look import Look
from poolmgr.domain.census import take_census
from poolmgr.domain.plan import SubjectKind
from poolmgr.wire.instants import to_rfc3339

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Explain why a VM or pod waits, or a GPU stays: since when, and until when.",
)

JUDGED = "judged at {} from the cluster's objects by the planner that the manager runs, without its forecast"


def _answer(found: Look, answer: Explanation, output: Format) -> None:
    if output in (Format.JSON, Format.YAML):
        print(dumped({**about(found), **answer.value}, output))
        return
    if output is Format.NAME:
        print(answer.subject.replace(" ", "/", 1))
        return
    print(answer.text())
    print(f"  {JUDGED.format(to_rfc3339(found.snapshot.taken_at))}")


@app.command(
    epilog="Examples:\n\n  poolmgr explain gpu gpu-7/0000:3b:00.0\n\n  poolmgr explain gpu GPU-5d2c91aa-… -o json"
)
def gpu(
    name: Annotated[str, typer.Argument(help="NODE/PCI-ADDRESS or UUID.")],
    output: Output = Format.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show where a GPU is, who uses it, and why it moves or stays."""
    found = read(kubeconfig, context)
    warn(found)
    answer = of_gpu(found, take_census(found.snapshot), judge(found), gpu_named(found.snapshot, name))
    _answer(found, answer, output)


@app.command(
    epilog="Examples:\n\n  poolmgr explain vm alice -n desktops\n\n  poolmgr explain vm desktops/alice"
)
def vm(
    name: Annotated[str, typer.Argument(help="NAME or NAMESPACE/NAME.")],
    namespace: Namespace = "",
    output: Output = Format.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Explain why a virtual machine waits for its GPU, or where it runs."""
    _workload(SubjectKind.VM, name, namespace, output, kubeconfig, context)


@app.command(
    epilog="Examples:\n\n  poolmgr explain pod notebooks/train-7\n\n  poolmgr explain pod train-7 -o yaml"
)
def pod(
    name: Annotated[str, typer.Argument(help="NAME or NAMESPACE/NAME.")],
    namespace: Namespace = "",
    output: Output = Format.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Explain why a pod waits for its slice of a GPU, or where it runs."""
    _workload(SubjectKind.POD, name, namespace, output, kubeconfig, context)


def _workload(
    kind: SubjectKind, name: str, namespace: str, output: Format, kubeconfig: str | None, context: str | None
) -> None:
    found = read(kubeconfig, context)
    warn(found)
    each = find(found, kind, name, namespace)
    _answer(found, of_workload(found, judge(found), kind, each), output)


if __name__ == "__main__":
    app()
