"""`poolmgr plan`: what would be moved in a snapshot, and why each other GPU would not."""

import json
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from poolmgr.cli.offline import read_text, said_of, store_of
from poolmgr.cli.snapshot import Context, take, take_from
from poolmgr.domain.errors import Rejected
from poolmgr.domain.fleet import Gpu
from poolmgr.domain.plan import Plan, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot

app = typer.Typer(add_completion=False)


EPILOG = """
Examples:

  poolmgr plan --kubeconfig ~/.kube/config

  poolmgr snapshot > snapshot.json; poolmgr plan --from snapshot.json

  poolmgr plan --from snapshot.json --explain node-3/0000:41:00.0

  poolmgr plan --from objects.yaml --add pool-with-more-headroom.yaml --cordon node-3

  poolmgr plan --example > snapshot.json
"""


@app.command(epilog=EPILOG)
def plan(
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", help="A snapshot, or Kubernetes objects as YAML or JSON; - reads standard input."
        ),
    ] = None,
    add: Annotated[
        list[Path] | None,
        typer.Option(
            help="More objects for those of --from: new ones, or changed ones of the same name. Repeatable."
        ),
    ] = None,
    cordon: Annotated[
        list[str] | None,
        typer.Option(help="Plan as if this node of --from were cordoned. Repeatable.", metavar="NODE"),
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Plan for this live cluster instead; it is only read.")
    ] = None,
    context: Context = None,
    explain: Annotated[
        str, typer.Option(help="Only explain why one GPU is or is not moved: NODE/PCI-ADDRESS or its UUID.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The whole plan as one JSON object.")] = False,
    example: Annotated[
        bool, typer.Option("--example", help="Print the snapshot of a simulated desktop day instead.")
    ] = False,
    hour: Annotated[float, typer.Option(help="With --example: hour of that day.")] = 11.0,
) -> None:
    """Decide once on a snapshot, changing nothing."""
    from poolmgr.planner.plan import PoolPlanner
    from poolmgr.planner.sizing.learning import LearningSizer
    from poolmgr.sim.snapshots import encode_snapshot

    if example:
        print(encode_snapshot(_example(hour)).decode())
        return
    if (source is None) == (kubeconfig is None):
        raise typer.BadParameter("give either a snapshot with --from or a cluster with --kubeconfig")
    if source is None and (add or cordon):
        raise typer.BadParameter(
            "--add and --cordon change the objects of --from; a live cluster is only read"
        )
    if source is None:
        snapshot = take(kubeconfig, context, "", LIVE_SECONDS)
    else:
        snapshot = _read(source, add or (), cordon or ())
    snapshot = _as_adopted(snapshot)
    decided = PoolPlanner(LearningSizer()).decide(snapshot, None).plan
    if explain:
        line = explain_gpu(snapshot, decided, explain)
        print(json.dumps(line) if as_json else sentence_of(line))
    elif as_json:
        print(json.dumps(as_object(decided)))
    else:
        _print(decided)


def _read(source: Path, add: Sequence[Path], cordon: Sequence[str]) -> ClusterSnapshot:
    from poolmgr.sim.snapshots import decode_snapshot

    text = read_text(source)
    if _is_snapshot(text):
        if add or cordon:
            raise typer.BadParameter(
                "--add and --cordon need Kubernetes objects in --from; it has a snapshot"
            )
        return decode_snapshot(text.encode())
    store = store_of(text, source, add, cordon)
    if passed := said_of(store):
        typer.echo(passed, err=True)
    return take_from(store, str(source))


def _as_adopted(snapshot: ClusterSnapshot) -> ClusterSnapshot:
    """As the manager plans: before its first plan it adopts the GPUs that are new to it. Says so on stderr."""
    from poolmgr.controller.intents import as_adopted

    nodes = tuple(map(as_adopted, snapshot.nodes))
    new = sum(
        gpu.desired_mode is None and then.desired_mode is not None
        for before, after in zip(snapshot.nodes, nodes, strict=True)
        for gpu, then in zip(before.gpus, after.gpus, strict=True)
    )
    if not new:
        return snapshot
    typer.echo(f"planned as if poolmgr had recorded the modes of {new} GPU(s), which are new to it", err=True)
    return replace(snapshot, nodes=nodes)


def _is_snapshot(text: str) -> bool:
    """A JSON object that does not say what kind it is."""
    if not text.lstrip().startswith("{"):
        return False
    try:
        return "kind" not in json.loads(text)
    except (ValueError, RecursionError):
        return True  # its own decoder says what is wrong with it


LIVE_SECONDS = 30.0
"""For a live cluster to be read completely."""


def explain_gpu(snapshot: ClusterSnapshot, decided: Plan, wanted: str) -> dict[str, Any]:
    """One GPU's fate with its reason. Raises Rejected when the snapshot has no such GPU."""
    gpu = gpu_named(snapshot, wanted)
    name = f"{gpu.node}/{gpu.pci_address}"
    mode = str(gpu.observed_mode) if gpu.observed_mode else None
    for move in decided.moves:
        if (move.node, move.pci_address) == (gpu.node, gpu.pci_address):
            return {
                "gpu": name,
                "mode": mode,
                "moves_to": str(move.to_mode),
                "reason": str(move.reason),
                "message": move.message,
                "recommended": move.recommended,
            }
    about = Subject(SubjectKind.GPU, gpu.node, gpu.pci_address)
    # A view that is not complete is refused as a whole, pool by pool.
    whole = (SubjectKind.POOL, gpu.pool)
    refusal = next(
        (r for r in decided.refusals if r.subject == about),
        next((r for r in decided.refusals if (r.subject.kind, r.subject.name) == whole), None),
    )
    reason, message = (
        (str(refusal.reason), refusal.message)
        if refusal is not None
        else (str(Reason.NOT_IN_POOL), f"no GPUPool selects GPU {gpu.pci_address} of {gpu.node}")
    )
    return {
        "gpu": name,
        "mode": mode,
        "moves_to": None,
        "reason": reason,
        "message": message,
        "recommended": False,
    }


def sentence_of(line: dict[str, Any]) -> str:
    """The same for people."""
    stays = f"stays in {line['mode']}" if line["mode"] else "stays on no side"
    if line["reason"] == Reason.GPU_MOVING:
        stays = "is moving already"
    moves = "would move (recommended only)" if line["recommended"] else "moves"
    fate = f"{moves} to {line['moves_to']}" if line["moves_to"] else stays
    return f"{line['gpu']}: {fate} ({line['reason']}): {line['message']}"


NAMES_SHOWN = 4


def gpu_named(snapshot: ClusterSnapshot, wanted: str) -> Gpu:
    """The GPU of this NODE/PCI-ADDRESS or UUID. Raises Rejected, with names that are near, where there is none."""
    folded = wanted.strip().casefold()
    gpus = [g for n in snapshot.nodes for g in n.gpus]
    for gpu in gpus:
        if folded and folded in (f"{gpu.node}/{gpu.pci_address}".casefold(), gpu.uuid.casefold()):
            return gpu
    node, _, address = folded.rpartition("/")
    on_node = [g for g in gpus if g.node.casefold() in (node, address)]
    there = [g for g in gpus if address and g.pci_address.casefold().endswith(address)]
    names = {f"{g.node}/{g.pci_address}".casefold(): g for g in gpus} | {g.uuid.casefold(): g for g in gpus}
    alike = [names[name] for name in get_close_matches(folded, [n for n in names if n], NAMES_SHOWN, 0.6)]
    near = [*(g for g in on_node if g in there), *on_node, *there, *alike]
    shown = list(dict.fromkeys(f"{g.node}/{g.pci_address}" for g in near))
    if shown:
        more = f" and {len(shown) - NAMES_SHOWN} more" if len(shown) > NAMES_SHOWN else ""
        hint = f"; near it are {', '.join(shown[:NAMES_SHOWN])}{more}"
    else:
        hint = f", e.g. {gpus[0].node}/{gpus[0].pci_address}" if gpus else "; the snapshot has none"
    raise Rejected(
        Reason.NOT_FOUND, f"the snapshot has no GPU {wanted!r}; write NODE/PCI-ADDRESS or a UUID{hint}"
    )


def as_object(decided: Plan) -> dict[str, Any]:
    """The plan as JSON-like values."""
    return {
        "plan_id": decided.plan_id,
        "moves": [
            {
                "node": m.node,
                "pci_address": m.pci_address,
                "model": m.model,
                "to_mode": str(m.to_mode),
                "reason": str(m.reason),
                "message": m.message,
                "evict": list(m.evict),
                "wait_for": list(m.wait_for),
                "recommended": m.recommended,
            }
            for m in decided.moves
        ],
        "refusals": [
            {
                "kind": str(r.subject.kind),
                "namespace": r.subject.namespace,
                "name": r.subject.name,
                "reason": str(r.reason),
                "message": r.message,
            }
            for r in decided.refusals
        ],
        "targets": [
            {
                "pool": t.pool,
                "model": t.model,
                "passthrough": t.passthrough,
                "shared": t.shared,
                "message": t.message,
            }
            for t in decided.targets
        ],
    }


def _print(decided: Plan) -> None:
    recommended = len(decided.moves) - len(decided.to_start)
    more = f", {recommended} more only recommended" if recommended else ""
    print(f"plan {decided.plan_id}: {len(decided.to_start)} GPU(s) to move{more}")
    for target in decided.targets:
        print(f"  {target.pool}, {target.model}: {target.message}")
    for move in decided.moves:
        mark = "recommended, not done" if move.recommended else "→"
        print(f"  {mark} {move.to_mode}: {move.message} ({move.reason})")
    waiting = [r for r in decided.refusals if r.subject.kind in (SubjectKind.VM, SubjectKind.POD)]
    for refusal in waiting:
        subject = refusal.subject
        print(f"  {subject.kind} {subject.namespace}/{subject.name}: {refusal.message} ({refusal.reason})")
    for refusal in decided.refusals:
        if refusal.subject.kind is SubjectKind.NODE:
            print(f"  {refusal.message} ({refusal.reason})")
    counts: dict[str, int] = {}
    for refusal in decided.refusals:
        if refusal.subject.kind is SubjectKind.GPU:
            counts[str(refusal.reason)] = counts.get(str(refusal.reason), 0) + 1
    said = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "none"
    print(f"  GPUs that stay: {said}; ask about one with --explain NODE/PCI-ADDRESS")


def _example(hour: float) -> ClusterSnapshot:
    """A simulated desktop day under the planner until `hour`."""
    import asyncio

    from poolmgr.controller.interfaces import Dependencies
    from poolmgr.controller.loop import Controller, LoopSettings
    from poolmgr.sim import desktop_day
    from poolmgr.sim.actuators import FixedLeadership, MemoryLedger

    async def watch() -> ClusterSnapshot:
        fleet = desktop_day(1)
        actuators = fleet.actuators
        controller = Controller(
            Dependencies(
                fleet.clock,
                fleet,
                actuators,
                actuators,
                actuators,
                actuators,
                actuators,
                actuators,
                MemoryLedger(),
                FixedLeadership(),
                actuators,
                actuators.reservations,
            ),
            _planner(),
            LoopSettings(),
        )
        running = asyncio.create_task(controller.run())
        await fleet.clock.run_for(max(0.0, hour - 6.0) * 3_600)
        running.cancel()
        return await fleet.snapshot()

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    return asyncio.run(watch())


def _planner() -> Any:
    from poolmgr.planner.plan import PoolPlanner
    from poolmgr.planner.sizing.learning import LearningSizer

    return PoolPlanner(LearningSizer())


if __name__ == "__main__":
    app()
