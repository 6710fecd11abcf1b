"""NVML inside the test's own process: pynvml anew for every program that the test plays."""

import importlib
import sys
from ctypes import CDLL
from pathlib import Path
from types import ModuleType

from e2e.nvml.library import ensure_nvml_library
from e2e.nvml.state import system, write


class Driver:
    """A node's NVIDIA driver, and one program on it that uses NVML by `nvml`."""

    def __init__(self, folder: Path) -> None:
        """The test sets FAKE_NVML_STATE to `state`. Raises PartMissing."""
        self.state = folder / "gpus"
        self.library = ensure_nvml_library()
        self._programs = 0
        self.nvml = self.program()

    def program(self) -> ModuleType:
        """pynvml anew, with the library as another process would have it: its own sessions and handles."""
        self._programs += 1
        copy = self.state.with_name(f"libnvidia-ml.{self._programs}.so")
        copy.write_bytes(self.library.read_bytes())
        others = sys.modules.pop("pynvml", None)
        module = importlib.import_module("pynvml")
        if others is not None:
            sys.modules["pynvml"] = others
        module.nvmlLib = CDLL(str(copy))  # type: ignore[attr-defined]
        return module

    def shows(self, *sections: str, fail: tuple[str, ...] = ()) -> None:
        write(self.state, [system(*fail), *sections])

    def open(self, *sections: str) -> ModuleType:
        """The program has initialised NVML while it showed `sections`."""
        self.shows(*sections)
        self.nvml.nvmlInit()
        return self.nvml
