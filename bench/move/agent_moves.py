"""Inside the node: move a GPU there and back by the agent's own code, and print how long each step took.

`python -m bench.move.agent_moves ADDRESS ROUNDS`. One process makes all moves, as the agent does. Left out is what
depends on others: the API server, the kubelet, and the drain.
"""

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poolmgr.agent.accelerators import load_catalogue
from poolmgr.agent.inventory import Accelerator
from poolmgr.agent.kernelmodules import KernelModules
from poolmgr.agent.kernelwrite import ChildWriter, WriteOutcome
from poolmgr.agent.manual import NoPlugins
from poolmgr.agent.nvml import Nvml
from poolmgr.agent.observe import NodeObserver
from poolmgr.agent.podresources import PodResources
from poolmgr.agent.rebind import Rebinder
from poolmgr.agent.sysfs import Sysfs
from poolmgr.domain.fleet import Holder
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.modes import Mode


class Steps:
    """Seconds by step, of one move."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - begun


class TimedWriter(ChildWriter):
    """The agent's writer; the file's name is the step."""

    steps: Steps

    async def write(self, about: PciAddress, path: Path, text: str, deadline_seconds: float) -> WriteOutcome:
        with self.steps.timed(path.name):
            return await super().write(about, path, text, deadline_seconds)


async def moves(address: PciAddress, rounds: int) -> None:
    writer = TimedWriter(Path("/run/poolmgr-bench-move"))
    sysfs, catalogue = Sysfs(writer), load_catalogue(("nvidia", "emulated"))
    observer = NodeObserver(sysfs, catalogue, PodResources(Path("/nonexistent")), NoPlugins())
    steps = Steps()

    def holders(gpu: Accelerator) -> tuple[Holder, ...]:
        with steps.timed("holders"):
            return observer.holders_of(gpu)

    rebinder = Rebinder(sysfs, catalogue, KernelModules(sysfs), Nvml(), holders)
    for _ in range(rounds):
        for mode in (Mode.PASSTHROUGH, Mode.SHARED):
            steps = writer.steps = Steps()
            with steps.timed("move"):
                result = await rebinder.rebind(address, mode)
            if not result.ok:
                sys.exit(result.message)
            sys.stdout.write(json.dumps({"to": mode, **steps.seconds}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(moves(PciAddress(sys.argv[1]), int(sys.argv[2])))
