"""Bring one GPU onto the drivers of a mode, and read back that it is there.

The order, with its reasons, is in docs/explanation/rebinding.md. In short: look for holders once more,
reserve every function for its new driver (companions first), unbind, probe, verify. Every write has a
deadline; whatever happens the result says where the GPU is now. Idempotent: functions that are already
right are not touched, so an interrupted move is finished by running it again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn, Protocol

from poolmgr.agent import preflight
from poolmgr.agent.accelerators import VFIO_DRIVERS, VFIO_PCI, Catalogue
from poolmgr.agent.inventory import Accelerator, PciFunction, inspect, read_mode
from poolmgr.agent.sysfs import Sysfs
from poolmgr.domain.fleet import Holder
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason

UNBIND_DEADLINE_SECONDS = 60.0
"""An idle NVIDIA GPU leaves its driver in a few seconds; an H100 with NVLink has been seen to take 30."""
PROBE_DEADLINE_SECONDS = 120.0
"""NVIDIA's probe of an H100 with NVLink has been reported to hang for 30 s and more before it succeeds."""


class Drivers(Protocol):
    async def ensure_loaded(self, driver: str) -> bool:
        """Make the module of `driver` available; False when the kernel does not offer it afterwards."""
        ...

    def missing_message(self, driver: str) -> str:
        """What to do then."""
        ...


class Quiesce(Protocol):
    async def quiesce(self, address: PciAddress) -> str:
        """End the vendor driver's own hold (persistence) and close it to new clients, where it can. Why the hold was not
        ended; empty where it was."""
        ...

    async def resume(self, address: PciAddress) -> None:
        """Take `quiesce` back."""
        ...


@dataclass(frozen=True, slots=True)
class RebindResult:
    """`mode` is where the GPU was found afterwards, whatever was wanted."""

    ok: bool
    reason: Reason
    message: str
    mode: Mode | None
    hung: bool = False
    """A write did not return: the device must not be touched again before a reboot."""


class Rebinder:
    """Carries out one rebind at a time. `look_for_holders` is asked right before anything is unbound."""

    def __init__(
        self,
        sysfs: Sysfs,
        catalogue: Catalogue,
        drivers: Drivers,
        quiesce: Quiesce,
        look_for_holders: Callable[[Accelerator], tuple[Holder, ...]],
        *,
        proc: Path = Path("/proc"),
        unbind_deadline_seconds: float = UNBIND_DEADLINE_SECONDS,
    ) -> None:
        self._sysfs = sysfs
        self._catalogue = catalogue
        self._drivers = drivers
        self._quiesce = quiesce
        self._look_for_holders = look_for_holders
        self._proc = proc
        self._unbind_deadline = unbind_deadline_seconds

    async def rebind(self, address: PciAddress, to_mode: Mode) -> RebindResult:
        """Move the GPU to `to_mode`. Where that fails after something was touched, its old side is restored
        and the result says how that ended."""
        self._sysfs.prepare_writes()
        gpu = self._look(address)
        if gpu is None:
            return _gone(address)
        try:
            await self._prepare(gpu, to_mode)
        except _Halt as halt:
            return halt.result
        try:
            return await self._move(gpu, to_mode)
        except _Halt as halt:
            if halt.result.hung or gpu.mode in (None, to_mode):
                return halt.result
            return await self._go_back(address, gpu.mode, halt.result)
        finally:
            if self._mode_of(address) is Mode.SHARED:
                await self._quiesce.resume(address)

    async def _prepare(self, gpu: Accelerator, to_mode: Mode) -> None:
        """All that can say no before anything is changed."""
        answers = preflight.check_answers(gpu)
        if not answers:
            raise _Halt(RebindResult(False, answers.reason, answers.message, gpu.mode))
        driver = self._target_drivers(gpu, to_mode)[gpu.address]
        if not await self._drivers.ensure_loaded(driver):
            raise _Halt(
                RebindResult(False, Reason.DRIVER_MISSING, self._drivers.missing_message(driver), gpu.mode)
            )
        self._check_holders(gpu, asked=False)

    async def _move(self, gpu: Accelerator, to_mode: Mode) -> RebindResult:
        target = self._target_drivers(gpu, to_mode)
        leaving = [f for f in gpu.functions if f.driver and not _fits(f, target[f.address], to_mode)]
        if gpu.function in leaving and gpu.mode is Mode.SHARED:
            held = await self._quiesce.quiesce(gpu.address)
            if held and gpu.vendor.nvml:
                remedy = f"run nvidia-smi -i {gpu.address} -pm 0 on the node"
                self._halt(gpu.address, Reason.KERNEL_HOLDS, f"{gpu.address} is kept open: {held}; {remedy}")
        for function in gpu.functions:
            await self._reserve(gpu.address, function.address, target[function.address])
        for function in leaving:
            self._check_holders(gpu)
            await self._unbind(gpu.address, function)
        # On the way back the GPU comes first: the sound driver of a card looks for its display driver.
        for function in gpu.functions if to_mode is Mode.PASSTHROUGH else reversed(gpu.functions):
            if self._sysfs.read_driver(function.address) is None:
                await self._bind(gpu.address, function.address)
        result = self._verify(gpu.address, to_mode, target)
        if to_mode is Mode.SHARED:
            # A reservation left behind would be in the way of a driver update.
            for function in gpu.functions:
                await self._reserve(gpu.address, function.address, "")
        return result

    async def _go_back(self, address: PciAddress, origin: Mode, failure: RebindResult) -> RebindResult:
        gpu = self._look(address)
        if gpu is None:
            return _gone(address)
        if gpu.off_bus:  # nothing is written to a card that does not answer
            return replace(failure, mode=gpu.mode)
        try:
            back = await self._move(gpu, origin)
            outcome = f"it is back on {origin}"
        except _Halt as halt:
            back = halt.result
            outcome = f"going back failed, too: {back.message}"
        return replace(failure, message=f"{failure.message}; {outcome}", mode=back.mode, hung=back.hung)

    async def _reserve(self, address: PciAddress, function: PciAddress, driver: str) -> None:
        outcome = await self._sysfs.write_override(function, driver)
        if not outcome.ok:
            self._halt(
                address, Reason.BIND_FAILED, f"reserving {function} {outcome.describe()}", outcome.timed_out
            )

    async def _unbind(self, address: PciAddress, function: PciFunction) -> None:
        outcome = await self._sysfs.unbind(function.address, self._unbind_deadline)
        if outcome.timed_out:
            message = (
                f"taking {function.address} from {function.driver} did not return within "
                f"{self._unbind_deadline:.0f} s, and the agent stopped waiting: find out who holds it, drain the node "
                "and reboot it"
            )
            self._halt(address, Reason.UNBIND_TIMED_OUT, message, hung=True)
        if not outcome.ok:
            self._halt(address, Reason.BIND_FAILED, f"unbinding {function.address} {outcome.describe()}")

    async def _bind(self, address: PciAddress, function: PciAddress) -> None:
        outcome = await self._sysfs.probe(function, PROBE_DEADLINE_SECONDS)
        # Another failure is told apart by reading back: probe answers for the bus, not for the device.
        if outcome.timed_out:
            self._halt(
                address,
                Reason.BIND_FAILED,
                f"looking for a driver of {function} {outcome.describe()}",
                hung=True,
            )

    def _verify(self, address: PciAddress, to_mode: Mode, target: Mapping[PciAddress, str]) -> RebindResult:
        """The probe's own return value means nothing: only what can be read back counts."""
        gpu = self._look(address)
        if gpu is None:
            raise _Halt(_gone(address))
        for function in gpu.functions:
            must = function.address == address or to_mode is Mode.PASSTHROUGH
            if must and not _fits(function, target.get(function.address, ""), to_mode):
                self._halt(
                    address,
                    Reason.BIND_FAILED,
                    f"{function.address} should be on {target.get(function.address)} but is on "
                    f"{function.driver or 'no driver'}: see the kernel's log",
                )
        if to_mode is Mode.PASSTHROUGH and not gpu.vfio_group_present:
            message = f"the kernel offers no /dev/vfio/{gpu.iommu_group} for {address}"
            self._halt(address, Reason.VERIFY_FAILED, message)
        answers = preflight.check_answers(gpu)
        if not answers:
            self._halt(address, answers.reason, answers.message)
        if self._sysfs.read_vendor_from_config(address) != gpu.function.vendor_id:
            message = f"{address} does not answer on the bus: reset or reseat the card"
            self._halt(address, Reason.VERIFY_FAILED, message)
        return RebindResult(True, Reason.STEP_DONE, f"{address} is on {gpu.driver} and answers", gpu.mode)

    def _check_holders(self, gpu: Accelerator, *, asked: bool = True) -> None:
        if gpu.driver is None:
            return
        verdict = preflight.check_holders(gpu, self._look_for_holders(gpu), asked=asked)
        if not verdict:
            self._halt(gpu.address, verdict.reason, verdict.message)

    def _halt(self, address: PciAddress, reason: Reason, message: str, hung: bool = False) -> NoReturn:
        # A hung write holds the device's lock; the driver link may still be read.
        raise _Halt(RebindResult(False, reason, message, self._mode_of(address), hung))

    def _mode_of(self, address: PciAddress) -> Mode | None:
        return read_mode(self._sysfs, self._catalogue, address)

    def _look(self, address: PciAddress) -> Accelerator | None:
        return inspect(self._sysfs, self._catalogue, address, self._proc)

    @staticmethod
    def _target_drivers(gpu: Accelerator, to_mode: Mode) -> dict[PciAddress, str]:
        """Driver of each function in `to_mode`; "" lets the kernel choose."""
        if to_mode is Mode.SHARED:
            return {f.address: "" for f in gpu.companions} | {gpu.address: gpu.vendor.host_drivers[0]}
        own = gpu.vendor.product(gpu.function.device_id).vfio_driver
        return {f.address: VFIO_PCI for f in gpu.companions} | {gpu.address: own}


class _Halt(Exception):
    """The move stops here, with this result."""

    def __init__(self, result: RebindResult) -> None:
        self.result = result


def _gone(address: PciAddress) -> RebindResult:
    return RebindResult(
        False,
        Reason.DEVICE_GONE,
        f"GPU {address} is no longer on the PCI bus; check the kernel's log (dmesg)",
        None,
    )


def _fits(function: PciFunction, driver: str, to_mode: Mode) -> bool:
    """The function is where it belongs in `to_mode`. Any vfio driver is as good as another for it."""
    if to_mode is Mode.PASSTHROUGH:
        return function.on_vfio
    return function.driver == driver if driver else function.driver not in VFIO_DRIVERS
