"""Making a driver available: modprobe, where the kernel does not have it yet."""

import asyncio
import contextlib
import shutil

from poolmgr.agent.sysfs import Sysfs

MODPROBE_SECONDS = 60.0


class KernelModules:
    """Loads the modules of drivers that a rebind needs. Needs CAP_SYS_MODULE and the node's /lib/modules."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs

    async def ensure_loaded(self, driver: str) -> bool:
        """True once the kernel offers `driver`."""
        if self._sysfs.has_driver(driver):
            return True
        modprobe = shutil.which("modprobe", path="/usr/sbin:/sbin:/usr/bin:/bin")
        if modprobe is None:
            return False
        child = await asyncio.create_subprocess_exec(modprobe, driver)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), MODPROBE_SECONDS)
        return self._sysfs.has_driver(driver)
