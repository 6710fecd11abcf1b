"""`poolmgr plan`: what would be moved in a snapshot, and why each other GPU would not."""

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from poolmgr.cli.fates import Fates
from poolmgr.cli.offline import Add, Cordon, Edits, From, Set, as_adopted, snapshot_of, without_file
from poolmgr.cli.snapshot import Context, take
from poolmgr.domain.demand import SharedPod, Vm
from poolmgr.domain.errors import Rejected
from poolmgr.domain.fleet import Gpu
from poolmgr.domain.plan import Plan, SubjectKind
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot

app = typer.Typer(add_completion=False)


EPILOG = """
Examples:

  poolmgr plan --kubeconfig ~/.kube/config

  poolmgr snapshot > snapshot.json; poolmgr plan --from snapshot.json

  poolmgr plan --from snapshot.json --explain node-3/0000:41:00.0

  poolmgr plan --from objects.yaml --set gpupool/a10:spec.passthrough.headroom=2 --cordon node-3

  poolmgr plan --from objects.yaml --add one-more-vm.yaml --all

  poolmgr plan --example > snapshot.json
"""


@app.command(epilog=EPILOG)
def plan(
    source: From = None,
    add: Add = None,
    cordon: Cordon = None,
    fields: Set = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Plan for this live cluster instead; it is only read.")
    ] = None,
    context: Context = None,
    explain: Annotated[
        str, typer.Option(help="Only explain why one GPU is or is not moved: NODE/PCI-ADDRESS or its UUID.")
    ] = "",
    every: Annotated[
        bool, typer.Option("--all", help="Also say of each workload and GPU why it stays as it is.")
    ] = False,
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
    edits = Edits.of(add, cordon, fields)
    if source is None:
        without_file(edits)
        snapshot = as_adopted(take(kubeconfig, context, "", LIVE_SECONDS))
    else:
        snapshot = snapshot_of(source, edits)
    decided = PoolPlanner(LearningSizer()).decide(snapshot, None).plan
    if explain:
        line = explain_gpu(snapshot, decided, explain)
        print(json.dumps(line) if as_json else sentence_of(line))
    elif as_json:
        print(json.dumps(as_object(decided)))
    else:
        _print(snapshot, decided, every=every)


LIVE_SECONDS = 30.0
"""For a live cluster to be read completely."""


def explain_gpu(snapshot: ClusterSnapshot, decided: Plan, wanted: str) -> dict[str, Any]:
    """One GPU's fate with its reason. Raises Rejected when the snapshot has no such GPU."""
    return _line(gpu_named(snapshot, wanted), Fates(decided))


def _line(gpu: Gpu, fates: Fates) -> dict[str, Any]:
    move = fates.move(gpu)
    reason, message = (move.reason, move.message) if move else fates.stays(gpu)
    return {
        "gpu": f"{gpu.node}/{gpu.pci_address}",
        "mode": str(gpu.observed_mode) if gpu.observed_mode else None,
        "moves_to": str(move.to_mode) if move else None,
        "reason": str(reason),
        "message": message,
        "recommended": move.recommended if move else False,
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


def _print(snapshot: ClusterSnapshot, decided: Plan, *, every: bool) -> None:
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
    if every:
        _print_the_rest(snapshot, Fates(decided))
        return
    counts: dict[str, int] = {}
    for refusal in decided.refusals:
        if refusal.subject.kind is SubjectKind.GPU:
            counts[str(refusal.reason)] = counts.get(str(refusal.reason), 0) + 1
    said = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "none"
    print(f"  GPUs that stay: {said}; --all says why, --explain NODE/PCI-ADDRESS of one")


def _print_the_rest(snapshot: ClusterSnapshot, fates: Fates) -> None:
    """Workloads that run, and GPUs that stay."""
    everyone: list[tuple[SubjectKind, Vm | SharedPod]] = [(SubjectKind.VM, vm) for vm in snapshot.vms]
    everyone += [(SubjectKind.POD, pod) for pod in snapshot.pods]
    for kind, each in everyone:
        if not each.waiting:
            print(f"  {kind} {each.namespace}/{each.name}: it runs on {each.node} ({Reason.SERVED})")
    for node in snapshot.nodes:
        for gpu in node.gpus:
            if fates.move(gpu) is None:
                print(f"  {sentence_of(_line(gpu, fates))}")


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
