"""The stage of the story: poolmgr, installed by its chart from its image, beside the real parts that fixtures have
started. Manager, webhook and agent are pods of the emulated node, as HAMi's device plugin is.
"""

import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from e2e.controlplane.hami import Hami
from e2e.controlplane.kubevirt import VERSION as KUBEVIRT_VERSION
from e2e.controlplane.plane import ControlPlane
from e2e.node.kubelet import KubeNode
from e2e.node.node import GuestNode
from e2e.node.poolmgr_release import Poolmgr
from e2e.story.narrative import Narrative
from tools.image.build import Built


@dataclass
class Stage:
    """All that the chapters act on."""

    plane: ControlPlane
    hami: Hami
    node: KubeNode
    poolmgr: Poolmgr
    admin: Path
    """Kubeconfig of the platform's administrator."""
    narrative: Narrative

    @property
    def guest(self) -> GuestNode:
        return self.node.guest


def versions(plane: ControlPlane, hami: Hami, guest: GuestNode, image: Built) -> dict[str, str]:
    """Part → version, of everything real that takes part."""
    linux, containerd, runc = guest.run(
        "uname -r; containerd --version | cut -d' ' -f3; runc --version | head -1 | cut -d' ' -f3", check=True
    ).out.split()
    qemu = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True)
    return plane.versions() | {
        "HAMi": hami.describe().removeprefix("HAMi "),
        "KubeVirt": KUBEVIRT_VERSION,
        "Linux": linux,
        "containerd": containerd,
        "runc": runc,
        "QEMU": qemu.stdout.split()[3],
        "Python here": platform.python_version(),
        "poolmgr": f"{image.name} {image.digest}",
    }


def driver_links(guest: GuestNode) -> str:
    """The GPUs' driver links as the node's kernel has them now."""
    return "   ".join(f"{address} → {driver or 'no driver'}" for address, driver in guest.drivers().items())
