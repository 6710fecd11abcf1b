"""What part of the GPU programs got: by the fake machine's own count, or on a real GPU against what they do alone."""

from collections.abc import Sequence
from dataclasses import replace

from bench.hook.bed import Bed
from bench.hook.containers import Arm, Program, run

NO_HOOK = Arm("no hook", None)
Lines = Sequence[dict[str, float]]


def share(lines: Lines) -> float:
    """Percent of the time that the GPU worked for the processes together."""
    return 100 * sum(line["busy_ns"] for line in lines) / max(line["elapsed_ns"] for line in lines)


def launches_per_second(lines: Lines) -> float:
    return 1e9 * sum(line["launches"] for line in lines) / max(line["elapsed_ns"] for line in lines)


class Shares:
    """Percents of the GPU on one bed. A real GPU does not say for whom it worked, and a kernel of 1 ms on more blocks
    than fit at once takes several: there a share is the launches per second, of a hundred that the same program makes
    without a hook and without a neighbour."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._alone: dict[tuple[str, ...], float] = {}

    def of(self, arm: Arm, program: Program) -> float:
        """Runs a program `share`. Raises DidNotFinish."""
        if self._bed.gpu is None:
            return share(run(self._bed, arm, program))
        if program.arguments not in self._alone:
            self.run_alone(program)
        return 100 * launches_per_second(run(self._bed, arm, program)) / self._alone[program.arguments]

    def run_alone(self, program: Program) -> None:
        """Ahead of programs that run side by side: they must not be there when the yardstick is taken."""
        if self._bed.gpu is not None:
            free = replace(program, core_limit=0)
            self._alone[program.arguments] = launches_per_second(run(self._bed, NO_HOOK, free))
