"""HAMi's scheduler and webhook beside the control plane: its chart, its program, a second kube-scheduler.

Which HAMi that is, the real one or the stand-in, `e2e.hami.edition` decides. Everything HAMi's chart makes for the cluster is applied as it is (accounts, rights, ConfigMaps, webhook), save
what only works inside a cluster: the Deployment's two containers become two processes on loopback that run with
the Deployment's arguments and the chart's ServiceAccount, and the webhook is registered by URL.
"""

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from e2e.controlplane.client import Json
from e2e.controlplane.plane import ControlPlane
from e2e.hami import edition
from e2e.processes import Process, free_port

NAMESPACE = "hami-system"
SCHEDULER_NAME = "hami-scheduler"
REGISTER_ANNOTATION = "hami.io/node-nvidia-register"

_APPLIED = ("ServiceAccount", "ConfigMap", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


class Hami:
    """HAMi of one release. `objects` is its rendered chart by (kind, name), for whoever needs the rest of it.

    Processes: `hami-extender` (filter, bind, webhook) and `hami-kube-scheduler`.
    """

    def __init__(self, plane: ControlPlane, version: str = "2.10.0") -> None:
        self.plane = plane
        self.version = version
        self.edition = edition.take(version)
        self._folder = plane.folder / f"hami-{version}"
        self.objects = self._render()
        self.extender_port, self.metrics_port, self._scheduler_port = free_port(), free_port(), free_port()

    def describe(self) -> str:
        """Which HAMi this is, and whether it is one."""
        return self.edition.describe()

    def start(self) -> "Hami":
        """Both processes, ready; the webhook registered."""
        plane = self.plane
        plane.ensure_namespace(NAMESPACE)
        plane.apply(
            *(
                item
                for (kind, name), item in self.objects.items()
                if kind in _APPLIED and "admission" not in name
            )
        )
        # With no replicas, and so that HAMi's release can be read off its image as in any cluster.
        deployment = self.objects["Deployment", "hami-scheduler"]
        plane.apply(deployment | {"spec": deployment["spec"] | {"replicas": 0}})
        self.add_extender("hami-extender", port=self.extender_port, metrics_port=self.metrics_port).start(
            lambda: plane.healthy(self.extender_port)
        )
        self._start_kube_scheduler(plane.service_account_kubeconfig(NAMESPACE, "hami-scheduler"))
        plane.apply(self._webhook())
        return self

    def stop(self) -> None:
        """Both processes stopped, the webhook gone; the chart's other objects stay."""
        self.plane.api.delete(
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/hami-webhook"
        )
        for name in ("hami-kube-scheduler", "hami-extender"):
            self.plane.processes[name].stop()

    def metrics(self) -> str:
        """The scheduler's Prometheus page: what HAMi believes about every GPU."""
        return httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5, trust_env=False).text

    def wait_until_known(self, *uuids: str) -> None:
        """Wait until the scheduler has these GPUs in its books; it looks at nodes every 15 s."""
        self.plane.wait_for(
            f"HAMi's scheduler to know {', '.join(uuids)}",
            lambda: all(uuid in text for text in [self.metrics()] for uuid in uuids),
        )

    def add_extender(
        self,
        name: str,
        *,
        config: str = "",
        flags: Mapping[str, str] | None = None,
        port: int | None = None,
        metrics_port: int | None = None,
    ) -> Process:
        """An extender process, not started, with the chart's arguments; `config`, `flags` replace the chart's."""
        certificate, key = self.plane.authority.server(name)
        container = self._container("vgpu-scheduler-extender")
        ours = {
            "--http_bind": f"127.0.0.1:{port or free_port()}",
            "--cert_file": certificate,
            "--key_file": key,
            "--metrics-bind-address": f"127.0.0.1:{metrics_port or free_port()}",
            "--device-config-file": self._write(f"{name}.device-config.yaml", config or self.device_config()),
            # One instance; a killed one must not leave its successor waiting for a lease.
            "--leader-elect": "false",
            **(flags or {}),
        }
        environment = {item["name"]: item["value"] for item in container.get("env", []) if "value" in item}
        return self.plane.add_process(
            name,
            [*self.edition.command("scheduler"), *_with_flags(container["command"][1:], ours)],
            os.environ
            | environment
            | {
                "KUBECONFIG": str(self.plane.service_account_kubeconfig(NAMESPACE, "hami-scheduler")),
                "POD_NAME": "hami-scheduler-0",
                "POD_NAMESPACE": NAMESPACE,
            },
        )

    def device_config(self) -> str:
        """The chart's device configuration."""
        return self._config_map("hami-scheduler-device", "device-config.yaml")

    def _start_kube_scheduler(self, kubeconfig: Path) -> None:
        configuration = next(
            loaded
            for (kind, _), item in self.objects.items()
            if kind == "ConfigMap"
            for text in item["data"].values()
            if isinstance(loaded := yaml.safe_load(text), dict)
            and loaded.get("kind") == "KubeSchedulerConfiguration"
        )
        configuration["leaderElection"] = {"leaderElect": False}
        configuration["clientConnection"] = {"kubeconfig": str(kubeconfig)}
        configuration["extenders"][0]["urlPrefix"] = f"https://127.0.0.1:{self.extender_port}"
        certificate, key = self.plane.authority.server("hami-kube-scheduler")
        self.plane.add_process(
            "hami-kube-scheduler",
            [
                self.plane.programs["kube-scheduler"].path,
                f"--config={self._write('config.yaml', yaml.safe_dump(configuration))}",
                f"--authentication-kubeconfig={self.plane.kubeconfig}",
                f"--authorization-kubeconfig={self.plane.kubeconfig}",
                "--bind-address=127.0.0.1",
                f"--secure-port={self._scheduler_port}",
                f"--tls-cert-file={certificate}",
                f"--tls-private-key-file={key}",
                "-v=4",
            ],
        ).start(lambda: self.plane.healthy(self._scheduler_port))

    def _webhook(self) -> Json:
        configuration = self.objects["MutatingWebhookConfiguration", "hami-webhook"]
        bundle = base64.b64encode(self.plane.authority.path.read_bytes()).decode()
        for webhook in configuration["webhooks"]:
            url = f"https://127.0.0.1:{self.extender_port}{webhook['clientConfig']['service']['path']}"
            webhook["clientConfig"] = {"url": url, "caBundle": bundle}
        return configuration

    def _render(self) -> dict[tuple[str, str], Json]:
        chart = self.edition.unpack_chart(self._folder)
        rendered = self.plane.helm("template", "hami", str(chart), "--namespace", NAMESPACE)
        documents = [item for item in yaml.safe_load_all(rendered) if item]
        return {(item["kind"], item["metadata"]["name"]): item for item in documents}

    def _container(self, name: str) -> Json:
        containers = self.objects["Deployment", "hami-scheduler"]["spec"]["template"]["spec"]["containers"]
        found: Json = next(item for item in containers if item["name"] == name)
        return found

    def _config_map(self, name: str, key: str) -> str:
        text: str = self.objects["ConfigMap", name]["data"][key]
        return text

    def _write(self, name: str, text: str) -> Path:
        path = self._folder / name
        path.write_text(text)
        return path


def registered(uuid: str, *, model: str = "NVIDIA A10", memory_mib: int = 24_576, index: int = 0) -> Json:
    """One GPU as HAMi's device plugin of release 2.8 or newer writes it into the register annotation."""
    entry: dict[str, Any] = {"id": uuid, "count": 10, "devmem": memory_mib, "devcore": 100, "type": model}
    return entry | {"mode": "hami-core", "health": True} | ({"index": index} if index else {})


def settle_allocation(plane: ControlPlane, namespace: str, pod: str) -> None:
    """What HAMi's device plugin does when the kubelet allocates, for a fake node, which has neither.

    Without it the pod stays `allocating` and the node locked against HAMi's next bind for five minutes.
    """
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
    found = plane.api.get(path)
    waiting = found["metadata"]["annotations"]["hami.io/vgpu-devices-to-allocate"]
    done = {"hami.io/bind-phase": "success", "hami.io/vgpu-devices-to-allocate": ";" * waiting.count(";")}
    plane.api.patch(path, {"metadata": {"annotations": done}})
    node = f"/api/v1/nodes/{found['spec']['nodeName']}"
    plane.api.patch(node, {"metadata": {"annotations": {"hami.io/mutex.lock": None}}})


def _with_flags(arguments: list[str], replaced: Mapping[str, object]) -> list[str]:
    kept = [argument for argument in arguments if argument.partition("=")[0] not in replaced]
    return kept + [f"{flag}={value}" for flag, value in replaced.items()]
