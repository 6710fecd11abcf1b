"""The `poolmgr` command: one entry, each subcommand imported only when it is called.

Lazy on purpose: `poolmgr agent` runs on every GPU node and must not load the Kubernetes client, and
`poolmgr webhook` sits on the Pod-create path and must not load SQL. A subcommand is a module
`poolmgr/cli/<name>.py` with an `app` (typer.Typer); add it to `COMMANDS` with its one-line help. One that is in the
module of another is named in `PLACES`.

`kubectl poolmgr` is the same command: kubectl runs `kubectl-poolmgr` from the PATH.
"""

import importlib
import importlib.util
import os
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from poolmgr.cli.checkouts import CHECKOUT_ONLY, needs_checkout
from poolmgr.domain.errors import PoolError

COMMANDS: dict[str, str] = {
    "status": "Show the leading manager, moves, waiting workloads and GPUs in trouble.",
    "doctor": "Check a cluster for problems that keep poolmgr from working, and say how to fix them.",
    "get": "List pools, nodes, GPUs, workloads, moves, reservations or plans.",
    "explain": "Explain why a VM or pod waits, or a GPU stays: since when, until when.",
    "events": "List the manager's Events of the last hour.",
    "history": "List past moves and how they ended.",
    "rebalance": "Plan for one pool now, and start the moves.",
    "retry": "Let GPUs whose last moves failed move again now.",
    "pause": "Stop planning for a pool until it is resumed.",
    "resume": "Resume planning for a paused pool.",
    "cordon": "Keep GPUs in their present mode.",
    "uncordon": "Let cordoned GPUs move again.",
    "gpu": "Take GPUs out of use and put them back; share the GPUs of a workstation.",
    "node": "Move all GPUs of a node to one side, for maintenance.",
    "top": "Show how many GPUs are allocated, by node, GPU or namespace.",
    "version": "Print the version of this program and of the agents.",
    "completion": "Print the completion script for a shell.",
    "demo": "Run poolmgr on a simulated fleet, with its dashboard, on this machine.",
    "manager": "Run the manager on a Kubernetes cluster: observe, plan, act, serve API and dashboard.",
    "webhook": "Serve the admission webhooks.",
    "agent": "Run the node agent: inventory, rebinding, device plugin for passthrough GPUs.",
    "plan": "Show what would move in a snapshot, and why every other GPU would stay.",
    "snapshot": "Print the state of a live cluster as JSON, for plan --from.",
    "simulate": "Replay a demand trace under one or more policies and compare them.",
    "bench": "Run the benchmarks.",
}
"""Name → help line. The help lives here so that `poolmgr --help` imports none of them."""
PLACES: dict[str, tuple[str, str]] = {
    "resume": ("pause", "resume_app"),
    "uncordon": ("cordon", "uncordon_app"),
}
"""Name → module and attribute, where these are not the name and `app`."""
PANELS: dict[str, tuple[str, ...]] = {
    "Every day, with your kubeconfig": (
        "status", "doctor", "get", "explain", "events", "history", "rebalance", "retry", "pause", "resume", "cordon", "uncordon", "gpu", "node", "top", "version", "completion",
    ),
    "Run": ("manager", "webhook", "agent", "demo"),
    "Judge beforehand": ("plan", "snapshot", "simulate", "bench"),
}  # fmt: skip
"""How `--help` groups the commands."""


class LazyGroup(TyperGroup):
    """Imports a subcommand's module only to run it or to show its own help."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # Stand-ins: enough for the list in `--help` and for "did you mean".
        panels = {name: panel for panel, names in PANELS.items() for name in names}
        self.commands = {
            name: TyperCommand(name, help=line, rich_help_panel=panels[name])
            for name, line in COMMANDS.items()
            if importlib.util.find_spec(f"poolmgr.cli.{_place(name)[0]}")
        }
        self._listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if self._listing or cmd_name not in self.commands:
            return self.commands.get(cmd_name)
        module, attribute = _place(cmd_name)
        command = get_command(getattr(importlib.import_module(f"poolmgr.cli.{module}"), attribute))
        command.name = cmd_name
        return command

    def main(self, *arguments: Any, **more: Any) -> Any:
        if any(name.endswith("_COMPLETE") for name in os.environ):
            # Typer knows its shells only once somebody asked it for the options that install completion, which are not
            # offered here: `poolmgr completion` prints the script instead.
            from typer._completion_classes import completion_init

            completion_init()
        return super().main(*arguments, **more)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._listing = True
        super().format_help(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as missing:
            if (missing.name or "").partition(".")[0] not in CHECKOUT_ONLY:
                raise
            self._fail(needs_checkout(str(ctx.invoked_subcommand), missing))
        except PoolError as error:
            self._fail(error)
        except Exception as error:
            # A group without a word: Typer takes it for granted that rich has printed the help, which it does not for
            # groups that are written plainly. (By name: the class is in click or in Typer, by their releases.)
            if type(error).__name__ == "NoArgsIsHelpError":
                typer.echo(getattr(error, "message", ""))
            raise

    @staticmethod
    def _fail(error: PoolError) -> NoReturn:
        typer.secho(f"poolmgr: {error.message} ({error.reason})", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error


def _place(name: str) -> tuple[str, str]:
    return PLACES.get(name, (name, "app"))


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """GPU pool manager for Kubernetes: decides per GPU between whole-card VMs and shared containers."""


def kubectl_plugin() -> None:
    """`kubectl-poolmgr`: help and errors name what the user typed."""
    app(prog_name="kubectl poolmgr")


if __name__ == "__main__":
    app()
