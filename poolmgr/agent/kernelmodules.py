"""Making a driver available: modprobe, where the kernel does not have it yet."""

import asyncio
import contextlib
import shutil
from collections.abc import Container

from poolmgr.agent.sysfs import Sysfs

MODPROBE_SECONDS = 60.0


class KernelModules:
    """Loads the modules of drivers that a rebind needs. Needs CAP_SYS_MODULE and the node's /lib/modules.

    Those of `elsewhere` are loaded by somebody else, as the NVIDIA driver is by a container of its own: the host's
    module of that name, if there is one, would be another version.
    """

    def __init__(self, sysfs: Sysfs, elsewhere: Container[str] = ()) -> None:
        self._sysfs = sysfs
        self._elsewhere = elsewhere

    def missing_message(self, driver: str) -> str:
        """What to do where the kernel does not offer it."""
        if driver in self._elsewhere:
            return (
                f"the kernel of this node has no driver {driver} yet: its container has not loaded it (see the pods of the "
                "driver on this node); the agent tries again"
            )
        return (
            f"the kernel of this node has no driver {driver}: load it (modprobe {driver}) and list it in "
            "/etc/modules-load.d"
        )

    async def ensure_loaded(self, driver: str) -> bool:
        """True once the kernel offers `driver`."""
        if self._sysfs.has_driver(driver):
            return True
        if driver in self._elsewhere:
            return False
        modprobe = shutil.which("modprobe", path="/usr/sbin:/sbin:/usr/bin:/bin")
        if modprobe is None:
            return False
        child = await asyncio.create_subprocess_exec(modprobe, driver)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), MODPROBE_SECONDS)
        return self._sysfs.has_driver(driver)
