"""`poolmgr agent hook`: libhook in the place of HAMi's library, by hand at one node."""

from pathlib import Path
from typing import Annotated

import typer

from poolmgr.agent.hook_install import HookPlace, ensure_hook, remove_hook

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Replace HAMi's libvgpu.so with libhook on this node, or restore HAMi's own.",
)
DEFAULTS = HookPlace()

Folder = Annotated[
    Path, typer.Option(envvar="POOLMGR_HOOK_FOLDER", help="Where HAMi's plugin keeps libvgpu.so on the host.")
]
Library = Annotated[Path, typer.Option(envvar="POOLMGR_HOOK_LIBRARY", help="The libhook to install.")]
Store = Annotated[
    Path, typer.Option(help="Where copies are kept; must not be visible in HAMi's plugin's container.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]


@app.command()
def install(
    folder: Folder = DEFAULTS.folder,
    library: Library = DEFAULTS.library,
    store: Store = DEFAULTS.store,
    dry_run: DryRun = False,
) -> None:
    """New containers with a share of a GPU get libhook. Running ones keep the library they have.

    \b
    poolmgr agent hook install --dry-run
    poolmgr agent hook install --library ./libhook/build/libvgpu.so
    """
    print(
        ensure_hook(
            HookPlace(library.absolute(), folder.absolute(), store.absolute()), dry_run=dry_run
        ).message
    )


@app.command()
def remove(folder: Folder = DEFAULTS.folder, store: Store = DEFAULTS.store, dry_run: DryRun = False) -> None:
    """New containers get HAMi's own library again.

    A running agent with the chart's `agent.hook.mode: Install` puts libhook back: change that first.

    \b
    poolmgr agent hook remove --dry-run
    """
    place = HookPlace(folder=folder.absolute(), store=store.absolute())
    print(remove_hook(place, dry_run=dry_run).message)


@app.command()
def status(folder: Folder = DEFAULTS.folder, store: Store = DEFAULTS.store) -> None:
    """Show which library new containers get. Changes nothing; exits 1 if it is not libhook."""
    place = HookPlace(folder=folder.absolute(), store=store.absolute())
    if place.is_ours() and place.target.exists():
        print(f"new containers get libhook: {place.target} leads to {place.target.readlink()}")
        return
    if place.is_ours():
        print(
            f"{place.target} leads to {place.target.readlink()}, which is gone: run `poolmgr agent hook install`"
        )
    elif place.target.exists():
        print(f"new containers get another library than libhook, most likely HAMi's own: {place.target}")
    else:
        print(f"there is no {place.target}: HAMi's device plugin has not run on this node")
    raise typer.Exit(1)
