"""poolmgr on the emulated node as its users have it: this tree's image, installed by its chart."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from e2e.controlplane.client import Json
from e2e.controlplane.plane import ControlPlane
from e2e.node.kubelet import KubeNode
from e2e.node.node import REPOSITORY
from e2e.node.nvml import ENVIRONMENT
from poolmgr.cli.daily.manager import ManagerApi, manager
from poolmgr.cluster.look import MANAGER_LEASE
from tools.image.build import Built

STEPS = [f"POOLMGR_STEPS__{step}_SECONDS" for step in ("FENCE", "DETACH", "REBIND", "ATTACH", "SILENCE")]
RELEASE = "poolmgr"
NAMESPACE = "poolmgr-system"
READY_SECONDS = 1200
"""For a program of the image to start: half a minute on an idle machine, and Python in an emulated processor beside other
work takes ten times that."""
STEP_SECONDS = 1800
"""For a step of a move there: HAMi's plugin takes minutes to start beside other work, and the node to reboot; a manager that undoes the move for it
would tell another story."""
LEASE_PATH = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{MANAGER_LEASE}"


class Poolmgr:
    """The release: manager and webhook by its Deployments, the agent by its DaemonSet, all on the real node."""

    def __init__(self, node: KubeNode, image: Built) -> None:
        self.node = node
        self.plane: ControlPlane = node.plane
        self.image = image

    def install(self, values: Mapping[str, Any] | None = None) -> str:
        """The image into the node, `helm install`; answers what `helm list` prints. Does not wait for the pods."""
        self.node.load_archive(self.image.archive)
        file = self.plane.folder / "poolmgr-values.yaml"
        file.write_text(yaml.safe_dump({**self._values(), **(values or {})}))
        chart = str(REPOSITORY / "helm" / "poolmgr")
        self.plane.helm("install", RELEASE, chart, "-n", NAMESPACE, "--create-namespace", "-f", str(file))
        return self.plane.helm("list", "-n", NAMESPACE)

    def uninstall(self) -> None:
        """The release; CRDs stay, as Helm leaves them."""
        self.plane.helm("uninstall", RELEASE, "-n", NAMESPACE)

    def _values(self) -> Json:
        """What an administrator sets on a node without a registry, whose GPUs are emulated."""
        repository, _, tag = self.image.name.rpartition(":")
        here = {"kubernetes.io/hostname": self.node.name}
        # One of each at first: an emulated processor starts one Python at a time.
        deployed = {"replicas": 1, "nodeSelector": here, "startupSeconds": READY_SECONDS}
        return {
            "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
            "manager": deployed | {"settings": dict.fromkeys(STEPS, str(STEP_SECONDS))},
            "webhook": deployed,
            "agent": {
                "accelerators": "nvidia,emulated",
                "pollSeconds": 2,
                "nodeSelector": here,
                "extraEnv": [{"name": name, "value": value} for name, value in ENVIRONMENT.items()],
            },
        }

    def pods(self, component: str) -> list[Json]:
        """The component's pods, without those that are ending."""
        query = {
            "labelSelector": f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}"
        }
        items: list[Json] = self.plane.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods", **query)["items"]
        return [item for item in items if not item["metadata"].get("deletionTimestamp")]

    def wait_ready(self, component: str, replicas: int = 1) -> list[Json]:
        """The component's pods, once that many are Ready."""

        def ready() -> list[Json]:
            found = [pod for pod in self.pods(component) if _ready(pod)]
            return found if len(found) == replicas else []

        try:
            pods: list[Json] = self.plane.wait_for(
                f"{replicas} {component} of the image to be ready", ready, timeout_seconds=READY_SECONDS
            )
        except TimeoutError as late:
            printed = self.node.pod_log(NAMESPACE, f"{RELEASE}-{component}-*")[-4000:]
            raise AssertionError(f"{late}; it printed: {printed}") from late
        return pods

    def scale(self, component: str, replicas: int) -> None:
        """As `kubectl scale`; waits until they are Ready."""
        self.plane.kubectl(
            "scale", "-n", NAMESPACE, f"deployment/{RELEASE}-{component}", f"--replicas={replicas}"
        )
        self.wait_ready(component, replicas)

    def leader(self) -> Json | None:
        """The pod of the manager that holds the Lease, if it is there."""
        holder = self.plane.api.get(LEASE_PATH)["spec"].get("holderIdentity") or ""
        return next((pod for pod in self.pods("manager") if holder.startswith(pod["metadata"]["name"])), None)

    def kill_leader(self) -> str:
        """SIGKILLs the manager that leads, and answers its pod's name. Its pod is deleted too, so that the next one comes
        at once: the kubelet waits up to five minutes with a container that dies again and again."""
        pod: Json = self.plane.wait_for("a manager that leads", self.leader, timeout_seconds=READY_SECONDS)
        (status,) = pod["status"]["containerStatuses"]
        container = status["containerID"].removeprefix("containerd://")
        self.node.guest.run(["ctr", "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", container], check=True)
        name: str = pod["metadata"]["name"]
        self.plane.kubectl("delete", "pod", "-n", NAMESPACE, name, "--force", "--grace-period=0")
        return name

    def run(self, component: str, *arguments: str) -> str:
        """What `poolmgr ARGUMENTS` prints in the component's container."""
        (pod, *_) = self.wait_ready(component)
        return self.plane.kubectl(
            "exec", "-n", NAMESPACE, pod["metadata"]["name"], "--", "poolmgr", *arguments
        )

    @contextmanager
    def api(self, kubeconfig: Path) -> Iterator[ManagerApi]:
        """The leader's REST API as `poolmgr get plans` reaches it: by `kubectl port-forward`, with the kubeconfig's token."""
        before = os.environ["PATH"]
        os.environ["PATH"] = f"{Path(self.plane.programs['kubectl'].path).parent}{os.pathsep}{before}"
        try:
            with manager("", "", str(kubeconfig), None) as api:
                yield api
        finally:
            os.environ["PATH"] = before

    def admin_kubeconfig(self) -> Path:
        """A person with all rights and a token, as clusters give their administrators."""
        subject = {"kind": "ServiceAccount", "name": "admin", "namespace": NAMESPACE}
        self.plane.apply(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "admin", "namespace": NAMESPACE},
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "test-admin"},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": "cluster-admin",
                },
                "subjects": [subject],
            },
        )
        return self.plane.service_account_kubeconfig(NAMESPACE, "admin")


def _ready(pod: Json) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
