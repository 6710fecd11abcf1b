"""The real kubelet in the emulated node, joined to the test control plane, and what KubeVirt expects of a node."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from e2e.controlplane.client import ApiError, Json
from e2e.controlplane.kubevirt import NODE_LABELS, NODE_RESOURCES
from e2e.controlplane.plane import ControlPlane
from e2e.node.container_runtime import PAUSE_IMAGE, SOCKET, ensure_containerd, load_archive, load_images
from e2e.node.images import Image, tiny
from e2e.node.machine import GUEST, PYTHON, TUNNEL_PORT
from e2e.node.node import GuestNode, NodeFailed

WORKLOAD_IMAGE = "localhost/workload:1"
"""Sleeps until SIGTERM; has a shell and busybox's usual programs."""
KUBERNETES_SERVICE = ("10.96.0.1", 443)
READY_SECONDS = 900
"""30 s on a machine with nothing else to do; minutes beside other work."""

_PYTHON = (str(PYTHON), "-I", "-S")
_FORWARD = (*_PYTHON, str(GUEST / "forward.py"))

WAIT_FOR_TERM = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"


def base_images() -> list[Image]:
    return [tiny(PAUSE_IMAGE, WAIT_FOR_TERM), tiny(WORKLOAD_IMAGE, WAIT_FOR_TERM)]


class KubeNode:
    """A guest that is a node of `plane`. Everything on it returns after `guest.reboot()` by itself."""

    def __init__(
        self, guest: GuestNode, plane: ControlPlane, labels: Mapping[str, str] | None = None
    ) -> None:
        self.guest = guest
        self.plane = plane
        self.name = guest.spec.name
        self.labels = {**NODE_LABELS, **(labels or {})}
        self._images: list[Image] = base_images()
        to_pods = [plane.tunnel, "127.0.0.1", str(guest.machine.tunnel_port)]
        self._tunnel = plane.add_process("tunnel", [*_FORWARD, *to_pods])

    @property
    def path(self) -> str:
        return f"/api/v1/nodes/{self.name}"

    def join(self) -> "KubeNode":
        """containerd, kubelet, the `kubernetes` Service; returns when the node is Ready, labelled and patched."""
        self._tunnel.start()
        self._start_services(self.guest)
        self.plane.api.patch(self.path, {"metadata": {"labels": self.labels}})
        self.guest.after_boot.append(self._start_services)
        return self

    def load_images(self, images: Sequence[Image]) -> None:
        """Images for pods of this node; they are there after a reboot too, on its disk."""
        load_images(self.guest, images)
        self._images += images

    def load_archive(self, archive: Path) -> None:
        """An OCI image as it is published, for pods of this node; it is there after a reboot too."""
        load_archive(self.guest, archive)

    def object(self) -> Json:
        return self.plane.api.get(self.path)

    def ready(self) -> bool:
        """Whether the kubelet has reported Ready since the guest's last boot."""
        try:
            status = self.object()["status"]
        except ApiError:
            return False
        ready = any(item["type"] == "Ready" and item["status"] == "True" for item in status["conditions"])
        return ready and status["nodeInfo"]["bootID"] == self._boot_id

    def allocatable(self, resource: str) -> int:
        """How many of an extended resource the kubelet offers."""
        return int(self.object()["status"]["allocatable"].get(resource, "0"))

    def pod_log(self, namespace: str, pod: str) -> str:
        """What a pod's containers printed, newest container of each last, those that were replaced included."""
        return self.guest.run(f"cat /var/log/pods/{namespace}_{pod}_*/*/*.log | cut -d' ' -f4-").out

    def wait_for_pod(
        self, namespace: str, pod: str, phase: str = "Running", *, timeout_seconds: float = READY_SECONDS
    ) -> Json:
        """Waits for a pod's phase and returns the pod. Raises TimeoutError with the pod's last state."""

        def in_phase() -> Json | None:
            found = self.plane.api.get(f"/api/v1/namespaces/{namespace}/pods/{pod}")
            return found if found["status"].get("phase") == phase else None

        found: Json = self.plane.wait_for(
            f"pod {namespace}/{pod} {phase}", in_phase, timeout_seconds=timeout_seconds
        )
        return found

    # --- inside ---------------------------------------------------------------------------------------------

    def _start_services(self, guest: GuestNode) -> None:
        self._boot_id = guest.boot_id()
        ensure_containerd(guest)
        load_images(guest, self._images)
        address, port = KUBERNETES_SERVICE
        guest.start("forward", [*_FORWARD, f"{address}:{port}", "10.0.2.2", str(self.plane.port)])
        guest.start("tunnel", [*_PYTHON, str(GUEST / "tunnel.py"), str(TUNNEL_PORT)])
        self._start_kubelet(guest)
        deadline = time.monotonic() + READY_SECONDS
        while not self.ready():
            if time.monotonic() > deadline:
                raise NodeFailed(
                    f"not Ready within {READY_SECONDS} s; kubelet: {guest.logs('kubelet')[-3000:]}"
                )
            time.sleep(0.5)
        # The kubelet sets resources that it does not know to zero when it registers, so after every boot
        self.plane.api.patch(
            f"{self.path}/status",
            {"status": {"capacity": NODE_RESOURCES, "allocatable": NODE_RESOURCES}},
        )
        # A node in service has its own files on disk. Without this a power cut soon after the first boot leaves
        # the kubelet an empty certificate, with which it does not start again.
        guest.run("sync", timeout_seconds=120, check=True)

    def _start_kubelet(self, guest: GuestNode) -> None:
        kubeconfig = self.plane.user_kubeconfig(f"system:node:{self.name}", ["system:nodes"], for_guest=True)
        guest.put(kubeconfig, "/run/node/kubelet.kubeconfig", mode="600")
        guest.put(self.plane.authority.path, "/run/node/ca.crt")
        guest.put("", "/run/node/resolv.conf")
        guest.put(yaml.safe_dump(kubelet_configuration()), "/run/node/kubelet.yaml")
        guest.start(
            "kubelet",
            [
                str(Path(self.plane.programs["kubelet"].path).resolve()),
                "--config=/run/node/kubelet.yaml",
                "--kubeconfig=/run/node/kubelet.kubeconfig",
                f"--hostname-override={self.name}",
                "--node-ip=10.0.2.15",
                # statistics of all control groups every 10 s would be a fifth of an emulated processor
                "--housekeeping-interval=30s",
                "--v=2",
            ],
            supervised=True,
        )


def kubelet_configuration() -> Json:
    """Settings that differ from the kubelet's own, for a small slow node without swap, disk pressure or DNS."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": True},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": "/run/node/ca.crt"},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "runtimeRequestTimeout": "10m",
        "resolvConf": "/run/node/resolv.conf",
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "nodeStatusUpdateFrequency": "5s",
        # Configuration maps and secrets as soon as they change, at the cost of a watch each
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "maxPods": 50,
    }
