"""The process that is measured: `poolmgr manager` of one checkout, and what the kernel says of it."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx

from e2e.controlplane.plane import ControlPlane
from e2e.processes import Process, free_port

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1024.0
"""KiB, the unit of /proc, in a MiB."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A manager to be measured: its name in the table and the checkout that it is run from."""

    name: str
    root: Path


class Manager:
    """One process of an arm. Its ledger is new and lies in `folder`."""

    def __init__(self, plane: ControlPlane, arm: Arm, folder: Path) -> None:
        self._port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "poolmgr.cli.main", "manager", "--kubeconfig", str(plane.kubeconfig)]
        settings = {
            "POOLMGR_API__HOST": "127.0.0.1",
            "POOLMGR_API__PORT": str(self._port),
            "POOLMGR_DATABASE_URL": f"sqlite:///{folder / 'ledger.sqlite'}",
            "POD_NAME": "bench",
            # Its checkout, and neither this one nor whatever is installed.
            "PYTHONSAFEPATH": "1",
            "PYTHONPATH": str(arm.root),
        }
        environment = {name: value for name, value in os.environ.items() if not name.startswith("POOLMGR_")}
        self.process = Process("manager", command, folder / "manager.log", environment | settings)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Returns at once."""
        self.process.start()

    def stop(self) -> None:
        self.process.stop()

    async def ready(self, http: httpx.AsyncClient) -> tuple[bool, bool]:
        """Whether it answers everything, and whether it leads. Raises ProcessFailed when it has ended."""
        pid = self.process.pid
        try:
            answer = await http.get(f"{self.address}/readyz")
        except httpx.HTTPError:
            return False, False
        return answer.status_code == 200 and pid > 0, bool(answer.json()["leading"])

    async def hears_agents(self, http: httpx.AsyncClient) -> bool:
        """Whether it has heard every node's agent; releases that do not listen for them have no such metric."""
        try:
            text = (await http.get(f"{self.address}/metrics")).text
        except httpx.HTTPError:
            return False
        counts = [line.rpartition(" ") for line in text.splitlines() if line.startswith("poolmgr_agents{")]
        return all(float(number) == 0 for labels, _, number in counts if 'state="heard"' not in labels)

    def cpu_seconds(self) -> float:
        """User and system time of all its threads since its start."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mib(self) -> float:
        """Resident memory now."""
        return _kib(Path(f"/proc/{self.process.pid}/status"), "VmRSS") / MIB

    def highest_mib(self) -> tuple[float, float]:
        """(highest RSS so far, PSS now)."""
        status = _kib(Path(f"/proc/{self.process.pid}/status"), "VmHWM")
        return status / MIB, _kib(Path(f"/proc/{self.process.pid}/smaps_rollup"), "Pss") / MIB


def _kib(file: Path, name: str) -> int:
    line = next(line for line in file.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])
