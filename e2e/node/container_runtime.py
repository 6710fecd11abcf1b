"""containerd in the emulated node: its configuration, its images, its network."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from e2e.node.images import GUEST_ROOT, Image, docker_archive
from e2e.node.node import SESSION_DIRECTORY, GuestNode

PAUSE_IMAGE = "localhost/pause:1"
SOCKET = "/run/containerd/containerd.sock"
POD_SUBNET = "10.244.0.0/24"
IMPORT_SECONDS = 900
"""Half a minute for poolmgr's image, which unpacks to 350 MB, on a machine with nothing else to do."""
NVML_DIRECTORY = "/run/nvml"
"""NVML and what it shows, on the node and in every container, as the container toolkit mounts the driver's
libraries."""

CONFIGURATION = f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # KubeVirt's launcher is not root: the device nodes it is given must be its user's
  device_ownership_from_security_context = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    base_runtime_spec = "/run/node/base-spec.json"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
"""

NETWORK = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "ptp",
            "ipam": {"type": "host-local", "subnet": POD_SUBNET, "routes": [{"dst": "0.0.0.0/0"}]},
        }
    ],
}


def ensure_containerd(node: GuestNode) -> None:
    """Starts containerd and waits until it answers."""
    node.put(CONFIGURATION, "/run/node/containerd.toml")
    node.put(json.dumps(NETWORK), "/etc/cni/net.d/10-pods.conflist")
    node.run(["mkdir", "-p", f"{NVML_DIRECTORY}/lib"], check=True)
    spec = json.loads(node.run(["ctr", "oci", "spec"], check=True).out)
    node.put(json.dumps(_base_spec(spec)), "/run/node/base-spec.json")
    node.start("containerd", "containerd --config /run/node/containerd.toml", supervised=True)
    node.wait_for("ctr version", what="containerd answers")


def _base_spec(spec: dict[str, object]) -> dict[str, object]:
    """containerd's default with what every container of this node gets: the node's root to look at (see
    `images.py`), NVML, and as much locked memory as VFIO wants to map."""
    mounts = spec["mounts"]
    process = spec["process"]
    assert isinstance(mounts, list) and isinstance(process, dict)
    for source, target in (("/run/host", GUEST_ROOT), (NVML_DIRECTORY, NVML_DIRECTORY)):
        mounts.append({"destination": target, "type": "bind", "source": source, "options": ["bind", "ro"]})
    unlimited = 2**64 - 1  # RLIM_INFINITY
    process["rlimits"] = [{"type": "RLIMIT_MEMLOCK", "hard": unlimited, "soft": unlimited}]
    return spec


def load_images(node: GuestNode, images: Sequence[Image]) -> None:
    """Makes the images known to containerd; an image of the same name is replaced."""
    docker_archive(images, node.directory / "images.tar")
    _import(node, "images.tar")


def load_archive(node: GuestNode, archive: Path) -> None:
    """Makes the image of an OCI archive known to containerd, under the name in its index."""
    copy = node.directory / archive.name
    shutil.copyfile(archive, copy)  # the guest sees this machine's files as they were when it booted
    _import(node, archive.name)
    copy.unlink()


def _import(node: GuestNode, file: str) -> None:
    """Unpacks and syncs: containerd syncs its own books but not the files that it unpacks, so that after a power cut it
    would start containers from empty files."""
    node.run(
        f"ctr -n k8s.io images import {SESSION_DIRECTORY}/{file} && sync",
        timeout_seconds=IMPORT_SECONDS,
        check=True,
    )
