"""Another device plugin on a node: neither HAMi's nor ours. It gives out replicas of one GPU, with the ids that NVIDIA's
own plugin makes for time-slicing.

`python -m e2e.node.time_slicing_plugin FOLDER RESOURCE UUID`, FOLDER being the kubelet's for device plugins. Ends on SIGTERM.
"""

import signal
import sys
from pathlib import Path
from typing import Any

from e2e.hami.standin import wire
from e2e.hami.standin.allocation import Grant
from e2e.hami.standin.plugin_server import PluginServer

REPLICAS = 4
SOCKET = "time-slicing.sock"


class Environment:
    """Says by the environment which GPU a container has, as NVIDIA's plugin does by default."""

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid

    def allocate(self, requests: list[list[str]], *, by_ids: bool) -> list[Grant]:
        return [Grant({"NVIDIA_VISIBLE_DEVICES": self._uuid}) for _ in requests]


class TimeSlicingPlugin(PluginServer):
    def __init__(self, uuid: str) -> None:
        super().__init__([uuid], REPLICAS, Environment(uuid), by_ids=False, prefers=False)  # type: ignore[arg-type]

    def _devices(self) -> list[Any]:
        device = wire.message("Device")
        return [
            device(ID=f"{uuid}::{number}", health=wire.HEALTHY)
            for uuid in self.uuids
            for number in range(REPLICAS)
        ]


def main() -> None:
    folder, resource, uuid = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before there are threads, which inherit it
    plugin = TimeSlicingPlugin(uuid)
    plugin.start(folder / SOCKET)
    plugin.register(folder / "kubelet.sock", folder / SOCKET, resource)
    print("registered", flush=True)
    signal.sigwait(ends)
    plugin.stop()


if __name__ == "__main__":
    main()
