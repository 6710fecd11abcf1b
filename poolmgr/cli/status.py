"""`poolmgr status`: the whole on one screen: who acts, what moves, who waits, what needs a human."""

from dataclasses import asdict
from typing import Any

import typer

from poolmgr.api import schemas
from poolmgr.cli.daily import rows
from poolmgr.cli.daily.connection import Context, Kubeconfig
from poolmgr.cli.daily.explanation import judge
from poolmgr.cli.daily.listing import Format, age, aligned, dumped, written
from poolmgr.cli.daily.reading import Output, about, read, warn
from poolmgr.cluster.look import Look
from poolmgr.domain.census import Census, take_census, total
from poolmgr.wire.instants import to_rfc3339, unix_or_zero

app = typer.Typer(add_completion=False)

EPILOG = """
Examples:

  poolmgr status

  poolmgr status -o json

  kubectl poolmgr status --context lab
"""

LEASE_LIVES_TWICE = 2
"""A lease that was not renewed for twice its duration: somebody would have taken it by now, if anybody were there."""
DEFAULT_DURATION = 15


@app.command(epilog=EPILOG)
def status(output: Output = Format.TABLE, kubeconfig: Kubeconfig = None, context: Context = None) -> None:
    """Show on one screen which manager leads, what moves, who waits and what needs attention. Only reads the cluster."""
    found = read(kubeconfig, context)
    warn(found)
    census = take_census(found.snapshot)
    if output in (Format.JSON, Format.YAML):
        print(dumped({**about(found), **as_object(found, census)}, output))
    else:
        print(text_of(found, census, wide=output is Format.WIDE))


def manager_line(found: Look) -> str:
    """Whether anybody acts, by the managers' Lease and this machine's clock."""
    lease = found.manager
    if lease is None:
        denied = any(unseen.kind.startswith("leases") for unseen in found.unseen)
        return (
            "unknown: you may not read its Lease"
            if denied
            else "no Lease: no manager has ever led here; nothing moves"
        )
    spec = lease.spec
    renewed = unix_or_zero(spec.renew_time)
    ago = age(found.snapshot.taken_at - renewed)
    if not spec.holder_identity:
        return f"no manager has led since {to_rfc3339(renewed)} ({ago}); nothing moves"
    if found.snapshot.taken_at - renewed > LEASE_LIVES_TWICE * (
        spec.lease_duration_seconds or DEFAULT_DURATION
    ):
        return f"silent: {spec.holder_identity} last renewed its lease at {to_rfc3339(renewed)} ({ago} ago); nothing moves"
    return f"{spec.holder_identity.rpartition('_')[0] or spec.holder_identity} leads, last heard {ago} ago"


def attention(found: Look, census: Census) -> list[str]:
    """What needs a human, worst first."""
    said = [
        node.agent.verdict(node.name).message
        if not node.agent.heard
        else f"node {node.name} or its agent is not ready, so the state of its {len(node.gpus)} GPU(s) is unknown"
        for node in found.snapshot.nodes
        if not node.ready
    ]
    said += [
        f"the agent of {node.name} has not answered to the last change of its desired modes"
        for node in found.snapshot.nodes
        if node.ready and not node.reported
    ]
    said += [
        f"GPU {use.gpu.node}/{use.gpu.pci_address} is {use.gpu.phase}: {use.trouble[1] or use.trouble[0]}"
        for use in census.trouble
    ]
    if not found.snapshot.nodes:
        said.append("no node reports a GPU: is the agent running on the GPU nodes?")
    if not found.snapshot.pools:
        said.append("there is no GPUPool: nothing may move; docs/how-to/install.md says how to make one")
    return said


def as_object(found: Look, census: Census) -> dict[str, Any]:
    """The same for programs."""
    count = total(census.counts.values())
    nodes = found.snapshot.nodes
    return {
        "manager": manager_line(found),
        "nodes": {"total": len(nodes), "ready": sum(n.ready and n.reported for n in nodes)},
        "gpus": {schemas.camel(name): number for name, number in asdict(count).items()},
        "moves": [dict(row.value) for row in rows.moves(found).rows],
        "attention": attention(found, census),
    }


def text_of(found: Look, census: Census, *, wide: bool) -> str:
    """The same for people."""
    count = total(census.counts.values())
    nodes = found.snapshot.nodes
    answering = sum(node.ready and node.reported for node in nodes)
    facts = [
        ("Read", f"at {to_rfc3339(found.snapshot.taken_at)} from the cluster's objects"),
        ("Manager", manager_line(found)),
        ("Nodes", f"{answering} of {len(nodes)} ready"),
        (
            "GPUs",
            f"{count.gpus}: {count.passthrough} for VMs ({count.passthrough_used} used), {count.shared} shared "
            f"({count.shared_used} used), {count.moving} moving, {count.trouble} in trouble",
        ),
        ("Waiting", f"{count.waiting_vms} VM(s), {count.waiting_pods} pod(s)"),
    ]
    parts = [aligned(facts)]
    troubles = attention(found, census)
    if troubles:
        parts.append("\n".join(["Needs a human:", *(f"  {line}" for line in troubles)]))
    moves = rows.moves(found)
    if moves.rows:
        parts.append(written(moves, Format.TABLE, {}))
    pools = rows.pools(found, census, judge(found))
    if pools.rows:
        parts.append(written(pools, Format.WIDE if wide else Format.TABLE, {}))
    return "\n\n".join(parts)


if __name__ == "__main__":
    app()
