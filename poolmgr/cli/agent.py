"""`poolmgr agent`: the node agent, and what an operator may want to do at one node by hand."""

import asyncio
import contextlib
import os
import platform
import signal
from pathlib import Path
from typing import Annotated

import typer

from poolmgr.agent.hook_install import HookPlace
from poolmgr.agent.hook_keeper import HookMode
from poolmgr.agent.hook_node import parse_settings
from poolmgr.cli import agent_hook, agent_node
from poolmgr.cli.agent_options import (
    DEFAULT_ACCELERATORS,
    DEFAULTS,
    Accelerators,
    DriverRoot,
    KubeletDir,
    StateDir,
    names_in,
    settings_of,
)
from poolmgr.domain.identifiers import NodeName
from poolmgr.kit import log

# gRPC reads these when it is first imported, which the commands do. Children are only ever exec'ed, so its
# care for forks is not needed, and its notes about them are not for an operator's eyes.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Run the node agent, or look at this node's GPUs and move them by hand.",
)

app.add_typer(agent_hook.app, name="hook")


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
    claim_drivers_without_gpus: Annotated[
        str,
        typer.Option(
            envvar="POOLMGR_CLAIM_DRIVERS_WITHOUT_GPUS",
            help="DRA drivers whose ResourceClaims never give a GPU, separated by commas. A claim of any other keeps the "
            "node's GPUs where they are.",
        ),
    ] = ",".join(DEFAULTS.claim_drivers_without_gpus),
    driver_in_container: Annotated[
        bool,
        typer.Option(
            "--driver-in-container",
            envvar="POOLMGR_DRIVER_IN_CONTAINER",
            help="A container loads the NVIDIA driver, as the GPU operator's does: wait for it, load no module of the host.",
        ),
    ] = False,
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
            help="Seconds to wait for an unbind before the GPU is quarantined.",
            min=1.0,
        ),
    ] = DEFAULTS.unbind_deadline_seconds,
    any_pid_namespace: Annotated[
        bool,
        typer.Option(
            "--any-pid-namespace",
            envvar="POOLMGR_ANY_PID_NAMESPACE",
            help="Run even if the host's processes cannot be seen: only for nodes that are containers.",
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
    settings = settings_of(
        accelerators,
        state_dir,
        kubelet_dir,
        node=NodeName(node_name or platform.node()),
        namespace=namespace,
        kubeconfig=kubeconfig,
        driver_root=driver_root,
        claim_drivers_without_gpus=names_in(claim_drivers_without_gpus),
        driver_in_container=driver_in_container,
        poll_seconds=poll_seconds,
        unbind_deadline_seconds=unbind_deadline_seconds,
        any_pid_namespace=any_pid_namespace,
        hook_mode=hook_mode,
        hook_place=HookPlace(hook_library, hook_folder, state_dir / "hook"),
        hook_settings=parse_settings(hook_settings),
    )

    async def until_stopped() -> None:
        work = asyncio.ensure_future(run_agent(settings))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await work

    asyncio.run(until_stopped())


for command in (agent_node.show, agent_node.preflight, agent_node.plan, agent_node.record, agent_node.rebind):
    app.command()(command)


if __name__ == "__main__":
    app()
