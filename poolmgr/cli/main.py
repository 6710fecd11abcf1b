"""The `poolmgr` command: one entry, each subcommand imported only when it is called.

Lazy on purpose: `poolmgr agent` runs on every GPU node and must not load the Kubernetes client, and
`poolmgr webhook` sits on the Pod-create path and must not load SQL. A subcommand is a module
`poolmgr/cli/<name>.py` with an `app` (typer.Typer); add it to `COMMANDS` with its one-line help.
"""

import importlib
import importlib.util
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from poolmgr.cli.checkouts import CHECKOUT_ONLY, needs_checkout
from poolmgr.domain.errors import PoolError

COMMANDS: dict[str, str] = {
    "demo": "Run poolmgr on a simulated fleet, with its dashboard, on this machine.",
    "manager": "Run the manager on a Kubernetes cluster: observe, plan, act, serve API and dashboard.",
    "webhook": "Serve the admission webhooks.",
    "agent": "Run the node agent: inventory, rebinding, device plugin for passthrough GPUs.",
    "plan": "Say what would be moved in a snapshot, and why each other GPU would not.",
    "snapshot": "Write what a live cluster looks like as JSON, for plan --from.",
    "simulate": "Replay a demand trace under one or more policies and compare them.",
    "bench": "Run the benchmarks.",
    "gpu": "Share GPUs of a workstation with the CUDA hook, without Kubernetes.",
}
"""Name → help line. The help lives here so that `poolmgr --help` imports none of them."""


class LazyGroup(TyperGroup):
    """Imports a subcommand's module only to run it or to show its own help."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # Stand-ins: enough for the list in `--help` and for "did you mean".
        self.commands = {
            name: TyperCommand(name, help=line)
            for name, line in COMMANDS.items()
            if importlib.util.find_spec(f"poolmgr.cli.{name}")
        }
        self._listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if self._listing or cmd_name not in self.commands:
            return self.commands.get(cmd_name)
        command = get_command(importlib.import_module(f"poolmgr.cli.{cmd_name}").app)
        command.name = cmd_name
        return command

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

    @staticmethod
    def _fail(error: PoolError) -> NoReturn:
        typer.secho(f"poolmgr: {error.message} ({error.reason})", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """GPU pool manager for Kubernetes: decides per GPU between whole-card VMs and shared containers."""


if __name__ == "__main__":
    app()
