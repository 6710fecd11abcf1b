"""`vGPUmonitor`: HAMi's monitor. It holds an NVML session for its lifetime, tells each container's use of GPUs and
writes back who has to wait.

While `/tmp/hami/hami-mig-apply.lock` is there it gives its session back; each question for metrics still opens one.
"""

import logging
import os
import shutil
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import pynvml

from e2e.hami.standin import feedback, nvml
from e2e.hami.standin.api import Api
from e2e.hami.standin.devices import ASSIGNED_NODE
from e2e.hami.standin.flags import GoFlags, duration
from e2e.hami.standin.http_server import Answer, serve
from e2e.hami.standin.informer import Informer
from e2e.hami.standin.metrics import line
from e2e.hami.standin.regions import Region
from e2e.hami.standin.release import Release, release_of_environment

MIG_LOCK = Path("/tmp/hami/hami-mig-apply.lock")
FEEDBACK_SECONDS = 5
LOOK_SECONDS = 0.2
NAMES = {
    "memory_used": ("hami_vgpu_memory_used_bytes", "vGPU_device_memory_usage_in_bytes"),
    "memory_limit": ("hami_vgpu_memory_limit_bytes", "vGPU_device_memory_limit_in_bytes"),
    "busy": ("hami_container_device_utilization_ratio", "Device_utilization_desc_of_container"),
    "last_kernel": ("hami_container_last_kernel_elapsed_seconds", "Device_last_kernel_of_container"),
    "host_memory": ("hami_host_gpu_memory_used_bytes", "HostGPUMemoryUsage"),
    "host_busy": ("hami_host_gpu_utilization_ratio", "HostCoreUtilization"),
}
"""Metric → its name in 2.9 and newer, and before."""
log = logging.getLogger(__name__)


def parse(arguments: Sequence[str], release: Release) -> Namespace:
    flags = GoFlags("vGPUmonitor")
    flags.set_defaults(metrics_bind_address=":9394", legacy_metrics=False)
    if release.monitor_binds_anywhere:
        flags.add_argument("--metrics-bind-address")
        flags.switch("--legacy-metrics", default=False)
    return flags.parse_args(arguments)


class Monitor:
    def __init__(self, flags: Namespace, release: Release) -> None:
        self._flags, self._release = flags, release
        self._folder = Path(os.environ["HOOK_PATH"], "containers")
        self._node = os.environ["NODE_NAME"]
        self._keep = duration(os.environ.get("HAMI_RESYNC_INTERVAL", "5m")).total_seconds()
        self._lock = threading.Lock()
        self._regions: dict[str, Region] = {}
        """Folder name, `<pod UID>_<container>` → its region."""
        self._pods = Informer(Api.from_environment(), "/api/v1/pods")

    def run(self) -> None:
        MIG_LOCK.parent.mkdir(parents=True, exist_ok=True)
        self._pods.start()
        page = serve(self._flags.metrics_bind_address, {("GET", "/metrics"): self._metrics})
        threading.Thread(target=page.serve_forever, daemon=True).start()
        while True:
            log.info("Starting watchAndFeedback")
            with nvml.session():
                self._until_locked()
            log.info("MIG apply lock file detected, waiting for lock file to be removed")
            while MIG_LOCK.exists():
                time.sleep(LOOK_SECONDS)

    def _until_locked(self) -> None:
        next_at = time.monotonic() + FEEDBACK_SECONDS
        while not MIG_LOCK.exists():
            time.sleep(LOOK_SECONDS)
            if time.monotonic() >= next_at:
                next_at += FEEDBACK_SECONDS
                try:
                    with self._lock:
                        self._find_regions()
                        feedback.observe(self._regions.values())
                except OSError as error:
                    log.error("Failed to update container list: %s", error)

    def _find_regions(self) -> None:
        here = {
            pod["metadata"]["uid"] for pod in self._pods.all() if pod["spec"].get("nodeName") == self._node
        }
        for folder in self._folder.iterdir():
            uid, _, container = folder.name.partition("_")
            if not (folder.is_dir() and uid and container):
                continue
            if uid not in here:
                if time.time() - folder.stat().st_mtime > self._keep:
                    if region := self._regions.pop(folder.name, None):
                        region.close()
                    shutil.rmtree(folder, ignore_errors=True)
            elif folder.name not in self._regions:
                self._open(folder)

    def _open(self, folder: Path) -> None:
        files = [file for file in folder.iterdir() if file.suffix == ".cache"]
        if not files:
            return
        try:
            self._regions[folder.name] = Region(files[0])
        except (OSError, ValueError) as error:
            log.error("Failed to load cache: %s", error)

    def _metrics(self, _body: bytes) -> Answer:
        lines = self._of_gpus()
        now = int(time.time())
        with self._lock:
            for pod in self._pods.all():
                meta = pod["metadata"]
                if (meta.get("labels") or {}).get(ASSIGNED_NODE) != self._node:
                    continue
                for container in pod["spec"]["containers"]:
                    if region := self._regions.get(f"{meta['uid']}_{container['name']}"):
                        lines += self._of_region(
                            meta["namespace"], meta["name"], container["name"], region, now
                        )
        return 200, "text/plain; version=0.0.4", "".join(lines).encode()

    def _of_gpus(self) -> list[str]:
        lines = []
        try:
            with nvml.session():
                for uuid, index in nvml.enumerate_gpus():
                    handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
                    model = f"NVIDIA-{pynvml.nvmlDeviceGetName(handle)}"
                    labels = (self._node, str(index), uuid, model)
                    used = pynvml.nvmlDeviceGetMemoryInfo(handle).used
                    lines += self._line("host_memory", _HOST, labels, used)
                    lines += self._line(
                        "host_busy", _HOST, labels, pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
                    )
        except nvml.NvmlFailed as error:
            log.error("Failed to collect GPU information: %s", error)
        return lines

    def _of_region(self, namespace: str, pod: str, container: str, region: Region, now: int) -> list[str]:
        lines = []
        for number, use in enumerate(region.uses()):
            if not use.uuid:
                continue
            labels = (namespace, pod, container, str(number), use.uuid)
            lines += self._line("memory_used", _CONTAINER, labels, use.total)
            lines += self._line("memory_limit", _CONTAINER, labels, use.limit)
            lines += self._line("busy", _CONTAINER, labels, use.busy_percent)
            if self._release.new_metric_names:
                for name, value in (
                    ("hami_container_device_memory_bytes", use.total),
                    ("hami_vgpu_memory_context_bytes", use.context),
                    ("hami_vgpu_memory_module_bytes", use.module),
                    ("hami_vgpu_memory_buffer_bytes", use.data),
                ):
                    lines.append(line(name, dict(zip(_CONTAINER[0], labels, strict=True)), value))
            if region.last_kernel_at:
                lines += self._line("last_kernel", _CONTAINER, labels, max(now - region.last_kernel_at, 0))
        return lines

    def _line(
        self,
        metric: str,
        labels: tuple[tuple[str, ...], tuple[str, ...]],
        values: Sequence[str],
        value: float,
    ) -> list[str]:
        new, old = (
            line(name, dict(zip(names, values, strict=True)), value)
            for name, names in zip(NAMES[metric], labels, strict=True)
        )
        if not self._release.new_metric_names:
            return [old]
        return [new, old] if self._flags.legacy_metrics else [new]


_HOST = (
    ("node", "device_index", "device_uuid", "device_type"),
    ("nodeid", "deviceidx", "deviceuuid", "devicetype"),
)
_CONTAINER = (
    ("namespace", "pod", "container", "vdevice_index", "device_uuid"),
    ("podnamespace", "podname", "ctrname", "vdeviceid", "deviceuuid"),
)


def main() -> None:
    release = release_of_environment()
    flags = parse(sys.argv[1:], release)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s: %(message)s", stream=sys.stderr
    )
    for variable in ("HOOK_PATH", "NODE_NAME"):
        if variable not in os.environ:
            raise SystemExit(f"env {variable} not set")
    log.info("stand-in for HAMi %s; not HAMi", release.version)
    Monitor(flags, release).run()


if __name__ == "__main__":
    main()
