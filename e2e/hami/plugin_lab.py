"""A node for the contract's tests of the device plugin: its program, our kubelet's socket, the fake NVML."""

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from e2e.controlplane.client import Json
from e2e.controlplane.hami import NAMESPACE, REGISTER_ANNOTATION, Hami
from e2e.hami import small_root
from e2e.hami.kubelet import Kubelet
from e2e.hami.lab import Lab
from e2e.nvml.library import environment
from e2e.nvml.state import gpu, system, write
from e2e.processes import Process

HOOK_PATH = "/usr/local"
LOCK = "hami.io/mutex.lock"
SCAN = re.compile(r"Discovered \d+ device\(s\) for registration|start working on the devices")
"""What 2.10 and 2.8 log when they look."""


class PluginLab:
    """Starts and ends the plugin; GPUs come and go by `show`. `lab` is the cluster's side of the test."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.hami, self.folder = lab, lab.hami, folder
        self.kubelet = Kubelet().start()
        self.node = lab.bare_node(None, slices=0)
        self._nvml = folder / "nvml.state"
        # What the plugin gives a container is made below these; the paths are those of the node.
        self.vgpu = folder / "vgpu"
        self.config, self._tmp_hami = folder / "config", folder / "tmp-hami"
        for made in (self.vgpu, self.config, self._tmp_hami):
            made.mkdir()
        self._device_config = folder / "device-config.yaml"
        self.configure()
        self.configure_node()
        self._count = 0
        self.process: Process | None = None

    def close(self) -> None:
        if self.process:
            self.process.kill()
        self.kubelet.close()

    # --- what the plugin finds ------------------------------------------------------------------------------

    def show(self, *names: str, lines: str = "", fail: str = "") -> None:
        """What NVML shows from now on: these GPUs, at addresses in the names' order."""
        sections = [
            gpu(self.address(name), self.uuid(name), lines=lines if name == names[0] else "")
            for name in names
        ]
        write(self._nvml, [system(*([fail] if fail else [])), *sections])

    def uuid(self, name: str) -> str:
        """A UUID of a GPU's usual form, since device ids are taken apart at its dashes."""
        return f"GPU-{self.lab.number:08x}-0000-4000-8000-{ord(name[0]):012x}"

    @staticmethod
    def address(name: str) -> str:
        return f"0000:00:{0x10 + ord(name[0]) - ord('a'):02x}.0"

    def configure(self, **nvidia: object) -> None:
        """The global configuration, with changes to section `nvidia`."""
        config = yaml.safe_load(self.hami.device_config())
        config["nvidia"] |= nvidia
        self._device_config.write_text(yaml.safe_dump(config))

    def configure_node(self, **entry: object) -> None:
        """The node's entry in config.json."""
        nodes = [{"name": self.node, **entry}] if entry else []
        (self.config / "config.json").write_text(json.dumps({"nodeconfig": nodes}))

    # --- the plugin -----------------------------------------------------------------------------------------

    def start(self, *flags: str, **variables: str) -> Process:
        """A new process of the plugin, with the chart's arguments; not waited for."""
        container = next(
            item
            for item in self.hami.objects["DaemonSet", "hami-device-plugin"]["spec"]["template"]["spec"][
                "containers"
            ]
            if item["name"] == "device-plugin"
        )
        arguments = [word for word in container["command"][1:] if not word.startswith("--config-file")]
        places = {
            "/config": self.config,
            "/var/lib/kubelet/device-plugins": self.kubelet.folder,
            "/tmp/hami": self._tmp_hami,
            f"{HOOK_PATH}/vgpu": self.vgpu,
        }
        program = [
            *self.hami.edition.command("nvidia-device-plugin"),
            f"--config-file={self._device_config}",
            *arguments,
            "--device-discovery-strategy=nvml",
            *flags,
        ]
        self._count += 1
        name = f"plugin-{self.lab.number}-{self._count}"
        given = {item["name"]: item["value"] for item in container["env"] if "value" in item}
        self.process = self.lab.plane.add_process(
            name,
            small_root.command(program, places, self.folder / "root"),
            os.environ
            | given
            | environment(self._nvml)
            | {
                "NODE_NAME": self.node,
                "KUBECONFIG": str(self.lab.plane.service_account_kubeconfig(NAMESPACE, "hami-device-plugin")),
            }
            | variables,
        )
        return self.process.start()

    def run(self, *flags: str, **variables: str) -> Process:
        """The same, once the kubelet has its list of devices and the node its annotation."""
        return self.start(*flags, **variables).start(lambda: self.kubelet.devices and self.registration())

    def end(self) -> None:
        """SIGTERM, as a deleted pod gets it."""
        assert self.process
        self.process.stop()

    def ended(self) -> int:
        """Waits for it to end by itself, which takes it up to 30 s; the exit status."""
        process = self.process
        assert process
        self.lab.until("the plugin to end", lambda: not process.running, timeout_seconds=60)
        assert process.returncode is not None
        return process.returncode

    def log(self) -> str:
        assert self.process
        return self.process.log.read_text()

    def scans(self) -> int:
        """How often it has looked at its GPUs, by its own word: a look that finds no change leaves no other trace."""
        return len(SCAN.findall(self.log()))

    def wait_for_scan(self) -> None:
        """The next one, which comes within 30 s."""
        before = self.scans()
        self.lab.until("a scan", lambda: self.scans() > before, timeout_seconds=60)

    def registration(self) -> list[Json]:
        """The node's register annotation; empty while there is none."""
        found: list[Json] = json.loads(self.lab.annotations_of_node(self.node).get(REGISTER_ANNOTATION, "[]"))
        return found

    def registered(self, *, healthy: bool = False) -> set[str]:
        """UUIDs; `healthy`: of those that the annotation calls so."""
        return {entry["id"] for entry in self.registration() if entry.get("health") or not healthy}

    def offers(self, *names: str, split: int = 10) -> bool:
        """Whether the kubelet is offered exactly these GPUs."""
        return self.kubelet.offered() == dict.fromkeys(map(self.uuid, names), split)

    # --- pods -----------------------------------------------------------------------------------------------

    def pending(self, name: str, assignment: str, *containers: Json, lock: bool = True) -> None:
        """A pod bound to the node as filter and bind leave it, with `assignment` to allocate."""
        lab = self.lab
        annotations = {
            "hami.io/vgpu-node": self.node,
            "hami.io/vgpu-devices-to-allocate": assignment,
            "hami.io/vgpu-devices-allocated": assignment,
            "hami.io/bind-phase": "allocating",
            "hami.io/bind-time": "1",
        }
        lab.pod(name, *containers, annotations=annotations)
        lab.assign(name, self.node)
        if lock:
            lab.annotate_node(self.node, **{"mutex.lock": f"2099-01-01T00:00:00Z,{lab.namespace},{name}"})

    def phase(self, name: str) -> str:
        return self.lab.annotations_of(name).get("hami.io/bind-phase", "")

    def locked(self) -> bool:
        return LOCK in self.lab.annotations_of_node(self.node)

    def share(self, name: str, memory: int = 1000, cores: int = 10) -> str:
        return f"{self.uuid(name)},NVIDIA,{memory},{cores}:"

    def ids(self, name: str, *numbers: int) -> list[str]:
        return [f"{self.uuid(name)}-{number}" for number in numbers or (0,)]


@contextlib.contextmanager
def plugin_lab(hami: Hami) -> Iterator[PluginLab]:
    folder = Path(tempfile.mkdtemp(prefix="hami-plugin-"))
    with Lab(hami) as lab:
        node = PluginLab(lab, folder)
        try:
            yield node
        finally:
            node.close()
            shutil.rmtree(folder, ignore_errors=True)


def given(answer: Any) -> tuple[dict[str, str], dict[str, tuple[str, bool]]]:
    """Environment, and mounts as container path → (host path, read-only), of one container's allocation."""
    environment = {pair.key: pair.value for pair in answer.envs}
    return environment, {mount.container_path: (mount.host_path, mount.read_only) for mount in answer.mounts}
