"""NVML: product names, UUIDs and memory by PCI address, and the vendor driver's own fence.

NVML is C with process-wide state, so everything runs in one thread; a daemon one, because a call that
hangs in the driver must not keep the agent from ending. A session is opened for one question and closed
again: an open one keeps device files open and so would pin the very GPUs we want to move. All of it is
optional: no library, an older one, a GPU it does not know are answers, not errors.
"""

import asyncio
import contextlib
import ctypes
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pynvml

from poolmgr.domain.identifiers import GpuUuid, PciAddress

ANSWER_SECONDS = 30.0
"""nvmlInit on a node without persistence wakes every GPU: about a second each."""
LIBRARY = "libnvidia-ml.so.1"
LIBRARY_FOLDERS = (
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
)
"""Where distributions put a driver's libraries, below the driver's root; NVIDIA's device plugin looks there too."""
Answer = TypeVar("Answer")
_DRAINING = 1
_NOT_DRAINING = 0


@dataclass(frozen=True, slots=True)
class NvmlGpu:
    """What NVML tells of one GPU on its vendor driver."""

    uuid: GpuUuid
    model: str
    memory_mib: int
    mig_enabled: bool | None = False
    """None where NVML does not say; False where the GPU knows no MIG."""
    minor: int | None = None
    """Of /dev/nvidia<minor>; None where NVML does not say."""
    mig_uuids: tuple[str, ...] = ()
    """Of its MIG devices."""
    processes: tuple[int, ...] = ()
    """Numbers of those that compute or draw on it, as the host counts processes."""
    processes_known: bool = True
    """False where a list of them could not be had; of a list that the GPU or the driver does not keep there is nothing to
    know."""


@dataclass(frozen=True, slots=True)
class NvmlReport:
    gpus: dict[PciAddress, NvmlGpu] = field(default_factory=dict)
    error: str = ""
    """Why nothing is known; empty when NVML answered."""


def library_below(driver_root: Path) -> Path | None:
    """The driver's own library below the folder that holds its files; None where there is none (yet)."""
    found = (driver_root / folder / LIBRARY for folder in LIBRARY_FOLDERS)
    return next((path for path in found if path.exists()), None)


def link_persistenced(driver_root: Path, run: Path = Path("/run")) -> None:
    """Have NVML find nvidia-persistenced, of which it asks that persistence mode end: it looks for the daemon's socket at a
    fixed place, which NVIDIA's runtime puts into containers, and a driver's own folder has below it."""
    here, there = run / "nvidia-persistenced", driver_root / "run/nvidia-persistenced"
    if there.is_dir() and not here.exists():
        with contextlib.suppress(
            OSError
        ):  # a root that cannot be written: the daemon then holds on, and the GPU stays
            here.symlink_to(there)


class Nvml:
    """The only user of pynvml. `library` is a parameter for tests.

    With a `driver_root` the library is taken from there. Only that one: a search path would make this program take
    the host's C library from the same folder.
    """

    def __init__(self, library: Any = pynvml, driver_root: Path | None = None) -> None:
        self._library = library
        self._driver_root = driver_root
        self._loaded = False
        self._questions: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stuck = False
        self._was_persistent: set[PciAddress] = set()
        threading.Thread(target=self._serve, name="nvml", daemon=True).start()

    async def read(self) -> NvmlReport:
        """All GPUs that NVML shows now."""
        report: NvmlReport | None = await self._ask(self._read)
        return report or NvmlReport(error=f"NVML has not answered within {ANSWER_SECONDS:.0f} s")

    async def quiesce(self, address: PciAddress) -> str:
        """End the driver's own hold on an idle GPU, persistence mode (its daemon or the legacy mode keeps the device in
        use), and refuse new clients where that can be done. Why the hold was not ended; empty where it was."""
        said: str | None = await self._ask(lambda: self._close(address))
        return f"NVML has not answered within {ANSWER_SECONDS:.0f} s" if said is None else said

    async def resume(self, address: PciAddress) -> None:
        """Take `quiesce` back once the GPU is on its vendor driver again."""
        await self._ask(lambda: self._open(address))

    def _serve(self) -> None:
        while True:
            self._questions.get()()

    async def _ask(self, question: Callable[[], Any]) -> Any:
        """The question's answer, or None when NVML hangs; it is not asked again then."""
        if self._stuck:
            return None
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def hand_over(result: Any) -> None:
            if not answer.done():
                answer.set_result(result)

        def work() -> None:
            result = question()
            with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
                loop.call_soon_threadsafe(hand_over, result)

        self._questions.put(work)
        done, _ = await asyncio.wait({answer}, timeout=ANSWER_SECONDS)
        self._stuck = not done
        return answer.result() if done else None

    @contextlib.contextmanager
    def _session(self) -> Iterator[None]:
        self._load()
        self._library.nvmlInit()
        try:
            yield
        finally:
            self._library.nvmlShutdown()

    def _load(self) -> None:
        """Whoever asks for the library by its name afterwards, as pynvml does, gets the one that is loaded. A driver
        in a container may come later than we do, so this is tried until it is there."""
        if self._loaded or self._driver_root is None:
            return
        if path := library_below(self._driver_root):
            with contextlib.suppress(OSError):  # half installed
                ctypes.CDLL(str(path))
                self._loaded = True
                link_persistenced(self._driver_root)

    def _read(self) -> NvmlReport:
        nvml = self._library
        try:
            with self._session():
                found = {}
                for index in range(nvml.nvmlDeviceGetCount()):
                    with contextlib.suppress(nvml.NVMLError):  # one lost GPU must not hide the others
                        handle = nvml.nvmlDeviceGetHandleByIndex(index)
                        found[_address(nvml, handle)] = self._describe(handle)
                return NvmlReport(found)
        except nvml.NVMLError as error:
            return NvmlReport(error=f"NVML: {error}")

    def _describe(self, handle: Any) -> NvmlGpu:
        nvml = self._library
        memory = self._answer_or(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total, 0)
        processes, known = self._processes(handle)
        return NvmlGpu(
            GpuUuid(_text(nvml.nvmlDeviceGetUUID(handle))),
            _text(nvml.nvmlDeviceGetName(handle)),
            memory >> 20,
            self._in_mig_mode(handle),
            self._answer_or(lambda: int(nvml.nvmlDeviceGetMinorNumber(handle)), None),
            tuple(self._mig_uuids(handle)),
            tuple(sorted(processes)),
            known,
        )

    def _answer_or(self, question: Callable[[], Answer], otherwise: Answer) -> Answer:
        try:
            return question()
        except self._library.NVMLError:
            return otherwise

    def _in_mig_mode(self, handle: Any) -> bool | None:
        nvml = self._library
        try:
            return any(nvml.nvmlDeviceGetMigMode(handle))  # current and pending
        except nvml.NVMLError as error:
            return False if error.value == nvml.NVML_ERROR_NOT_SUPPORTED else None

    def _mig_uuids(self, handle: Any) -> Iterator[str]:
        nvml = self._library
        for index in range(self._answer_or(lambda: int(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)), 0)):
            with contextlib.suppress(nvml.NVMLError):  # a slot without a device
                yield _text(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)))

    def _processes(self, handle: Any) -> tuple[set[int], bool]:
        """Whose numbers are listed, and whether every list could be had."""
        nvml = self._library
        no_list = (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        questions: tuple[Callable[[Any], list[Any]], ...] = (
            nvml.nvmlDeviceGetComputeRunningProcesses,
            nvml.nvmlDeviceGetGraphicsRunningProcesses,
            nvml.nvmlDeviceGetMPSComputeRunningProcesses,
        )
        found, known = set(), True
        for ask in questions:
            try:
                found |= {process.pid for process in ask(handle)}
            except nvml.NVMLError as error:
                known &= error.value in no_list
        return found, known

    def _close(self, address: PciAddress) -> str:
        nvml = self._library
        try:
            with self._session():
                handle = nvml.nvmlDeviceGetHandleByPciBusId(address.encode())
                if nvml.nvmlDeviceGetPersistenceMode(handle) == nvml.NVML_FEATURE_ENABLED:
                    nvml.nvmlDeviceSetPersistenceMode(handle, nvml.NVML_FEATURE_DISABLED)
                    if nvml.nvmlDeviceGetPersistenceMode(handle) == nvml.NVML_FEATURE_ENABLED:
                        return "persistence mode stays on"
                    self._was_persistent.add(address)
                with contextlib.suppress(nvml.NVMLError):
                    nvml.nvmlDeviceModifyDrainState(self._pci_info(address), _DRAINING)
        except nvml.NVMLError as error:
            return f"persistence mode cannot be switched off ({error})"
        return ""

    def _open(self, address: PciAddress) -> None:
        nvml = self._library
        with contextlib.suppress(nvml.NVMLError), self._session():
            # By bus numbers: a draining GPU gives no handle.
            nvml.nvmlDeviceModifyDrainState(self._pci_info(address), _NOT_DRAINING)
        if address not in self._was_persistent:
            return
        # A session of its own: one that began while the GPU drained does not see it.
        with contextlib.suppress(nvml.NVMLError), self._session():
            handle = nvml.nvmlDeviceGetHandleByPciBusId(address.encode())
            nvml.nvmlDeviceSetPersistenceMode(handle, nvml.NVML_FEATURE_ENABLED)
            self._was_persistent.discard(address)

    def _pci_info(self, address: PciAddress) -> Any:
        domain, bus, rest = address.split(":")
        info = self._library.nvmlPciInfo_t()
        info.domain, info.bus, info.device = int(domain, 16), int(bus, 16), int(rest.partition(".")[0], 16)
        return info


def _address(nvml: Any, handle: Any) -> PciAddress:
    """sysfs form of NVML's bus id, which has eight digits of domain where sysfs has four."""
    domain, _, rest = _text(nvml.nvmlDeviceGetPciInfo(handle).busId).lower().partition(":")
    return PciAddress(f"{int(domain, 16):04x}:{rest}")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
