"""What an agent has to be told. Built once by the command line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from poolmgr.agent.assignments import CLAIM_DRIVERS_WITHOUT_GPUS
from poolmgr.agent.hook_install import HookPlace
from poolmgr.agent.hook_keeper import HookMode
from poolmgr.agent.hook_node import DEFAULT_SETTINGS
from poolmgr.domain.identifiers import NodeName


@dataclass(frozen=True, slots=True)
class AgentSettings:
    node: NodeName
    namespace: str = "poolmgr-system"
    """Of the agent's Lease: where the manager looks for it."""
    kubeconfig: Path | None = None
    """None: the pod's own service account."""
    accelerators: tuple[str, ...] = ("nvidia",)
    """Data files by name, or by path where there is a `/` in it."""
    state_dir: Path = Path("/var/lib/poolmgr")
    """Holds the journal; must survive the pod and the node's reboot."""
    kubelet_dir: Path = Path("/var/lib/kubelet")
    sys_root: Path = Path("/sys")
    proc_root: Path = Path("/proc")
    driver_root: Path | None = None
    """Folder that holds the NVIDIA driver's files; None: the dynamic linker finds NVML, as where NVIDIA's container
    runtime has put it into the container."""
    claim_drivers_without_gpus: tuple[str, ...] = CLAIM_DRIVERS_WITHOUT_GPUS
    """DRA drivers whose ResourceClaims never give a GPU."""
    driver_in_container: bool = False
    """A container of its own loads the NVIDIA driver's modules, perhaps minutes after the boot; the host has none."""
    any_pid_namespace: bool = False
    """Run although other PID namespaces cannot be seen: for nodes that are containers themselves."""
    poll_seconds: float = 5.0
    """Longest time between two passes, in seconds. Holders and drivers change without telling anybody."""
    busy_poll_seconds: float = 1.0
    """The same while a move is under way on this node."""
    unbind_deadline_seconds: float = 60.0
    hook_mode: HookMode = HookMode.LEAVE
    hook_place: HookPlace = HookPlace()
    hook_settings: Mapping[str, str] = field(default_factory=lambda: DEFAULT_SETTINGS)
    """libhook's settings for every container of the node (docs/reference/hook-settings.md)."""

    @property
    def writes_dir(self) -> Path:
        """Notes of writes that have not returned; see `kernelwrite`."""
        return self.state_dir / "writes"
