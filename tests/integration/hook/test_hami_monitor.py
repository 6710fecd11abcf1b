"""HAMi's monitor on regions that libhook writes: its metrics are right, and what it writes back is honoured.

The programs are Python under the built libhook on the fake driver; the monitor is HAMi 2.10's, or where that cannot be
had the stand-in's, with an NVML that shows the same GPU by UUID, and the real API server for its pods.
"""

import re
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e.hami import edition
from e2e.nvml.library import environment as nvml_environment
from e2e.nvml.state import T4, gpu, system, write
from e2e.parts import PartMissing
from e2e.processes import Process, free_port, wait_until

if TYPE_CHECKING:
    from e2e.controlplane.plane import ControlPlane

pytestmark = [pytest.mark.integration, pytest.mark.hami("2.10.0")]

BUILD = Path(__file__).parents[3] / "libhook/build"
PROGRAM = Path(__file__).with_name("gpu_program.py")
NODE, NAMESPACE = "hook-monitor", "hook-monitor"
UUID = "GPU-fa4ecafe-0000-0000-0000-000000000000"
"""The fake driver's first GPU."""
MIB = 1 << 20


class Container:
    """A pod's container as HAMi's plugin would have started it; its program runs beside the test."""

    def __init__(self, monitored: "Monitored", name: str, **settings: str) -> None:
        self.name = name
        self.uid = monitored.ensure_pod(name)
        folder = monitored.hook_path / "containers" / f"{self.uid}_main"
        folder.mkdir(parents=True)
        self.region = folder / "vgpu.cache"
        self.work = monitored.folder / f"{name}.work"
        self.progress = monitored.folder / f"{name}.progress"
        self.work.touch()
        self.process = Process(
            name,
            [sys.executable, PROGRAM, "700", "1000000", self.work, self.progress],
            monitored.folder / f"{name}.log",
            {
                "LD_PRELOAD": str(BUILD / "libvgpu.so"),
                "LD_LIBRARY_PATH": str(BUILD / "tests"),
                "FAKE_CUDA_SHM": str(monitored.folder / "machine"),
                "CUDA_DEVICE_MEMORY_SHARED_CACHE": str(self.region),
                "CUDA_DEVICE_MEMORY_LIMIT": "1024m",
                **settings,
            },
        ).start(lambda: self.progress.exists() and self.progress.stat().st_size > 0)

    def kernels_per_second(self, seconds: float) -> float:
        """Of a millisecond each, so 1000 would be the whole GPU."""
        before, start = self.progress.stat().st_size, time.monotonic()
        time.sleep(seconds)
        return (self.progress.stat().st_size - before) / (time.monotonic() - start)


class Monitored:
    """A node with HAMi's monitor on it."""

    def __init__(self, plane: "ControlPlane", folder: Path) -> None:
        self.plane, self.folder, self.hook_path = plane, folder, folder / "vgpu"
        (self.hook_path / "containers").mkdir(parents=True)
        write(folder / "gpus", [system(), gpu("0000:10:00.0", UUID, T4)])
        self.port = free_port()
        plane.ensure_namespace(NAMESPACE)
        self.containers: list[Container] = []
        self.monitor = Process(
            "vgpu-monitor",
            [
                *edition.take("2.10.0").command("vgpu-monitor"),
                f"--metrics-bind-address=127.0.0.1:{self.port}",
                "-v=4",
            ],
            folder / "vgpu-monitor.log",
            {
                "KUBECONFIG": str(plane.kubeconfig),
                "NODE_NAME": NODE,
                "HOOK_PATH": str(self.hook_path),
                **nvml_environment(folder / "gpus"),
            },
        )
        self.monitor.start(self.metrics)

    def ensure_pod(self, name: str) -> str:
        """The uid of a running pod of that name on the node."""
        pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
        spec = {"nodeName": NODE, "containers": [{"name": "main", "image": "none"}]}
        pod = {"metadata": {"name": name, "labels": {"hami.io/vgpu-node": NODE}}, "spec": spec}
        uid: str = self.plane.api.create(pods, pod)["metadata"]["uid"]
        running = {"name": "main", "image": "none", "imageID": "", "ready": True, "restartCount": 0}
        running |= {"containerID": f"containerd://{name}", "state": {"running": {}}}
        status = {"phase": "Running", "containerStatuses": [running]}
        self.plane.api.patch(f"{pods}/{name}/status", {"status": status})
        return uid

    def start(self, name: str, **settings: str) -> Container:
        self.containers.append(Container(self, name, **settings))
        return self.containers[-1]

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
        return text

    def metric(self, name: str, pod: str) -> float | None:
        """The value of a metric for a pod's container; None while it is not there."""
        for line in self.metrics().splitlines():
            found = re.fullmatch(rf"{name}\{{(.*)\}} (\S+)", line)
            if found and f'"{pod}"' in found[1]:
                return float(found[2])
        return None

    def stop(self) -> None:
        for container in self.containers:
            container.process.kill()
            self.plane.api.delete(
                f"/api/v1/namespaces/{NAMESPACE}/pods/{container.name}?gracePeriodSeconds=0"
            )
        self.monitor.stop()


@pytest.fixture
def monitored(control_plane: "ControlPlane", tmp_path: Path) -> Iterator[Monitored]:
    if not (BUILD / "tests/libcuda.so.1").is_file():
        pytest.skip("libhook is not built here: run `make hook`")
    try:
        node = Monitored(control_plane, tmp_path)
    except PartMissing as missing:
        pytest.skip(f"no HAMi monitor: {missing}")
    yield node
    node.stop()


def test_the_monitors_metrics_tell_memory_limit_and_gpu_time(monitored: Monitored) -> None:
    monitored.start("alone", CUDA_DEVICE_SM_LIMIT="30", GPU_CORE_UTILIZATION_POLICY="force")
    wait_until(
        "the monitor to have found the region",
        lambda: monitored.metric("hami_vgpu_memory_limit_bytes", "alone") == 1024 * MIB,
    )
    assert monitored.metric("hami_vgpu_memory_used_bytes", "alone") == 700 * MIB
    assert monitored.metric("hami_container_device_memory_bytes", "alone") == 700 * MIB
    wait_until(
        "a second of GPU time at 30 percent",
        lambda: (
            (monitored.metric("hami_container_device_utilization_ratio", "alone") or 0)
            == pytest.approx(30, abs=5)
        ),
    )
    assert (monitored.metric("hami_container_last_kernel_elapsed_seconds", "alone") or 0) <= 3


def test_alone_on_the_gpu_the_monitors_switch_gives_all_of_it(monitored: Monitored) -> None:
    """It writes utilization_switch = 0 while nobody else works there. `force` would overrule it."""
    alone = monitored.start("switched", CUDA_DEVICE_SM_LIMIT="30")
    assert 0 < alone.kernels_per_second(2) < 360, "the limit holds before it has looked"
    wait_until(
        "the switch to be off",
        lambda: decode_switch(alone.region) == 0,
        interval_seconds=0.5,
    )
    # In real time beside other work: some second must show more than the limit ever lets through.
    wait_until("twice the limit to be used", lambda: alone.kernels_per_second(1) > 600)


def test_a_task_of_high_priority_stops_one_of_low_priority_until_it_rests(monitored: Monitored) -> None:
    low = monitored.start("low", CUDA_TASK_PRIORITY="1")
    high = monitored.start("high", CUDA_TASK_PRIORITY="0")
    wait_until("the low one to stand still", lambda: low.kernels_per_second(1) == 0)
    assert high.kernels_per_second(2) > 300
    assert low.kernels_per_second(2) == 0
    high.work.unlink()
    wait_until("the low one to go on", lambda: low.kernels_per_second(1) > 300)


def decode_switch(region: Path) -> int:
    """`utilization_switch` of the region."""
    return int.from_bytes(region.read_bytes()[2_008_900:2_008_904], "little", signed=True)
