"""`python -m e2e.node`: an emulated node to play with."""

import contextlib
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from e2e.node.channel import ChannelLost, run_over_channel
from e2e.node.machine import MachineSpec, NodeUnavailable, say
from e2e.node.machine_lock import MachineLock
from e2e.node.node import GuestNode, NodeFailed

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)

EXAMPLES = """\
A machine under QEMU with Debian's kernel, an IOMMU and PCI GPUs (0000:00:10.0, 0000:00:11.0, …) on bochs-drm. Its
root is this machine's file system, read-only; it is up after 20 to 60 seconds and keeps one core busy. One at a time.

\b
Examples:
  python -m e2e.node run -- lspci -nnk                  boot, run one command, end with its status
  python -m e2e.node run --gpus 4 --companion 1 -- ls /sys/kernel/iommu_groups
  python -m e2e.node up                                 boot and stay until Ctrl-C
  python -m e2e.node up --join                          … as a node of a new control plane, kubelet Ready
  python -m e2e.node up --hami                          … with HAMi's scheduler, webhook and device plugin
  python -m e2e.node exec -- 'dmesg | tail'             run a command in the node that is up now
"""

Gpus = Annotated[int, typer.Option(min=0, max=8, help="Number of GPUs.")]
Companions = Annotated[
    list[int],
    typer.Option("--companion", help="GPU (counted from 0) that shares its IOMMU group with a function."),
]
Memory = Annotated[str, typer.Option(help="Memory, as 3G.")]
Command = Annotated[list[str], typer.Argument(help="One word is run by sh -c, several as they are.")]


@app.callback(help=EXAMPLES)
def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the node is ended in order


@app.command()
def run(command: Command, gpus: Gpus = 2, companion: Companions = [], memory: Memory = "3G") -> None:  # noqa: B006
    """Boot a node, run one command in it, end with the command's exit status."""
    with booted(MachineSpec(gpus=gpus, companions=frozenset(companion), memory=memory)) as node:
        result = node.run(words(command), timeout_seconds=3600, echo=True)
        raise typer.Exit(result.rc if result.rc >= 0 else 128 - result.rc)


@app.command()
def up(
    gpus: Gpus = 2,
    companion: Companions = [],  # noqa: B006
    memory: Memory = "3G",
    join: Annotated[bool, typer.Option("--join", help="Start a control plane and join it.")] = False,
    hami: Annotated[bool, typer.Option("--hami", help="Join, and run HAMi with its device plugin.")] = False,
) -> None:
    """Boot a node and keep it until Ctrl-C."""
    spec = MachineSpec(gpus=gpus, companions=frozenset(companion), memory=memory)
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(booted(spec))
        if join or hami:
            stack.enter_context(joined(node, with_hami=hami))
        say(f"console: {node.machine.console}")
        say("run commands from another terminal: python -m e2e.node exec -- COMMAND. Ctrl-C ends the node")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


@app.command(name="exec")
def execute(command: Command) -> None:
    """Run a command in the node that is up now, of whichever session of this user."""
    holder = MachineLock().holder()
    if holder is None:
        say("no node is up; start one: python -m e2e.node up")
        raise typer.Exit(1)
    argv = words(command)

    def copy(stream: str, data: bytes) -> None:
        target = sys.stdout if stream == "out" else sys.stderr
        target.buffer.write(data)
        target.flush()

    result = run_over_channel(
        holder.port,
        holder.token,
        ["sh", "-c", argv] if isinstance(argv, str) else argv,
        timeout_seconds=3600,
        on_output=copy,
    )
    raise typer.Exit(result.rc if result.rc >= 0 else 128 - result.rc)


def words(command: list[str]) -> str | list[str]:
    """One word may be a whole shell line; several are an argument list."""
    return command[0] if len(command) == 1 else command


@contextlib.contextmanager
def booted(spec: MachineSpec) -> Iterator[GuestNode]:
    node = GuestNode(spec, Path(tempfile.mkdtemp(prefix="poolmgr-node-")))
    try:
        node.boot()
        yield node
    finally:
        node.close()


@contextlib.contextmanager
def joined(node: GuestNode, *, with_hami: bool) -> Iterator[None]:
    """A control plane for the node, and HAMi on both."""
    from e2e.controlplane.hami import Hami
    from e2e.controlplane.plane import ControlPlane
    from e2e.node.hami_plugin import HamiPlugin
    from e2e.node.kubelet import KubeNode
    from e2e.node.launcher import launcher_image

    plane = ControlPlane(node.directory / "controlplane")
    try:
        plane.start()
        plane.ensure_controller_manager()
        plane.ensure_scheduler()
        kube_node = KubeNode(node, plane).join()
        kube_node.load_images([launcher_image()])
        if with_hami:
            hami = Hami(plane).start()
            say(f"runs {hami.describe()}")
            plugin = HamiPlugin(kube_node, hami).install()
            plugin.label(on=True)
            plugin.wait_registered(node.spec.gpus)
        say(f"{node.spec.name} is Ready: export KUBECONFIG={plane.kubeconfig}")
        say(f"kubectl of the cluster's release: {shlex.quote(str(plane.programs['kubectl'].path))}")
        yield
    finally:
        plane.stop()


if __name__ == "__main__":
    try:
        app(prog_name="python -m e2e.node")
    except (NodeUnavailable, NodeFailed, ChannelLost, TimeoutError) as error:
        say(str(error))
        sys.exit(1)
