"""The contract's monitor: its NVML session, and what it tells of containers by their shared files."""

import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from e2e.controlplane.hami import NAMESPACE
from e2e.hami import small_root
from e2e.hami.contract import shows
from e2e.hami.lab import Lab
from e2e.hami.statements import V10
from e2e.nvml.library import environment
from e2e.nvml.state import gpu, system, write
from e2e.processes import Process, free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
MIB = 1 << 20
UUID = "GPU-0e000000-0000-4000-8000-00000000000a"
REGION_BYTES = 2_008_952


class Watched:
    """A node with the monitor on it and one GPU."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self._folder = lab, folder
        self._state, self._lock = folder / "nvml.state", folder / "tmp-hami" / "hami-mig-apply.lock"
        self.containers = folder / "vgpu" / "containers"
        for made in (self.containers, self._lock.parent):
            made.mkdir(parents=True)
        self.show()
        self.node = lab.bare_node(None, slices=0)
        # 2.8's has no choice.
        self.port = free_port() if lab.hami.version == V10 else 9394
        flags = [f"--metrics-bind-address=127.0.0.1:{self.port}"] if lab.hami.version == V10 else []
        program = lab.hami.edition.command("vgpu-monitor")
        self.process: Process = lab.plane.add_process(
            f"monitor-{lab.number}",
            small_root.command(
                [*program, *flags, "-v=4"],
                {"/tmp/hami": self._lock.parent},
                folder / "root",
            ),
            os.environ
            | environment(self._state)
            | {
                "NODE_NAME": self.node,
                "HOOK_PATH": str(folder / "vgpu"),
                "KUBECONFIG": str(lab.plane.service_account_kubeconfig(NAMESPACE, "hami-device-plugin")),
            },
        ).start(self.metrics)

    def show(self, fail: str = "") -> None:
        write(self._state, [system(*([fail] if fail else [])), gpu("0000:00:10.0", UUID)])

    def lock(self, on: bool) -> None:
        self._lock.touch() if on else self._lock.unlink()

    def metrics(self) -> str:
        return httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=5, trust_env=False).text

    def value(self, name: str, pod: str) -> float | None:
        """Of a pod's container; None while it is not told."""
        lines = [line for line in self.metrics().splitlines() if line.startswith(f"{name}{{")]
        return next((float(line.rpartition(" ")[2]) for line in lines if f'"{pod}"' in line), None)

    def add_container(self, pod: str, *, limit: int, used: int) -> None:
        """A running pod's container, with the file that its CUDA library shares: one process on one GPU."""
        body = self.lab.body(pod, nodeName=self.node)
        body["metadata"]["labels"] = {"hami.io/vgpu-node": self.node, "hami.io/webhook": "ignore"}
        uid = self.lab.api.create(f"/api/v1/namespaces/{self.lab.namespace}/pods", body)["metadata"]["uid"]
        folder = self.containers / f"{uid}_main"
        folder.mkdir()
        region = bytearray(REGION_BYTES + 1)
        struct.pack_into("<iII", region, 0, 19_920_718, 1, 2)
        struct.pack_into("<Q", region, 56, 1)
        region[64 : 64 + len(UUID)] = UUID.encode()
        struct.pack_into("<Q", region, 1600, limit)
        slot = 1856
        struct.pack_into("<ii", region, slot, 4321, 4321)
        struct.pack_into("<QQQQQ", region, slot + 8, 1, 2, used - 3, 0, used)
        struct.pack_into("<i", region, slot + 1928, 1)
        struct.pack_into("<iii", region, 2_008_896, 1, 1, 2)
        (folder / "0.cache").write_bytes(region)


@pytest.fixture
def watched(lab: Lab) -> Iterator[Watched]:
    folder = Path(tempfile.mkdtemp(prefix="hami-monitor-"))
    it = Watched(lab, folder)
    yield it
    it.process.kill()
    shutil.rmtree(folder, ignore_errors=True)


@shows(140)
def test_it_holds_nvml_but_while_the_lock_is_there(watched: Watched) -> None:
    """A session once opened does not mind a driver that no longer lets anybody in; a new one does."""
    watched.lock(True)
    watched.lab.until("it to let go", lambda: "lock file detected" in watched.process.tail())
    watched.lock(False)
    watched.lab.until("it to have gone on", lambda: watched.process.tail().count("watchAndFeedback") >= 2)
    watched.show(fail="nvmlInit DRIVER_NOT_LOADED")
    assert "hami_host_gpu" not in watched.metrics()
    assert watched.process.running, "it holds its session"
    watched.lock(True)
    watched.lab.until("it to let go again", lambda: watched.process.tail().count("file detected") >= 2)
    watched.lock(False)
    watched.lab.until("it to end, since it opens a new one", lambda: not watched.process.running)


def wait_for_metrics(watched: Watched, limit_name: str, used_name: str) -> None:
    watched.add_container("works", limit=1024 * MIB, used=700 * MIB)
    watched.lab.until("the container", lambda: watched.value(limit_name, "works") == 1024 * MIB)
    assert watched.value(used_name, "works") == 700 * MIB


@shows(141)
def test_2_10_tells_use_by_the_new_names(watched: Watched) -> None:
    wait_for_metrics(watched, "hami_vgpu_memory_limit_bytes", "hami_vgpu_memory_used_bytes")
    assert watched.value("hami_vgpu_memory_context_bytes", "works") == 1
    assert "vGPU_device_memory_limit_in_bytes" not in watched.metrics()


@shows(142)
def test_2_8_tells_use_by_the_old_names(watched: Watched) -> None:
    wait_for_metrics(watched, "vGPU_device_memory_limit_in_bytes", "vGPU_device_memory_usage_in_bytes")
