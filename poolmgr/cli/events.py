"""`poolmgr events`: what the manager said lately, from Kubernetes' Events."""

from collections.abc import Mapping
from typing import Any

import typer

from poolmgr.cli.daily.connection import Context, Kubeconfig, Namespace, with_cluster
from poolmgr.cli.daily.listing import Format, Listing, Row, age
from poolmgr.cli.daily.reading import NoHeaders, Output, Watch, show
from poolmgr.cluster.client import Client
from poolmgr.cluster.events import COMPONENT
from poolmgr.cluster.look import listed
from poolmgr.wire.events import Event
from poolmgr.wire.instants import unix_or_zero
from poolmgr.wire.kinds import EVENTS

app = typer.Typer(add_completion=False)

EPILOG = """
Examples:

  poolmgr events

  poolmgr events --watch

  poolmgr events -n desktops -o json
"""


@app.command(epilog=EPILOG)
def events(
    namespace: Namespace = "",
    output: Output = Format.TABLE,
    watch: Watch = False,
    no_headers: NoHeaders = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List the manager's Events about pools, nodes, VMs and pods, oldest first.

    The API server keeps Events for an hour; `poolmgr history` lists older moves.
    """

    async def ask(client: Client) -> Listing:
        fields = f"reportingComponent={COMPONENT}"
        found = await listed(client, EVENTS, Event, namespace=namespace, fields=fields)
        return listing_of(found, client.clock.now())

    def once() -> tuple[Listing, Mapping[str, Any]]:
        return with_cluster(kubeconfig, context, ask), {}

    show(
        once,
        output,
        watch=watch,
        header=not no_headers,
        nothing="the manager has said nothing in the last hour",
    )


def listing_of(found: list[Event], now: float) -> Listing:
    """Ours among `found`, oldest first."""
    ours = [event for event in found if event.reporting_component == COMPONENT]
    ours.sort(key=lambda event: (unix_or_zero(event.last_timestamp), event.metadata.name))
    return Listing(
        ("LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"),
        ("COUNT", "FIRST SEEN"),
        tuple(_row(e, now) for e in ours),
    )


def _row(event: Event, now: float) -> Row:
    about = event.involved_object
    place = f"{about.namespace}/" if about.namespace else ""
    cells = (
        age(now - unix_or_zero(event.last_timestamp)),
        event.type,
        event.reason,
        f"{about.kind}/{place}{about.name}",
        event.message,
        str(event.count),
        age(now - unix_or_zero(event.first_timestamp)),
    )
    value = {
        "lastSeen": event.last_timestamp,
        "firstSeen": event.first_timestamp,
        "count": event.count,
        "type": event.type,
        "reason": event.reason,
        "kind": about.kind,
        "namespace": about.namespace,
        "name": about.name,
        "message": event.message,
    }
    return Row(f"event/{event.metadata.namespace}/{event.metadata.name}", cells, value)


if __name__ == "__main__":
    app()
