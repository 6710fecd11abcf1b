"""`poolmgr bench move` at its smallest, on the session's node: both sides move the GPU, by the same writes."""

from bench.move.report import WRITES
from bench.move.run import HOST_DRIVER, TOGETHER, compare
from e2e.node.node import GuestNode
from poolmgr.domain.modes import Mode

GPU = "0000:00:10.0"


def test_agent_and_shell_take_turns_with_the_same_writes(guest_node: GuestNode) -> None:
    said: list[str] = []
    found = compare(guest_node, GPU, 1, said.append)
    assert said == ["round 1 of 1"]
    for moves in found.values():
        assert [move.to for move in moves] == [Mode.PASSTHROUGH, Mode.SHARED] * TOGETHER
        for move in moves:
            assert {step for step in WRITES if move.steps.get(step)} == set(WRITES)
            assert sum(move.steps[step] for step in WRITES) <= move.steps["move"] * 1.01
    assert guest_node.driver(GPU) == HOST_DRIVER
