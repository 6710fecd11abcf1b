"""A node for tests that both pass, fake and real: the agent's eyes on it, and processes that hold devices."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from poolmgr.agent.files import KERNEL_FILES, NodeFiles
from poolmgr.agent.kernelwrite import ChildWriter
from poolmgr.agent.sysfs import Sysfs
from poolmgr.domain.identifiers import PciAddress
from tests.fake_node import FakeNode

OPEN_AND_WAIT = (
    "import sys, time; f = open(sys.argv[1], 'rb', buffering=0); print('open', flush=True); time.sleep(600)"
)


class NoFence:
    """For rebinds without NVML."""

    async def quiesce(self, address: PciAddress) -> str:
        return ""

    async def resume(self, address: PciAddress) -> None: ...


class Holders(Protocol):
    def hold(self, path: str) -> int:
        """The pid of a process that has `path` open."""

    def let_go(self) -> None:
        """Ends them all."""


class FakeHolders:
    def __init__(self, node: FakeNode) -> None:
        self._node = node
        self._pids: list[int] = []

    def hold(self, path: str) -> int:
        self._pids.append(self._node.start_process(path))
        return self._pids[-1]

    def let_go(self) -> None:
        while self._pids:
            self._node.end_process(self._pids.pop())


class RealHolders:
    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []

    def hold(self, path: str) -> int:
        process = subprocess.Popen([sys.executable, "-c", OPEN_AND_WAIT, path], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        self._processes.append(process)
        return process.pid

    def let_go(self) -> None:
        while self._processes:
            process = self._processes.pop()
            process.kill()
            process.wait()


@dataclass
class NodeUnderTest:
    """What the agent's parts are given of a node."""

    sysfs: Sysfs
    root: Path
    """Above sys and proc."""
    files: NodeFiles
    holders: Holders

    @property
    def proc(self) -> Path:
        return self.root / "proc"


def fake(node: FakeNode) -> NodeUnderTest:
    return NodeUnderTest(Sysfs(node, node.sys, node.files), node.sys.parent, node.files, FakeHolders(node))


def real() -> NodeUnderTest:
    return NodeUnderTest(
        Sysfs(ChildWriter(Path("/run/poolmgr-bench/writes"))), Path("/"), KERNEL_FILES, RealHolders()
    )
