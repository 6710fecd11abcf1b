"""HAMi's device plugin on the emulated node: its chart's own DaemonSet, its program, on libhook's NVML.

Which HAMi that is, the real one or the stand-in, `e2e.hami.edition` has decided. Nothing of the rendered DaemonSet
is changed. The image that it names is made here: HAMi's programs by a view of the node's root, in front of the plugin
a look whether NVML shows what sysfs says.
"""

from collections.abc import Iterable

from e2e.controlplane.hami import NAMESPACE, Hami
from e2e.hami.edition import Edition
from e2e.node.images import GUEST_ROOT, Image, shown, view
from e2e.node.kubelet import WAIT_FOR_TERM, KubeNode
from e2e.node.nvml import ENVIRONMENT, HOST_DRIVER, ensure_nvml
from e2e.parts import PartMissing

NODE_LABEL = "gpu"
"""`gpu=on` is the chart's node selector: set, the plugin runs; removed, its pod ends."""
REGISTERED_SECONDS = 900
"""15 s on an idle machine. Beside other work, an emulated processor needs minutes for the stand-in's Python."""
COMPONENT = "app.kubernetes.io/component=hami-device-plugin"
DAEMON_SET = "hami-device-plugin"

SETTLE = f"""\
# NVML's view follows sysfs within milliseconds; a plugin that starts right after a rebind waits for that.
for round in $(seq 100); do
  for device in /sys/bus/pci/drivers/{HOST_DRIVER}/0000:*; do [ -e "$device" ] && echo "${{device##*/}}"; done \\
    | sort >/tmp/.on-driver.$$
  sort /run/nvml/gpus.list | cmp -s - /tmp/.on-driver.$$ && break
  sleep 0.1
done
rm -f /tmp/.on-driver.$$
"""


def image(name: str, edition: Edition, mounts: Iterable[str]) -> Image:
    """What the release's image holds as far as the DaemonSet uses it; `mounts`: where its volumes go. Raises
    PartMissing."""
    plugin = edition.shell("nvidia-device-plugin", root=GUEST_ROOT)
    try:
        monitor = f'exec {edition.shell("vgpu-monitor", root=GUEST_ROOT)} "$@"'
    except PartMissing:
        monitor = WAIT_FOR_TERM  # the monitor takes no part in allocation
    files = {
        "/e2e/bin/nvidia-device-plugin": f'#!/bin/sh\n{SETTLE}exec {plugin} "$@"\n',
        "/e2e/bin/vGPUmonitor": f"#!/bin/sh\n{monitor}\n",
        "/k8s-vgpu/bin/vgpu-init.sh": (
            "#!/bin/sh\n"
            f'cp {shown(edition.library())} "$1/libvgpu.so.v{edition.version}"\n'
            'echo /usr/local/vgpu/libvgpu.so >"$1/ld.so.preload"\n'
        ),
    }
    return view(name, ["/bin/sh"], files, ENVIRONMENT, mounts)


class HamiPlugin:
    """The DaemonSet on `node`. Its pod comes and goes with the node's label `gpu=on`."""

    def __init__(self, node: KubeNode, hami: Hami) -> None:
        self.node = node
        self.hami = hami

    def install(self) -> "HamiPlugin":
        """NVML, the image, the DaemonSet; does not wait for the plugin (see `wait_registered`)."""
        daemon_set = self.hami.objects["DaemonSet", DAEMON_SET]
        containers = daemon_set["spec"]["template"]["spec"]["containers"]
        mounts = [mount["mountPath"] for item in containers for mount in item["volumeMounts"]]
        ensure_nvml(self.node.guest)
        self.node.guest.after_boot.insert(0, ensure_nvml)
        self.node.load_images(
            [
                image(name, self.hami.edition, mounts)
                for name in sorted({item["image"] for item in containers})
            ]
        )
        self.hami.plane.ensure_namespace(NAMESPACE)
        self.hami.plane.apply(
            *(
                item
                for (kind, name), item in self.hami.objects.items()
                if kind in ("ConfigMap", "ServiceAccount", "ClusterRole", "ClusterRoleBinding")
                and "admission" not in name
            ),
            daemon_set,
        )
        return self

    def pods(self) -> list[str]:
        """Names of the plugin's pods on this node, those that are ending included."""
        query = {"labelSelector": COMPONENT, "fieldSelector": f"spec.nodeName={self.node.name}"}
        items = self.node.plane.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods", **query)["items"]
        return [item["metadata"]["name"] for item in items]

    def restarts(self) -> int:
        """How often the kubelet has restarted the plugin's container, of the pods that are there."""
        query = {"labelSelector": COMPONENT, "fieldSelector": f"spec.nodeName={self.node.name}"}
        items = self.node.plane.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods", **query)["items"]
        statuses = [status for item in items for status in item["status"].get("containerStatuses", [])]
        return sum(status["restartCount"] for status in statuses if status["name"] == "device-plugin")

    def restart(self) -> None:
        """Deletes the pod, after which the DaemonSet makes a new one: HAMi's only way to look at GPUs anew."""
        for pod in self.pods():
            self.node.plane.kubectl("delete", "pod", "-n", NAMESPACE, pod, "--wait=true", "--timeout=300s")

    def label(self, on: bool) -> None:
        """Sets or removes `gpu=on`."""
        self.node.plane.api.patch(
            self.node.path, {"metadata": {"labels": {NODE_LABEL: "on" if on else None}}}
        )

    def wait_registered(
        self, gpus: int, *, split: int = 10, timeout_seconds: float = REGISTERED_SECONDS
    ) -> None:
        """Waits until the kubelet offers `split` shares of exactly that many GPUs."""
        self.node.plane.wait_for(
            f"nvidia.com/gpu: {gpus * split} on {self.node.name}",
            lambda: self.node.allocatable("nvidia.com/gpu") == gpus * split,
            timeout_seconds=timeout_seconds,
        )

    def log(self) -> str:
        """What the plugin's container printed, of all its pods."""
        return self.node.pod_log(NAMESPACE, DAEMON_SET + "-*")
