"""A monitoring service that keeps GPUs open, as DCGM's exporter does under NVIDIA's GPU operator, and is no exporter.

What the operator does with it is real here but the operator itself: a DaemonSet that selects nodes by the operator's label
`nvidia.com/gpu.deploy.dcgm-exporter=true`, so that whoever changes the label ends and starts its pod.
"""

from e2e.controlplane.client import Json
from e2e.node.images import APPLETS, BUSYBOX, Image
from e2e.node.nvml import STATE

NAME, NAMESPACE = "dcgm-exporter", "gpu-operator"
LABEL = "nvidia.com/gpu.deploy.dcgm-exporter"
RUNS = "true"
IMAGE = "localhost/dcgm-exporter:1"

PROGRAM = f"""\
#!/bin/sh
# As DCGM does: it looks for GPUs once, at its start, and keeps each of them open.
trap 'exit 0' TERM
descriptor=4
for minor in $(sed -n 's/^minor = //p' {STATE}); do
  eval "exec $descriptor<>/dev/nvidia$minor"
  echo "keeps /dev/nvidia$minor open"
  descriptor=$((descriptor + 1))
done
while :; do sleep 3600 & wait $!; done
"""


def image() -> Image:
    """Its program has the name that the kernel tells of DCGM's exporter."""
    return Image(
        IMAGE,
        ["/usr/bin/dcgm-exporter"],
        {
            "/bin/busybox": BUSYBOX.read_bytes(),
            "/usr/bin/dcgm-exporter": PROGRAM,
            "/etc/passwd": "root:x:0:0::/:/bin/sh\n",
        },
        {f"/bin/{applet}": "busybox" for applet in (*APPLETS, "sed")},
    )


def daemon_set() -> Json:
    labels = {"app": NAME}
    container = {
        "name": "main",
        "image": IMAGE,
        "securityContext": {"privileged": True},  # as for any device without a device plugin
        "volumeMounts": [{"name": "dev", "mountPath": "/dev"}],
    }
    spec = {
        "nodeSelector": {LABEL: RUNS},
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 30,
        "containers": [container],
        "volumes": [{"name": "dev", "hostPath": {"path": "/dev"}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
