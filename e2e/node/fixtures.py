"""Pytest fixtures of the emulated node, loaded by the root `conftest.py`: one boot serves a whole session."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e.node.machine import NodeUnavailable, require_programs
from e2e.node.node import GuestNode

Record = Callable[[str, object], None]

if TYPE_CHECKING:
    from e2e.controlplane.hami import Hami
    from e2e.controlplane.plane import ControlPlane
    from e2e.node.hami_plugin import HamiPlugin
    from e2e.node.kubelet import KubeNode

TEST_TIMEOUT_SECONDS = 3000
"""For a test that uses the node: it may pay the boot, and an emulated node is some ten times slower."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test that uses the node as `node` and gives it time."""
    for item in items:
        if "guest_node" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.node)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_SECONDS))


@pytest.fixture(scope="session")
def guest_node(artifacts: Path, record_testsuite_property: Record) -> Iterator[GuestNode]:
    """The session's node with two GPUs, each alone in its IOMMU group; nothing of Kubernetes runs on it yet.

    Skips, with the reason, where QEMU or virtme-ng are missing.
    """
    try:
        require_programs()
        node = GuestNode(directory=artifacts / "node")
        node.boot()
    except NodeUnavailable as error:
        pytest.skip(str(error))
    record_testsuite_property("real", "Debian's Linux with an IOMMU, containerd and kubelet under QEMU")
    record_testsuite_property("stand-in", "GPUs: QEMU's display device, with NVML of libhook's fake driver")
    for trouble in node.retries:
        warnings.warn(f"the emulated node needed a second boot: {trouble}", stacklevel=1)
    try:
        yield node
    finally:
        node.close()


@pytest.fixture(scope="session")
def kube_node(guest_node: GuestNode, control_plane: "ControlPlane") -> "KubeNode":
    """The session's node, joined to the session's control plane by the real kubelet. It carries no `gpu=on`."""
    from e2e.node.kubelet import KubeNode
    from e2e.node.launcher import launcher_image

    node = KubeNode(guest_node, control_plane).join()
    node.load_images([launcher_image()])
    return node


@pytest.fixture(scope="session")
def hami_plugin(kube_node: "KubeNode", hami: "Hami") -> "HamiPlugin":
    """HAMi's device plugin as its chart's DaemonSet, on the session's node as long as that has `gpu=on`."""
    from e2e.node.hami_plugin import HamiPlugin
    from e2e.parts import PartMissing

    try:
        return HamiPlugin(kube_node, hami).install()
    except PartMissing as missing:
        pytest.skip(f"no HAMi device plugin: {missing}")
