"""Pytest fixtures of the emulated node, loaded by the root `conftest.py`: one boot serves a whole session."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.node.machine import NodeUnavailable, require_programs
from e2e.node.node import GuestNode

TEST_TIMEOUT_SECONDS = 900
"""For a test that uses the node: it may pay the boot, and an emulated node is some ten times slower."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test that uses the node as `node` and gives it time."""
    for item in items:
        if "guest_node" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.node)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_SECONDS))


@pytest.fixture(scope="session")
def guest_node(artifacts: Path) -> Iterator[GuestNode]:
    """The session's node with two GPUs, each alone in its IOMMU group.

    Skips, with the reason, where QEMU or virtme-ng are missing.
    """
    try:
        require_programs()
        node = GuestNode(directory=artifacts / "node")
        node.boot()
    except NodeUnavailable as error:
        pytest.skip(str(error))
    for trouble in node.retries:
        warnings.warn(f"the emulated node needed a second boot: {trouble}", stacklevel=1)
    try:
        yield node
    finally:
        node.close()
