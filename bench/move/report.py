"""The table: each step of a move by the agent beside the shell's. Pure."""

from collections.abc import Mapping, Sequence

from poolmgr.domain.modes import Mode

GOAL = 1.5
"""The agent's time for a move there and back, in the shell's."""
WRITES = {
    "driver_override": "reserve (`driver_override`)",
    "unbind": "`unbind`",
    "drivers_probe": "bind (`drivers_probe`)",
}
DIRECTIONS = {Mode.PASSTHROUGH: "shared → passthrough", Mode.SHARED: "passthrough → shared"}
ByDirection = Mapping[Mode, Mapping[str, float]]
"""Milliseconds by step, `move` being the whole."""


def ratio(agent: ByDirection, shell: ByDirection) -> float:
    """Of a move there and back."""
    return _whole(agent) / _whole(shell)


def markdown(agent: ByDirection, shell: ByDirection, head: Sequence[str]) -> list[str]:
    lines = [*head, "", "| move | step | agent, ms | shell, ms | agent / shell |", "|---|---|---|---|---|"]
    for mode, direction in DIRECTIONS.items():
        ours, theirs = agent[mode], shell[mode]
        for step, title in WRITES.items():
            lines.append(_line(direction, title, ours.get(step, 0.0), theirs[step]))
        holders = ours.get("holders", 0.0)
        lines.append(_line(direction, "look for holders", holders, None))
        rest = ours["move"] - holders - sum(ours.get(step, 0.0) for step in WRITES)
        lines.append(_line(direction, "look at the GPU, read back", rest, None))
        lines.append(_line(direction, "**all**", ours["move"], theirs["move"]))
    found = ratio(agent, shell)
    lines.append(_line("there and back", "**all**", _whole(agent), _whole(shell)))
    lines += [
        "",
        f"Goal: at most {GOAL} times the shell's time; {'met' if found <= GOAL else '**not met**'}.",
    ]
    return lines


def _whole(moves: ByDirection) -> float:
    return sum(moves[mode]["move"] for mode in DIRECTIONS)


def _line(direction: str, step: str, ours: float, theirs: float | None) -> str:
    beside = f"{theirs:.1f} | {ours / theirs:.2f}" if theirs else " | "
    return f"| {direction} | {step} | {ours:.1f} | {beside} |"
