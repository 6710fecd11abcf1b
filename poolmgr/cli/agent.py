"""`poolmgr agent`: the node agent, and what an operator may want to do at one node by hand."""

import asyncio
import contextlib
import json
import os
import platform
import signal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from poolmgr.agent.accelerators import built_in
from poolmgr.agent.hook_install import HookPlace
from poolmgr.agent.hook_keeper import HookMode
from poolmgr.agent.hook_node import parse_settings
from poolmgr.agent.settings import AgentSettings
from poolmgr.cli import agent_hook
from poolmgr.cli.tables import console_for
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.kit import log

if TYPE_CHECKING:
    from poolmgr.agent.manual import Finding, ManualControl

# gRPC reads these when it is first imported, which the commands do. Children are only ever exec'ed, so its
# care for forks is not needed, and its notes about them are not for an operator's eyes.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="The node agent, and commands to use on its node by hand.",
)

DEFAULTS = AgentSettings(NodeName(""))
app.add_typer(agent_hook.app, name="hook")


class Side(StrEnum):
    PASSTHROUGH = "passthrough"
    SHARED = "shared"

    @property
    def mode(self) -> Mode:
        return Mode.PASSTHROUGH if self is Side.PASSTHROUGH else Mode.SHARED


Accelerators = Annotated[
    str,
    typer.Option(
        envvar="POOLMGR_ACCELERATORS",
        help=f"Accelerators to manage, separated by commas: {', '.join(built_in())}, or paths of files.",
    ),
]
StateDir = Annotated[
    Path, typer.Option(envvar="POOLMGR_STATE_DIR", help="Folder of the journal; must survive a reboot.")
]
KubeletDir = Annotated[
    Path, typer.Option(envvar="POOLMGR_KUBELET_DIR", help="The kubelet's folder, with its sockets.")
]
DriverRoot = Annotated[
    Path | None,
    typer.Option(
        envvar="POOLMGR_DRIVER_ROOT",
        help="Folder that holds the NVIDIA driver's files, e.g. /run/nvidia/driver; by default NVML is found as any "
        "library is.",
    ),
]
Address = Annotated[str, typer.Argument(metavar="PCI", help="PCI address, e.g. 0000:3b:00.0 or 3b:00.0.")]
DEFAULT_ACCELERATORS = ",".join(DEFAULTS.accelerators)


def _settings(accelerators: str, state_dir: Path, kubelet_dir: Path, **more: Any) -> AgentSettings:
    names = tuple(name.strip() for name in accelerators.split(",") if name.strip())
    node = more.pop("node", NodeName(platform.node()))
    return AgentSettings(node=node, accelerators=names, state_dir=state_dir, kubelet_dir=kubelet_dir, **more)


@app.command()
def run(
    node_name: Annotated[
        str, typer.Option(envvar="NODE_NAME", help="Name of this machine's Node in Kubernetes.")
    ] = "",
    namespace: Annotated[
        str,
        typer.Option(
            envvar="POD_NAMESPACE", help="Namespace of the manager, where the agent's heartbeat goes."
        ),
    ] = DEFAULTS.namespace,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(envvar="KUBECONFIG", help="Kubeconfig file; leave it out in a pod."),
    ] = None,
    accelerators: Accelerators = DEFAULT_ACCELERATORS,
    state_dir: StateDir = DEFAULTS.state_dir,
    kubelet_dir: KubeletDir = DEFAULTS.kubelet_dir,
    driver_root: DriverRoot = DEFAULTS.driver_root,
    poll_seconds: Annotated[
        float,
        typer.Option(
            envvar="POOLMGR_POLL_SECONDS", help="Longest time between two passes, in seconds.", min=0.2
        ),
    ] = DEFAULTS.poll_seconds,
    unbind_deadline_seconds: Annotated[
        float,
        typer.Option(
            envvar="POOLMGR_UNBIND_DEADLINE_SECONDS",
            help="Seconds after which an unbind is given up and the GPU quarantined.",
            min=1.0,
        ),
    ] = DEFAULTS.unbind_deadline_seconds,
    any_pid_namespace: Annotated[
        bool,
        typer.Option(
            "--any-pid-namespace",
            envvar="POOLMGR_ANY_PID_NAMESPACE",
            help="Run although the host's processes cannot be seen: only where the node is a container.",
        ),
    ] = False,
    hook_mode: Annotated[
        HookMode,
        typer.Option(
            envvar="POOLMGR_NODE_HOOK",
            help="What containers with a share of a GPU get: HAMi's own library (Leave), libhook (Install), or "
            "HAMi's own again where libhook had been installed (Remove).",
        ),
    ] = DEFAULTS.hook_mode,
    hook_folder: agent_hook.Folder = DEFAULTS.hook_place.folder,
    hook_library: agent_hook.Library = DEFAULTS.hook_place.library,
    hook_settings: Annotated[
        str,
        typer.Option(
            envvar="POOLMGR_HOOK_SETTINGS",
            help="libhook's settings for the containers of this node, as lines of `name = value`.",
        ),
    ] = "\n".join(f"{name} = {value}" for name, value in DEFAULTS.hook_settings.items()),
    log_level: Annotated[str, typer.Option(envvar="POOLMGR_LOG_LEVEL")] = "info",
    log_text: Annotated[bool, typer.Option("--log-text", help="Log readable text instead of JSON.")] = False,
) -> None:
    """Run the agent of this node until it is told to stop. Needs root and the host's PID namespace.

    \b
    In the DaemonSet:    poolmgr agent run
    By hand on a node:   poolmgr agent run --node-name gpu-7 --kubeconfig /etc/kubernetes/kubelet.conf --log-text
    On a test node:      poolmgr agent run --accelerators nvidia,emulated
    """
    from poolmgr.agent.run import run_agent

    log.configure(json_lines=not log_text, level=log_level)
    settings = _settings(
        accelerators,
        state_dir,
        kubelet_dir,
        node=NodeName(node_name or platform.node()),
        namespace=namespace,
        kubeconfig=kubeconfig,
        driver_root=driver_root,
        poll_seconds=poll_seconds,
        unbind_deadline_seconds=unbind_deadline_seconds,
        any_pid_namespace=any_pid_namespace,
        hook_mode=hook_mode,
        hook_place=HookPlace(hook_library, hook_folder, state_dir / "hook"),
        hook_settings=parse_settings(hook_settings),
    )

    async def until_told() -> None:
        work = asyncio.ensure_future(run_agent(settings))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await work

    asyncio.run(until_told())


@app.command()
def show(
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
    """
    if os.geteuid() != 0:
        typer.echo("not root: holders that belong to other users are not shown", err=True)
    found = asyncio.run(_manual(accelerators, state_dir, kubelet_dir, driver_root).look())
    if as_json:
        print(json.dumps([_as_json(f) for f in found], indent=2))
        return
    if not found:
        print(f"no GPU of the accelerators '{accelerators}' on this node (all: {', '.join(built_in())})")
        return
    table = Table("PCI", "Model", "Mode", "Driver", "IOMMU group", "NUMA", "Held by", "Resource", box=None)
    for finding in found:
        table.add_row(*_as_row(finding))
    console_for(table).print(table)


@app.command()
def preflight(
    pci: Address,
    to: Annotated[Side | None, typer.Option(help="Side to check for; default: the other one.")] = None,
    accelerators: Accelerators = DEFAULT_ACCELERATORS,
    state_dir: StateDir = DEFAULTS.state_dir,
    kubelet_dir: KubeletDir = DEFAULTS.kubelet_dir,
    driver_root: DriverRoot = DEFAULTS.driver_root,
) -> None:
    """Say whether a GPU could be moved now, and what is in the way. Touches nothing; exits 1 if not.

    \b
    poolmgr agent preflight 3b:00.0
    """
    from poolmgr.agent.holders import check_sees_all_processes

    check_sees_all_processes()
    observed = asyncio.run(_manual(accelerators, state_dir, kubelet_dir, driver_root).find(pci))
    mode = to.mode if to else (observed.gpu.mode or Mode.PASSTHROUGH).other
    if not _print_checks(observed, mode):
        raise typer.Exit(1)


@app.command()
def rebind(
    pci: Address,
    to: Annotated[Side, typer.Option(help="Side to move it to.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    accelerators: Accelerators = DEFAULT_ACCELERATORS,
    state_dir: StateDir = DEFAULTS.state_dir,
    kubelet_dir: KubeletDir = DEFAULTS.kubelet_dir,
    driver_root: DriverRoot = DEFAULTS.driver_root,
) -> None:
    """Move a GPU by hand, with all of the agent's checks. There is no --force: a held GPU is not unbound.

    A running manager brings the GPU back to the mode that GPUNode.spec wants of it: for a lasting change edit
    the GPUPool instead.

    \b
    poolmgr agent rebind 3b:00.0 --to passthrough --dry-run
    poolmgr agent rebind 0000:3b:00.0 --to shared
    """
    from poolmgr.agent.holders import check_sees_all_processes
    from poolmgr.agent.manual import describe_steps

    check_sees_all_processes()
    hand = _manual(accelerators, state_dir, kubelet_dir, driver_root)

    async def work() -> int:
        observed = await hand.find(pci)
        allowed = _print_checks(observed, to.mode)
        for step in describe_steps(observed.gpu, to.mode):
            print(f"  {'would ' if dry_run else ''}{step}")
        if not allowed:
            print("refused: see above; nothing was touched")
            return 1
        if dry_run:
            return 0
        result = await hand.rebind(observed.gpu, to.mode)
        print(f"{'done' if result.ok else 'FAILED'}: {result.message} ({result.reason})")
        return 0 if result.ok else 1

    raise typer.Exit(asyncio.run(work()))


def _manual(
    accelerators: str, state_dir: Path, kubelet_dir: Path, driver_root: Path | None
) -> "ManualControl":
    from poolmgr.agent.manual import ManualControl

    return ManualControl(_settings(accelerators, state_dir, kubelet_dir, driver_root=driver_root))


def _print_checks(observed: Any, mode: Mode) -> bool:
    from poolmgr.agent.manual import checks

    answers = checks(observed, mode)
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


def _as_json(finding: "Finding") -> dict[str, Any]:
    from poolmgr.agent.decisions import could_move

    gpu = finding.observed.gpu
    rebind = could_move(finding.observed)
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


if __name__ == "__main__":
    app()
