"""`poolmgr get`: lists of what there is now, read from the cluster's objects with the caller's own rights."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from poolmgr.cli.daily import rows
from poolmgr.cli.daily.connection import Context, Kubeconfig, Namespace, Server, Token
from poolmgr.cli.daily.explanation import judge
from poolmgr.cli.daily.listing import Format, Listing, Row
from poolmgr.cli.daily.manager import manager
from poolmgr.cli.daily.reading import NoHeaders, Output, Watch, about, read, show, warn
from poolmgr.cluster.look import Look
from poolmgr.domain.census import take_census
from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

app = typer.Typer(add_completion=False)

EPILOG = """
Examples:

  poolmgr get gpus -o wide

  poolmgr get gpus gpu-7/0000:3b:00.0 -o json

  poolmgr get workloads -n desktops --watch

  poolmgr get pools -o name

  poolmgr get plans --server http://localhost:8080
"""


class Noun(StrEnum):
    POOLS = "pools"
    NODES = "nodes"
    GPUS = "gpus"
    WORKLOADS = "workloads"
    MOVES = "moves"
    RESERVATIONS = "reservations"
    QUOTAS = "quotas"
    PLANS = "plans"


ALIASES = {
    "pool": Noun.POOLS,
    "gpool": Noun.POOLS,
    "gpupools": Noun.POOLS,
    "node": Noun.NODES,
    "gnode": Noun.NODES,
    "gpunodes": Noun.NODES,
    "gpu": Noun.GPUS,
    "workload": Noun.WORKLOADS,
    "move": Noun.MOVES,
    "reservation": Noun.RESERVATIONS,
    "gres": Noun.RESERVATIONS,
    "gpureservations": Noun.RESERVATIONS,
    "quota": Noun.QUOTAS,
    "plan": Noun.PLANS,
}


def noun_of(word: str) -> Noun:
    """What a word names, also in the singular and by kubectl's short names."""
    folded = word.casefold()
    if folded in ALIASES:
        return ALIASES[folded]
    try:
        return Noun(folded)
    except ValueError:
        raise typer.BadParameter(f"{word!r} is not one of {', '.join(Noun)}") from None


@app.command(epilog=EPILOG)
def get(
    what: Annotated[
        Noun,
        typer.Argument(
            parser=noun_of, metavar="|".join(Noun), autocompletion=lambda: list(Noun), help="What to list."
        ),
    ],
    names: Annotated[
        list[str] | None, typer.Argument(help="Only these: names, or for GPUs NODE/PCI-ADDRESS or a node.")
    ] = None,
    namespace: Namespace = "",
    output: Output = Format.TABLE,
    watch: Watch = False,
    no_headers: NoHeaders = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    server: Server = "",
    token: Token = "",
) -> None:
    """List pools, nodes, GPUs, workloads, moves under way, reservations, quotas or past plans.

    Everything but plans is read from the cluster's objects, with your own rights and without the manager.
    """
    wanted = tuple(names or ())

    def once() -> tuple[Listing, Mapping[str, Any]]:
        if what is Noun.PLANS:
            with manager(server, token, kubeconfig, context) as api:
                return _only(rows.plans(api.get("/plans", pageSize=50)), wanted), {}
        found = read(kubeconfig, context)
        warn(found)
        return _only(listing_of(found, what, namespace), wanted), about(found)

    show(once, output, watch=watch, header=not no_headers, nothing=f"no {what} found")


def listing_of(found: Look, what: Noun, namespace: str) -> Listing:
    """The rows of one noun; of plans there are none in the cluster."""
    match what:
        case Noun.NODES:
            return rows.nodes(found, take_census(found.snapshot))
        case Noun.GPUS:
            return rows.gpus(found, take_census(found.snapshot))
        case Noun.WORKLOADS:
            return rows.workloads(found, judge(found), namespace)
        case Noun.MOVES:
            return rows.moves(found)
        case Noun.RESERVATIONS:
            return rows.reservations(found, judge(found), namespace)
        case Noun.QUOTAS:
            return rows.quotas(judge(found), namespace)
        case _:
            return rows.pools(found, take_census(found.snapshot), judge(found))


def _only(listing: Listing, wanted: tuple[str, ...]) -> Listing:
    """Rows of the names; raises Rejected for a name without a row."""
    if not wanted:
        return listing
    chosen: dict[str, Row] = {}
    for name in wanted:
        # A row's name is its kind and its own; the GPUs of a node are named by the node, too.
        found = [row for row in listing.rows if f"/{row.name}/".find(f"/{name}/") > 0]
        if not found:
            have = ", ".join(row.name.partition("/")[2] for row in listing.rows[:4])
            raise Rejected(Reason.NOT_FOUND, f"there is no {name!r}; there are {have or 'none'}")
        chosen |= {row.name: row for row in found}
    return listing.only(list(chosen.values()))


if __name__ == "__main__":
    app()
