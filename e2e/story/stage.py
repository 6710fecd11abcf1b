"""The stage of the story: poolmgr installed by its chart beside the real parts, which fixtures have started.

The manager and the webhook are processes on this machine that hold a token of the chart's ServiceAccounts, so
that its RBAC is what they work with; the agent is a pod of the chart's DaemonSet in the emulated node, as HAMi's
device plugin is one of HAMi's.
"""

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata

import httpx

from e2e.cache import PROJECT_ROOT
from e2e.controlplane.hami import Hami
from e2e.controlplane.kubevirt import VERSION as KUBEVIRT_VERSION
from e2e.controlplane.plane import ControlPlane
from e2e.node.images import GUEST_ROOT, Image, view
from e2e.node.kubelet import KubeNode
from e2e.node.node import GuestNode
from e2e.node.nvml import ENVIRONMENT
from e2e.processes import Process, free_port
from e2e.story.narrative import Narrative

RELEASE = "poolmgr"
SYSTEM_NAMESPACE = "poolmgr-system"
AGENT_IMAGE = "localhost/poolmgr:1"


@dataclass
class Ports:
    webhook: int
    api: int


class Poolmgr:
    """poolmgr on a control plane with one real node: install, start and stop its parts."""

    def __init__(self, plane: ControlPlane, node: KubeNode) -> None:
        self.plane = plane
        self.node = node
        self.ports = Ports(webhook=free_port(), api=free_port())

    def install(self) -> str:
        """`helm install`; answers what `helm list` prints."""
        self.node.load_images([poolmgr_image()])
        settings = {
            "manager.replicas": "0",
            "webhook.url": f"https://127.0.0.1:{self.ports.webhook}",
            "agent.image": AGENT_IMAGE,
            "agent.accelerators": "nvidia\\,emulated",
            "agent.pollSeconds": "2",
            "agent.nodeSelector.kubernetes\\.io/hostname": self.node.name,
        }
        flags = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        chart = str(PROJECT_ROOT / "helm" / "poolmgr")
        self.plane.helm("install", RELEASE, chart, "-n", SYSTEM_NAMESPACE, "--create-namespace", *flags)
        return self.plane.helm("list", "-n", SYSTEM_NAMESPACE)

    def uninstall(self) -> None:
        """The release and both processes; CRDs stay, as Helm leaves them."""
        for name in ("manager", "webhook"):
            if name in self.plane.processes:
                self.plane.processes[name].stop()
        self.plane.helm("uninstall", RELEASE, "-n", SYSTEM_NAMESPACE)

    def start_webhook(self) -> None:
        """The webhook, which makes its own certificate in the chart's Secret; ready when it knows the fleet."""
        url = f"https://127.0.0.1:{self.ports.webhook}/readyz"
        flags = ["serve", "--host=127.0.0.1", f"--port={self.ports.webhook}", "--names=127.0.0.1"]
        self._process("webhook", *flags).start(lambda: _answers(url))

    def start_manager(self) -> None:
        """The manager; ready when it has read the whole cluster."""
        url = f"http://127.0.0.1:{self.ports.api}/readyz"
        ledger = f"--database=sqlite:///{self.plane.folder / 'ledger.sqlite'}"
        manager = self._process("manager", "--host=127.0.0.1", f"--port={self.ports.api}", ledger)
        manager.start(lambda: _answers(url))

    def _process(self, component: str, *arguments: str) -> Process:
        kubeconfig = self.plane.service_account_kubeconfig(SYSTEM_NAMESPACE, f"{RELEASE}-{component}")
        return self.plane.add_process(
            component,
            [sys.executable, "-m", "poolmgr.cli.main", component, *arguments],
            os.environ | {"KUBECONFIG": str(kubeconfig), "POOLMGR_NAMESPACE": SYSTEM_NAMESPACE},
        )


@dataclass
class Stage:
    """All that the chapters act on."""

    plane: ControlPlane
    hami: Hami
    node: KubeNode
    poolmgr: Poolmgr
    narrative: Narrative

    @property
    def guest(self) -> GuestNode:
        return self.node.guest


def versions(plane: ControlPlane, hami: Hami, guest: GuestNode) -> dict[str, str]:
    """Part → version, of everything real that takes part."""
    linux, containerd, runc = guest.run(
        "uname -r; containerd --version | cut -d' ' -f3; runc --version | head -1 | cut -d' ' -f3", check=True
    ).out.split()
    qemu = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True)
    return plane.versions() | {
        "HAMi": hami.describe(),
        "KubeVirt": KUBEVIRT_VERSION,
        "Linux": linux,
        "containerd": containerd,
        "runc": runc,
        "QEMU": qemu.stdout.split()[3],
        "Python": platform.python_version(),
        "poolmgr": metadata.version("poolmgr"),
    }


def driver_links(guest: GuestNode) -> str:
    """The GPUs' driver links as the node's kernel has them now."""
    return "   ".join(f"{address} → {driver or 'no driver'}" for address, driver in guest.drivers().items())


def poolmgr_image() -> Image:
    """This tree as the chart's image: the checkout with its Python is seen below the node's root, wherever it lies."""
    checkout = f"{GUEST_ROOT}{PROJECT_ROOT}"
    start = f'#!/bin/sh\ncd {checkout} && exec {checkout}/.venv/bin/python -B -m poolmgr.cli.main "$@"\n'
    return view(AGENT_IMAGE, ["/e2e/bin/poolmgr"], {"/e2e/bin/poolmgr": start}, ENVIRONMENT)


def _answers(url: str) -> bool:
    return httpx.get(url, verify=False, timeout=5, trust_env=False).status_code == 200
