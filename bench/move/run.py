"""Boots the node and lets agent and shell move the same GPU, in turns."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from e2e.node.channel import ChannelLost
from e2e.node.machine import MachineSpec, NodeUnavailable
from e2e.node.node import REPOSITORY, GuestNode, NodeFailed
from poolmgr.domain.errors import Unavailable
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason

SHELL = REPOSITORY / "bench/move/shell_moves.sh"
PYTHON = REPOSITORY / ".venv/bin/python"
HOST_DRIVER = "bochs-drm"
TOGETHER = 5
"""Moves there and back by one before it is the other's turn."""
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Move:
    """One move of a GPU. `steps` in milliseconds; `move` among them is the whole."""

    to: Mode
    steps: dict[str, float]


Found = dict[str, list[Move]]
"""`agent` and `shell` → their moves in order."""


def compare_on_own_node(rounds: int, tell: Tell) -> Found:
    """The same on a node of its own. Raises Unavailable where it cannot be had."""
    try:
        with GuestNode(MachineSpec(gpus=1)) as node:
            return compare(node, node.spec.gpu_address(0), rounds, tell)
    except (NodeUnavailable, NodeFailed, ChannelLost, TimeoutError) as error:
        raise Unavailable(Reason.API_UNAVAILABLE, f"no emulated node to move a GPU in: {error}") from error


def compare(node: GuestNode, address: str, rounds: int, tell: Tell) -> Found:
    """Moves there and back by either, `rounds` turns of TOGETHER. The first of each, when modules and files are read for
    the first time, is made before and not counted."""
    node.run(["modprobe", "vfio-pci"], check=True)
    shell_moves(node, address, 1)
    agent_moves(node, address, 1)
    found: Found = {"agent": [], "shell": []}
    for number in range(rounds):
        found["agent"] += agent_moves(node, address, TOGETHER + 1)[2:]
        found["shell"] += shell_moves(node, address, TOGETHER)
        tell(f"round {number + 1} of {rounds}")
    return found


def agent_moves(node: GuestNode, address: str, rounds: int) -> list[Move]:
    """Raises NodeFailed where one does not arrive."""
    command = [str(PYTHON), "-B", "-m", "bench.move.agent_moves", address, str(rounds)]
    return _moves(node, command, 1000.0)


def shell_moves(node: GuestNode, address: str, rounds: int) -> list[Move]:
    """The same writes by a shell."""
    return _moves(node, ["bash", str(SHELL), address, HOST_DRIVER, str(rounds)], 0.001)


def _moves(node: GuestNode, command: Sequence[str], milliseconds: float) -> list[Move]:
    """`milliseconds` in one of the program's units."""
    output = node.run(
        command, cwd=str(REPOSITORY), env={"PYTHONPATH": str(REPOSITORY)}, timeout_seconds=600, check=True
    ).out
    found = []
    for line in output.splitlines():
        said = json.loads(line)
        steps = {step: figure * milliseconds for step, figure in said.items() if step != "to"}
        found.append(Move(Mode(said["to"]), steps))
    return found


def medians(moves: Sequence[Move], to: Mode) -> dict[str, float]:
    """Milliseconds by step of the moves to that mode."""
    chosen = [move.steps for move in moves if move.to is to]
    return {step: median(steps.get(step, 0.0) for steps in chosen) for step in chosen[0]}
