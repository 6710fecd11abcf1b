"""`poolmgr completion`: the script by which a shell completes commands and options."""

from enum import StrEnum
from typing import Annotated

import typer
from typer._completion_shared import get_completion_script

app = typer.Typer(add_completion=False)

EPILOG = """
Examples:

  source <(poolmgr completion bash)

  poolmgr completion zsh > "${fpath[1]}/_poolmgr"

  poolmgr completion fish > ~/.config/fish/completions/poolmgr.fish
"""


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command(epilog=EPILOG)
def completion(shell: Annotated[Shell, typer.Argument(help="Which shell.")]) -> None:
    """Print the script that lets a shell complete commands and options."""
    print(get_completion_script(prog_name="poolmgr", complete_var="_POOLMGR_COMPLETE", shell=shell.value))


if __name__ == "__main__":
    app()
