"""The emulated node in NVIDIA's shape: what the agent reads there is what it reads on the fake node."""

import pytest

from e2e.node.node import REPOSITORY, GuestNode
from e2e.node.shaped import SHAPES, ShapedNode

CONTRACT = "tests/integration/agent/test_shape_contract.py"


@pytest.mark.parametrize("name", SHAPES)
def test_the_agent_sees_the_same_as_on_the_fake_node(guest_node: GuestNode, name: str) -> None:
    shaped = ShapedNode(guest_node)
    python = str(REPOSITORY / ".venv/bin/python")
    command = [python, "-B", "-m", "pytest", "-p", "no:cacheprovider", "-o", "timeout=0", "-v", "-k", "real"]
    try:
        shaped.lay(SHAPES[name])
        result = guest_node.run(
            [*command, CONTRACT],
            env={"POOLMGR_SHAPED": name},
            cwd=str(REPOSITORY),
            timeout_seconds=600,
            echo=True,
        )
    finally:
        shaped.take_off()
    assert result.rc == 0, result.out
    assert "[real] PASSED" in result.out, "the emulated node was asked"
    assert guest_node.run("ls /dev/nvidiactl").rc != 0, "taken off"
    assert (
        guest_node.run(f"cat /sys/bus/pci/devices/{guest_node.spec.gpu_address(0)}/vendor").out.strip()
        == "0x1234"
    )
