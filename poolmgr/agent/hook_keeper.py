"""What a pass of the agent does about libhook, and how `GPUNode.status` tells it. A failure is reported and never
stops a pass: GPUs are moved whether or not the hook is in place."""

from collections.abc import Mapping
from enum import StrEnum

import structlog

from poolmgr.agent.hook_install import HookPlace, InstallResult, InstallState, ensure_hook, remove_hook
from poolmgr.agent.hook_node import DEFAULT_SETTINGS, ContainerLimits, HookNode
from poolmgr.agent.hook_prune import CopyPruner
from poolmgr.agent.status import Condition
from poolmgr.domain.errors import PoolError
from poolmgr.domain.reasons import Reason

log = structlog.get_logger()


class HookMode(StrEnum):
    """What to do with the library that HAMi mounts into containers."""

    LEAVE = "Leave"
    """HAMi's own; poolmgr does not look at it."""
    INSTALL = "Install"
    REMOVE = "Remove"
    """Take libhook away where it had been installed."""


class HookKeeper:
    """Called once a pass."""

    def __init__(
        self,
        mode: HookMode,
        place: HookPlace,
        pruner: CopyPruner | None = None,
        settings: Mapping[str, str] = DEFAULT_SETTINGS,
    ) -> None:
        self._mode = mode
        self._pruner = pruner
        self._node = HookNode(place.folder, settings)
        self._limits: Mapping[str, ContainerLimits] = {}
        self._place = place
        self._last: InstallResult | None = None

    def wants_limits(self) -> bool:
        """Whether a container has begun whose limits the node has to be told."""
        return self._mode is HookMode.INSTALL and self._node.unlimited()

    def learn(self, limits: Mapping[str, ContainerLimits]) -> None:
        """What containers were given, by the names of HAMi's folders of them; written in the next `keep`."""
        self._limits = limits

    def keep(self) -> Condition | None:
        """The condition `Hook`; None where poolmgr leaves the library alone."""
        if self._mode is HookMode.LEAVE:
            return None
        try:
            if self._mode is HookMode.INSTALL and self._place.folder.is_dir():
                self._node.show()  # before the library: no container gets that without the node's settings
                self._node.limit(self._limits)
            elif self._mode is HookMode.REMOVE:
                self._node.withdraw()
            result = (ensure_hook if self._mode is HookMode.INSTALL else remove_hook)(self._place)
        except PoolError as error:
            return Condition("Hook", False, error.reason, error.message)
        if self._pruner:
            self._pruner.prune()
        if result.state not in (InstallState.IN_PLACE, InstallState.NO_FOLDER) and result != self._last:
            log.info("hook_changed", state=result.state, message=result.message)
        self._last = result
        if self._mode is HookMode.REMOVE:
            return Condition("Hook", False, Reason.HOOK_NOT_IN_PLACE, f"not wanted: {result.message}")
        if result.state is InstallState.NO_FOLDER:
            return Condition("Hook", False, Reason.HOOK_NOT_IN_PLACE, result.message)
        return Condition(
            "Hook",
            True,
            Reason.HOOK_IN_PLACE,
            f"new containers with a share of a GPU get libhook ({self._place.target})",
        )
