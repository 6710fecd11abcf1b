"""The chart installed into a real API server, with the webhook as a process of this machine."""

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from e2e.controlplane.client import ApiClient
from e2e.controlplane.plane import ControlPlane
from e2e.processes import Process, free_port

CHART = Path(__file__).parents[3] / "helm" / "poolmgr"
NAMESPACE = "poolmgr-system"
A10, A10_RESOURCE = "NVIDIA A10", "nvidia.com/GA102GL_A10"

DEVICE: dict[str, Any] = {
    "pciAddress": "0000:00:04.0",
    "uuid": "GPU-0",
    "model": A10,
    "memoryMiB": 23028,
    "resourceName": A10_RESOURCE,
    "mode": "Shared",
    "phase": "Ready",
    "iommuGroup": 1,
    "rebind": {"possible": True},
}

MINIMAL_KUBEVIRT = [
    {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.kubevirt.io"},
        "spec": {
            "group": "kubevirt.io",
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short, f"{short}s"],
            },
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "x-kubernetes-preserve-unknown-fields": True,
                        }
                    },
                }
            ],
        },
    }
    for kind, plural, short in (
        ("VirtualMachine", "virtualmachines", "vm"),
        ("VirtualMachineInstance", "virtualmachineinstances", "vmi"),
    )
]
"""Stand-ins where KubeVirt's own CRDs are not to be had: its objects without their schema."""


class Installation:
    """A release whose webhook runs here under the rights of its ServiceAccount, and nothing more."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.port = free_port()
        self.webhook: Process | None = None

    def install(self, *values: str) -> str:
        sets = [
            word
            for value in (f"webhook.url=https://127.0.0.1:{self.port}", *values)
            for word in ("--set", value)
        ]
        return self.plane.helm(
            "upgrade", "--install", "poolmgr", str(CHART), "-n", NAMESPACE, "--create-namespace", *sets
        )

    def start_webhook(self) -> Process:
        kubeconfig = self.plane.service_account_kubeconfig(NAMESPACE, "poolmgr-webhook")
        if self.webhook is None:
            command = [sys.executable, "-m", "poolmgr.cli.main", "webhook", "serve", "--host", "127.0.0.1"]
            options = {
                "port": self.port,
                "kubeconfig": kubeconfig,
                "namespace": NAMESPACE,
                "names": "127.0.0.1",
            }
            command += [str(word) for name, value in options.items() for word in (f"--{name}", value)]
            self.webhook = self.plane.add_process("poolmgr-webhook", command)
        return self.webhook.start(self.called)

    def called(self) -> bool:
        """Whether the API server reaches the webhook and trusts it: a pool that nothing can match draws our
        warning once the fleet is known, on a dry run."""
        pool = {
            "apiVersion": "poolmgr.io/v1alpha1",
            "kind": "GPUPool",
            "metadata": {"name": "probe"},
            "spec": {"models": ["none"], "rebalance": {"mode": "Off"}, "shared": {"headroom": 1}},
        }
        self.plane.api.create("/apis/poolmgr.io/v1alpha1/gpupools", pool, dryRun="All")
        return any("headroom has no effect" in warning for warning in self.plane.api.warnings)

    def api_as(self, account: str) -> ApiClient:
        """A client with the rights of one of the chart's accounts (its token is bound to no pod)."""
        return ApiClient(self.plane.service_account_kubeconfig(NAMESPACE, account))

    def report(self, node: str, *devices: dict[str, Any]) -> None:
        """A GPUNode as the agent of `node` would report it."""
        path = "/apis/poolmgr.io/v1alpha1/gpunodes"
        if not self.plane.api.exists(f"{path}/{node}"):
            self.plane.api.create(
                path, {"apiVersion": "poolmgr.io/v1alpha1", "kind": "GPUNode", "metadata": {"name": node}}
            )
        shared = sum(d["mode"] == "Shared" for d in devices)
        summary = {
            "gpus": len(devices),
            "shared": shared,
            "passthrough": len(devices) - shared,
            "moving": 0,
            "trouble": 0,
        }
        self.plane.api.patch(
            f"{path}/{node}/status",
            {
                "status": {
                    "observedGeneration": 1,
                    "devices": [copy.deepcopy(d) for d in devices],
                    "summary": summary,
                }
            },
        )

    def remove(self) -> None:
        if self.webhook is not None:
            self.webhook.stop()
        self.plane.helm("uninstall", "poolmgr", "-n", NAMESPACE)
        for plural in ("gpunodes", "gpupools"):
            self.plane.kubectl("delete", plural, "--all")


def agent_kubeconfig(plane: ControlPlane, node: str) -> Path:
    """Kubeconfig of an agent, with a token bound to a pod on `node` as the kubelet would hand out."""
    name = f"agent-on-{node}"
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    if not plane.api.exists(f"{pods}/{name}"):
        spec = {
            "serviceAccountName": "poolmgr-agent",
            "nodeName": node,
            "containers": [{"name": "agent", "image": "poolmgr"}],
        }
        metadata = {"name": name, "namespace": NAMESPACE}
        plane.api.create(pods, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={name}")
    token = plane.kubectl("-n", NAMESPACE, "create", "token", "poolmgr-agent", *bound).strip()
    loose = plane.service_account_kubeconfig(NAMESPACE, "poolmgr-agent")
    config = yaml.safe_load(loose.read_text())
    config["users"][0]["user"] = {"token": token}
    own = loose.with_name(f"{name}.yaml")
    own.write_text(yaml.safe_dump(config))
    return own


@contextmanager
def installation(plane: ControlPlane, *values: str) -> Iterator[Installation]:
    """Installed, the webhook not started yet; removed again at the end."""
    release = Installation(plane)
    try:
        release.install(*values)
        yield release
    finally:
        release.remove()
