"""`poolmgr retry`: end the rest of GPUs whose moves failed, once what was in their way is cleared."""

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

  poolmgr retry gpu-7

  poolmgr retry gpu-7/0000:3b:00.0 --dry-run
"""


@app.command(epilog=EPILOG)
def retry(
    what: Annotated[
        str, typer.Argument(metavar="NODE[/PCI-ADDRESS]", help="A node with all its GPUs, or one GPU.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the GPUs that would be tried again.")
    ] = False,
    output: Output = Format.TABLE,
    server: Server = "",
    token: Token = "",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """End the rest of GPUs whose last moves failed.

    The next plan may move them, if a workload needs them and their agent reports that they can be moved. Requires the
    rights of the ClusterRole poolmgr-operate.
    """
    node, _, address = what.partition("/")
    body: dict[str, Any] = {"dryRun": dry_run, "devices": [address] if address else []}
    with manager(server, token, kubeconfig, context) as api:
        answer = api.post(f"/nodes/{node}:retry", body)
    print(dumped(answer, output) if output in (Format.JSON, Format.YAML) else text_of(answer))


def text_of(answer: dict[str, Any]) -> str:
    """The answer for people."""
    done = schemas.Retry.model_validate(answer)
    if not done.ended:
        return f"{done.node}: nothing rests there, so nothing changed"
    lines = [f"{done.node}: {'would end' if done.dry_run else 'ended'} {len(done.ended)} rest(s)"]
    for rest in done.ended:
        who = rest.pci_address or "the node itself"
        lines.append(f"  {who}, until {rest.until}: {rest.message} ({rest.reason})")
    return "\n".join(lines)


if __name__ == "__main__":
    app()
