"""`poolmgr explain`: why one VM or pod waits, or one GPU stays; since when, and until when. Of a cluster, or of a file."""

from pathlib import Path
from typing import Annotated

import typer

from poolmgr.cli.daily.connection import Context, Kubeconfig, Namespace
from poolmgr.cli.daily.explanation import Explanation, find, judge, of_gpu, of_workload
from poolmgr.cli.daily.listing import Format, dumped
from poolmgr.cli.daily.reading import Output, about, read, warn
from poolmgr.cli.offline import Add, Cordon, Edits, From, Set, snapshot_of, without_file
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

JUDGED = "judged at {} from {} by the planner that the manager runs, without its forecast"


def _look(source: Path | None, edits: Edits, kubeconfig: str | None, context: str | None) -> Look:
    """The cluster's, or a file's: what is in it is believed, its agents count as heard."""
    if source is not None:
        if kubeconfig or context:
            raise typer.BadParameter("give either a file with --from or a cluster with --kubeconfig")
        return Look(snapshot_of(source, edits), {}, {}, None, ())
    without_file(edits)
    found = read(kubeconfig, context)
    warn(found)
    return found


def _answer(found: Look, answer: Explanation, output: Format, source: Path | None) -> None:
    if output in (Format.JSON, Format.YAML):
        print(dumped({**about(found), **answer.value}, output))
        return
    if output is Format.NAME:
        print(answer.subject.replace(" ", "/", 1))
        return
    print(answer.text())
    objects = "the cluster's objects" if source is None else f"the file {source}"
    print(f"  {JUDGED.format(to_rfc3339(found.snapshot.taken_at), objects)}")


@app.command(
    epilog="Examples:\n\n  poolmgr explain gpu gpu-7/0000:3b:00.0\n\n  poolmgr explain gpu GPU-5d2c91aa-… -o json"
)
def gpu(
    name: Annotated[str, typer.Argument(help="NODE/PCI-ADDRESS or UUID.")],
    output: Output = Format.TABLE,
    source: From = None,
    add: Add = None,
    cordon: Cordon = None,
    fields: Set = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show where a GPU is, who uses it, and why it moves or stays."""
    found = _look(source, Edits.of(add, cordon, fields), kubeconfig, context)
    answer = of_gpu(found, take_census(found.snapshot), judge(found), gpu_named(found.snapshot, name))
    _answer(found, answer, output, source)


@app.command(
    epilog="Examples:\n\n  poolmgr explain vm alice -n desktops\n\n  poolmgr explain vm desktops/alice\n\n  "
    "poolmgr explain vm desktops/alice --from objects.yaml --set gpupool/a10:spec.passthrough.max=8"
)
def vm(
    name: Annotated[str, typer.Argument(help="NAME or NAMESPACE/NAME.")],
    namespace: Namespace = "",
    output: Output = Format.TABLE,
    source: From = None,
    add: Add = None,
    cordon: Cordon = None,
    fields: Set = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Explain why a virtual machine waits for its GPU, or where it runs."""
    found = _look(source, Edits.of(add, cordon, fields), kubeconfig, context)
    _workload(found, SubjectKind.VM, name, namespace, output, source)


@app.command(
    epilog="Examples:\n\n  poolmgr explain pod notebooks/train-7\n\n  poolmgr explain pod train-7 -o yaml"
)
def pod(
    name: Annotated[str, typer.Argument(help="NAME or NAMESPACE/NAME.")],
    namespace: Namespace = "",
    output: Output = Format.TABLE,
    source: From = None,
    add: Add = None,
    cordon: Cordon = None,
    fields: Set = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Explain why a pod waits for its slice of a GPU, or where it runs."""
    found = _look(source, Edits.of(add, cordon, fields), kubeconfig, context)
    _workload(found, SubjectKind.POD, name, namespace, output, source)


def _workload(
    found: Look, kind: SubjectKind, name: str, namespace: str, output: Format, source: Path | None
) -> None:
    listed_by = "poolmgr get workloads" if source is None else f"poolmgr plan --all --from {source}"
    each = find(found, kind, name, namespace, listed_by)
    _answer(found, of_workload(found, judge(found), kind, each), output, source)


if __name__ == "__main__":
    app()
