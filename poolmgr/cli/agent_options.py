"""Options that several commands of `poolmgr agent` have."""

import platform
from pathlib import Path
from typing import Annotated, Any

import typer

from poolmgr.agent.accelerators import built_in
from poolmgr.agent.settings import AgentSettings
from poolmgr.domain.identifiers import NodeName

DEFAULTS = AgentSettings(NodeName(""))
Accelerators = Annotated[
    str,
    typer.Option(
        envvar="POOLMGR_ACCELERATORS",
        help=f"Accelerators to manage, separated by commas: {', '.join(built_in())}, or paths of files.",
    ),
]
StateDir = Annotated[
    Path, typer.Option(envvar="POOLMGR_STATE_DIR", help="Folder of the journal; it must survive a reboot.")
]
KubeletDir = Annotated[
    Path, typer.Option(envvar="POOLMGR_KUBELET_DIR", help="The kubelet's folder, with its sockets.")
]
DriverRoot = Annotated[
    Path | None,
    typer.Option(
        envvar="POOLMGR_DRIVER_ROOT",
        help="Folder that holds the NVIDIA driver's files, e.g. /run/nvidia/driver; by default, NVML is found as any "
        "library is.",
    ),
]
DEFAULT_ACCELERATORS = ",".join(DEFAULTS.accelerators)


def names_in(text: str) -> tuple[str, ...]:
    """Of a list with commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def settings_of(accelerators: str, state_dir: Path, kubelet_dir: Path, **more: Any) -> AgentSettings:
    names = names_in(accelerators)
    node = more.pop("node", NodeName(platform.node()))
    return AgentSettings(node=node, accelerators=names, state_dir=state_dir, kubelet_dir=kubelet_dir, **more)
