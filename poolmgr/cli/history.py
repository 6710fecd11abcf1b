"""`poolmgr history`: past moves with how they ended, from the manager's ledger."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from poolmgr.cli.daily import rows
from poolmgr.cli.daily.connection import Context, Kubeconfig, Server, Token
from poolmgr.cli.daily.listing import Format, Listing
from poolmgr.cli.daily.manager import manager
from poolmgr.cli.daily.reading import NoHeaders, Output, Watch, show

app = typer.Typer(add_completion=False)

EPILOG = """
Examples:

  poolmgr history

  poolmgr history --node gpu-7 -o wide

  poolmgr history --limit 100 -o json | jq '.items[] | select(.rolledBack)'
"""


@app.command(epilog=EPILOG)
def history(
    node: Annotated[str, typer.Option(help="Only this node.")] = "",
    limit: Annotated[int, typer.Option(help="Number of moves, newest first.", min=1, max=500)] = 20,
    output: Output = Format.TABLE,
    watch: Watch = False,
    no_headers: NoHeaders = False,
    server: Server = "",
    token: Token = "",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List past moves, newest first: when, where and how they ended. They come from the manager's ledger."""

    def once() -> tuple[Listing, Mapping[str, Any]]:
        with manager(server, token, kubeconfig, context) as api:
            answer = api.get("/transitions", pageSize=limit, **({"node": node} if node else {}))
        return rows.history(answer), {}

    show(once, output, watch=watch, header=not no_headers, nothing="no move is in the ledger")


if __name__ == "__main__":
    app()
