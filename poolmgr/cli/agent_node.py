"""`poolmgr agent show|preflight|plan|record|rebind`: one node, looked at where it is or in a recording of it."""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from poolmgr.agent.accelerators import built_in
from poolmgr.cli.agent_options import (
    DEFAULT_ACCELERATORS,
    DEFAULTS,
    Accelerators,
    DriverRoot,
    KubeletDir,
    StateDir,
    settings_of,
)
from poolmgr.cli.tables import console_for
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Verdict
from poolmgr.kit.clock import SystemClock

if TYPE_CHECKING:
    from poolmgr.agent.manual import Finding, ManualControl


class Side(StrEnum):
    PASSTHROUGH = "passthrough"
    SHARED = "shared"

    @property
    def mode(self) -> Mode:
        return Mode.PASSTHROUGH if self is Side.PASSTHROUGH else Mode.SHARED


Address = Annotated[str, typer.Argument(metavar="PCI", help="PCI address, e.g. 0000:3b:00.0 or 3b:00.0.")]
From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="FILE",
        help="Use the recording of a node in this file (`poolmgr agent record`) instead of this machine.",
    ),
]


def show(
    recording: From = None,
    accelerators: Accelerators = DEFAULT_ACCELERATORS,
    state_dir: StateDir = DEFAULTS.state_dir,
    kubelet_dir: KubeletDir = DEFAULTS.kubelet_dir,
    driver_root: DriverRoot = DEFAULTS.driver_root,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array instead of a table.")] = False,
) -> None:
    """List this node's GPUs, where they are and who holds them. Touches nothing.

    \b
    poolmgr agent show
    poolmgr agent show --json | jq '.[] | select(.holders != [])'
    poolmgr agent show --from gpu-7.json
    """
    if recording is None and os.geteuid() != 0:
        typer.echo("not root: holders that belong to other users are not shown", err=True)
    node = _node(recording, accelerators, state_dir, kubelet_dir, driver_root)
    found = asyncio.run(node.look())
    if not (complete := node.complete()):
        typer.echo(complete.message, err=True)
    if as_json:
        print(json.dumps([_as_json(f, node.could_move(f.observed)) for f in found], indent=2))
        return
    if not found:
        where = f"in {recording}" if recording else f"of the accelerators '{accelerators}' on this node"
        print(f"no GPU {where} (all: {', '.join(built_in())})")
        return
    table = Table("PCI", "Model", "Mode", "Driver", "IOMMU group", "NUMA", "Held by", "Resource", box=None)
    for finding in found:
        table.add_row(*_as_row(finding))
    console_for(table).print(table)


def preflight(
    pci: Address,
    to: Annotated[Side | None, typer.Option(help="Side to check for; default: the other one.")] = None,
    recording: From = None,
    accelerators: Accelerators = DEFAULT_ACCELERATORS,
    state_dir: StateDir = DEFAULTS.state_dir,
    kubelet_dir: KubeletDir = DEFAULTS.kubelet_dir,
    driver_root: DriverRoot = DEFAULTS.driver_root,
) -> None:
    """Check whether a GPU could be moved now, and say what is in the way. Changes nothing; exits 1 if not.

    \b
    poolmgr agent preflight 3b:00.0
    poolmgr agent preflight 3b:00.0 --from gpu-7.json
    """
    if recording is None:
        _check_sees_all_processes()
    node = _node(recording, accelerators, state_dir, kubelet_dir, driver_root)
    observed = asyncio.run(node.find(pci)).observed
    mode = to.mode if to else (observed.gpu.mode or Mode.PASSTHROUGH).other
    if not _print_checks(node, observed, mode):
        raise typer.Exit(1)


def plan(
    pci: Annotated[
        list[str] | None, typer.Argument(metavar="[PCI]...", help="PCI addresses; by default every GPU.")
    ] = None,
    to: Annotated[Side, typer.Option(help="Side that the manager would want them on.")] = Side.PASSTHROUGH,
    recording: From = None,
    accelerators: Accelerators = DEFAULT_ACCELERATORS,
    state_dir: StateDir = DEFAULTS.state_dir,
    kubelet_dir: KubeletDir = DEFAULTS.kubelet_dir,
    driver_root: DriverRoot = DEFAULTS.driver_root,
) -> None:
    """Show what the agent would do if the manager wanted GPUs on one side, all in one move. Touches nothing.

    \b
    poolmgr agent plan
    poolmgr agent plan 3b:00.0 86:00.0 --to shared
    poolmgr agent plan --from gpu-7.json
    """
    from poolmgr.agent.decisions import DeviceAction
    from poolmgr.agent.manual import describe_steps

    if recording is None:
        _check_sees_all_processes()
    node = _node(recording, accelerators, state_dir, kubelet_dir, driver_root)
    found = asyncio.run(_chosen(node, pci or ()))
    gpus = {finding.observed.gpu.address: finding for finding in found}
    for decision in node.plan(found, to.mode):
        finding = gpus[decision.address]
        print(
            f"{decision.address} {finding.model} ({finding.observed.gpu.driver or 'no driver'}) to {to.mode}:"
        )
        if decision.action is DeviceAction.REBIND:
            for step in describe_steps(finding.observed.gpu, to.mode):
                print(f"  {step}")
        else:
            said = decision.message or f"nothing: it is on {finding.observed.gpu.driver or 'no driver'}"
            print(f"  {decision.action.value}  {decision.reason.value}  {said}")


def record(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it; - for standard output.")],
    any_pid_namespace: Annotated[
        bool,
        typer.Option(
            "--any-pid-namespace",
            envvar="POOLMGR_ANY_PID_NAMESPACE",
            help="Record even if the host's processes cannot be seen: only for nodes that are containers.",
        ),
    ] = False,
    accelerators: Accelerators = DEFAULT_ACCELERATORS,
    state_dir: StateDir = DEFAULTS.state_dir,
    kubelet_dir: KubeletDir = DEFAULTS.kubelet_dir,
    driver_root: DriverRoot = DEFAULTS.driver_root,
) -> None:
    """Write what the agent sees of this node into one file, to be examined elsewhere. Touches nothing else; needs root.

    The file has the node's PCI devices, drivers and device files, what NVML and the kubelet say, and the names of
    processes and pods that have a device. No command lines, environments or other open files.

    \b
    On a node:           poolmgr agent record gpu-7.json
    In the agent's pod:  kubectl -n poolmgr-system exec POD -c agent -- poolmgr agent record - > gpu-7.json
    Then anywhere:       poolmgr agent plan --from gpu-7.json
    """
    from poolmgr.agent.recording.format import encode
    from poolmgr.agent.recording.take import record as record_node

    settings = settings_of(
        accelerators,
        state_dir,
        kubelet_dir,
        driver_root=driver_root,
        any_pid_namespace=any_pid_namespace,
    )
    made = asyncio.run(record_node(settings, SystemClock()))
    content = encode(made)
    if str(file) == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        file.write_bytes(content)
    typer.echo(
        f"recorded {len(content) >> 10} KiB: {len(made.files.entries['/proc'])} process(es) with devices, "
        f"{len(made.kubelet.pods.get('podResources', []))} pod(s) with devices. It is text: read it before you send it",
        err=True,
    )


def rebind(
    pci: Address,
    to: Annotated[Side, typer.Option(help="Side to move it to.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")
    ] = False,
    accelerators: Accelerators = DEFAULT_ACCELERATORS,
    state_dir: StateDir = DEFAULTS.state_dir,
    kubelet_dir: KubeletDir = DEFAULTS.kubelet_dir,
    driver_root: DriverRoot = DEFAULTS.driver_root,
) -> None:
    """Move a GPU by hand, with all of the agent's checks. There is no --force: a held GPU is not unbound.

    A running manager moves the GPU back to the mode in GPUNode.spec: for a lasting change edit
    the GPUPool instead.

    \b
    poolmgr agent rebind 3b:00.0 --to passthrough --dry-run
    poolmgr agent rebind 0000:3b:00.0 --to shared
    """
    from poolmgr.agent.manual import describe_steps

    _check_sees_all_processes()
    node = _node(None, accelerators, state_dir, kubelet_dir, driver_root)

    async def work() -> int:
        observed = (await node.find(pci)).observed
        allowed = _print_checks(node, observed, to.mode)
        for step in describe_steps(observed.gpu, to.mode):
            print(f"  {'would ' if dry_run else ''}{step}")
        if not allowed:
            print("refused: see above; nothing was touched")
            return 1
        if dry_run:
            return 0
        result = await node.rebind(observed.gpu, to.mode)
        print(f"{'done' if result.ok else 'FAILED'}: {result.message} ({result.reason})")
        return 0 if result.ok else 1

    raise typer.Exit(asyncio.run(work()))


def _node(
    recording: Path | None, accelerators: str, state_dir: Path, kubelet_dir: Path, driver_root: Path | None
) -> "ManualControl":
    from poolmgr.agent.manual import ManualControl
    from poolmgr.agent.node_sources import of_this_node
    from poolmgr.agent.recording.format import load
    from poolmgr.agent.recording.replay import sources_of

    if recording is not None:
        return ManualControl(sources_of(load(recording)))
    return ManualControl(
        of_this_node(settings_of(accelerators, state_dir, kubelet_dir, driver_root=driver_root))
    )


def _check_sees_all_processes() -> None:
    from poolmgr.agent.holders import check_sees_all_processes

    check_sees_all_processes()


async def _chosen(node: "ManualControl", addresses: Sequence[str]) -> "tuple[Finding, ...]":
    """Those with these addresses, or all. Raises Rejected for an address that no GPU has."""
    if not addresses:
        return await node.look()
    return tuple([await node.find(address) for address in addresses])


def _print_checks(node: "ManualControl", observed: Any, mode: Mode) -> bool:
    answers = node.checks(observed, mode)
    print(f"{observed.gpu.address} ({observed.gpu.driver or 'no driver'}) to {mode}:")
    for name, verdict in answers:
        print(
            f"  {'ok' if verdict else 'NO':>2}  {name:<10}  {verdict.message if not verdict else ''}".rstrip()
        )
    return all(verdict for _, verdict in answers)


def _as_row(finding: "Finding") -> tuple[str, ...]:
    gpu = finding.observed.gpu
    holders = ", ".join(f"{h.command}[{h.pid}]" for h in finding.observed.holders[:3])
    return (
        gpu.address,
        finding.model,
        gpu.mode or "-",
        gpu.driver or "none",
        "-" if gpu.iommu_group is None else str(gpu.iommu_group),
        "-" if gpu.numa_node is None else str(gpu.numa_node),
        holders or finding.observed.allocated_to or "-",
        gpu.resource_name,
    )


def _as_json(finding: "Finding", rebind: Verdict) -> dict[str, Any]:
    gpu = finding.observed.gpu
    return {
        "pciAddress": gpu.address,
        "uuid": finding.uuid,
        "model": finding.model,
        "memoryMiB": finding.memory_mib,
        "mode": gpu.mode,
        "driver": gpu.driver,
        "iommuGroup": gpu.iommu_group,
        "groupDevices": list(gpu.group_devices),
        "numaNode": gpu.numa_node,
        "resourceName": gpu.resource_name,
        "bootDisplay": gpu.boot_display,
        "virtualFunctions": gpu.virtual_functions,
        "holders": [
            {"pid": h.pid, "command": h.command, "podUid": h.pod_uid, "path": h.path}
            for h in finding.observed.holders
        ],
        "allocatedTo": finding.observed.allocated_to,
        "advertised": finding.observed.listed,
        "rebind": {"possible": bool(rebind), "reason": rebind.reason, "message": rebind.message},
    }
