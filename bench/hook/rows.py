"""What is measured, row by row. Each figure is better when it is smaller, and 0 is the best there is."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bench.hook.bed import Bed
from bench.hook.containers import LIMIT_BYTES, Arm, DidNotFinish, Program, run
from bench.hook.shares import Shares

SHAPES = ((10_000, 132), (100_000, 132), (100_000, 1056), (1_000_000, 8192))
"""Kernels, as (ns, blocks): a small and a large grid, because HAMi-core pays by blocks, not by time."""
LIMITS = (10, 25, 50, 75, 90)
TIMED_LAUNCH = "launch, GPU-time limit of 50 % too"


@dataclass(slots=True)
class Row:
    """One line of the table: a figure per arm by name, or the words why there is none."""

    title: str
    unit: str
    figures: dict[str, float | str] = field(default_factory=dict)
    own_cost: bool = False
    """The figures are what the arm adds to the same program without a hook."""
    note: str = ""


def share_program(
    limit: int, ns: int, grid: int, *, warm: int, seconds: int = 10, mode: str = "async", processes: int = 1
) -> Program:
    options = {"ns": ns, "grid": grid, "warm": warm, "seconds": seconds, "mode": mode, "processes": processes}
    arguments = tuple(word for name, value in options.items() for word in (f"--{name}", str(value)))
    return Program("share", arguments, core_limit=limit, virtual=True, timeout_seconds=120)


def limits_not_in_force(bed: Bed, arm: Arm) -> str | None:
    """None if memory and GPU-time limits hold back a program that asks for more; else what was seen.

    A share is held if a program that could use all of the GPU, limited to 20 percent, gets below 60: the kernels
    are of the shape that HAMi-core handles best.
    """
    try:
        race = run(bed, arm, Program("contend", ("--processes", "2", "--seconds", "1")))
        if not race[0]["refused"]:
            return f"no memory limit in force: {race[0]['granted']} allocations and none refused"
        seen = Shares(bed).of(arm, share_program(20, 100_000, 1056, warm=2 if bed.gpu else 10))
    except DidNotFinish as end:
        return f"it {end} before anything could be measured"
    if seen > 60:
        return f"no GPU-time limit in force: {seen:.0f} % of the GPU at a limit of 20"
    return None


class Measure:
    """Rows for a set of arms; arms take turns within each repetition, so that all see the same machine."""

    def __init__(self, bed: Bed, arms: list[Arm], *, quick: bool, tell: Callable[[str], None]) -> None:
        self._bed = bed
        self._arms = arms
        self._quick = quick
        self._tell = tell
        self._shares_of = Shares(bed)

    def rows(self) -> Iterator[Row]:
        yield from self._calls()
        for processes in (1, 16) if self._bed.gpu else (1, 16, 64):  # on a GPU each context takes its while
            yield self._start(processes)
        yield from self._shares()
        yield from self._memory()

    def _medians(self, program: Program, repetitions: int) -> dict[str, dict[str, float] | str]:
        self._tell(f"{program.name} {' '.join(program.arguments)}".strip())
        runs: dict[str, list[dict[str, float]]] = {arm.name: [] for arm in self._arms}
        ends: dict[str, str] = {}
        for _ in range(repetitions):
            for arm in self._arms:
                try:
                    if arm.name not in ends:
                        runs[arm.name].append(run(self._bed, arm, program)[-1])
                except DidNotFinish as end:
                    ends[arm.name] = str(end)
        found: dict[str, dict[str, float] | str] = dict(ends)
        for name, lines in runs.items():
            if name not in ends:
                found[name] = {key: statistics.median(line[key] for line in lines) for key in lines[0]}
        return found

    def _calls(self) -> Iterator[Row]:
        repetitions = 3 if self._quick or self._bed.gpu else 9
        # A GPU takes a hundred times as long for memory as the fake driver.
        calls = ("--calls", "50000", "--allocations", "2000" if self._bed.gpu else "20000")
        free = self._medians(Program("cost", calls), repetitions)
        timed = self._medians(Program("cost", calls, core_limit=50), repetitions)
        for title, found, key in (
            ("launch, memory limit only", free, "launch"),
            (TIMED_LAUNCH, timed, "launch"),
            ("the same on 16 streams in turn", timed, "launch_16"),
            ("the same on 128 streams in turn", timed, "launch_128"),
            ("the same, a graph of ten", timed, "graph"),
            ("allocate and free 1 MiB", free, "alloc_free"),
            ("allocate and free 1 MiB of a pool", free, "alloc_free_async"),
        ):
            yield self._cost(title, found, f"{key}_ns", "ns")
            if f"{key}_instructions" in found[self._arms[0].name]:
                yield self._cost(title, found, f"{key}_instructions", "instructions")
        if "launch_instructions" not in found[self._arms[0].name]:
            self._tell("this machine counts no instructions (perf_event_open): nanoseconds alone")

    def _cost(self, title: str, found: dict[str, dict[str, float] | str], key: str, unit: str) -> Row:
        row = Row(title, unit, own_cost=True)
        bare = found[self._arms[0].name]
        assert not isinstance(bare, str), f"the programs do not even run without a hook: {bare}"
        row.note = f"the call alone: {bare[key]:.0f} {unit}"
        for arm in self._arms[1:]:
            figures = found[arm.name]
            row.figures[arm.name] = (
                figures if isinstance(figures, str) else max(0.0, figures[key] - bare[key])
            )
        return row

    def _start(self, processes: int) -> Row:
        program = Program("launch_many", ("--processes", str(processes)), core_limit=50)
        found = self._medians(program, 3 if self._quick or self._bed.gpu else 7)
        row = Row(f"start of {processes} program{'s' * (processes > 1)} at once", "ms")
        for arm in self._arms:
            figures = found[arm.name]
            row.figures[arm.name] = figures if isinstance(figures, str) else figures["wall_ms"]
        return row

    def _worst(self, title: str, cases: list[tuple[int, Program]], note: str = "") -> Row:
        self._tell(title)
        row = Row(title, "points", note=note)
        for arm in self._arms[1:]:
            try:
                row.figures[arm.name] = max(
                    abs(self._shares_of.of(arm, program) - limit) for limit, program in cases
                )
            except DidNotFinish as end:
                row.figures[arm.name] = str(end)
        return row

    def _shares(self) -> Iterator[Row]:
        """Virtual seconds cost nothing; on a GPU fewer cases and shorter ones keep the whole under ten minutes."""
        real = self._bed.gpu is not None
        limits = (25, 75) if self._quick or real else LIMITS
        warm, seconds = (2, 4) if real else (10, 10)

        def cases(
            ns: int, grid: int, *, warm: int, mode: str = "async", processes: int = 1
        ) -> list[tuple[int, Program]]:
            return [
                (
                    limit,
                    share_program(
                        limit, ns, grid, warm=warm, seconds=seconds, mode=mode, processes=processes
                    ),
                )
                for limit in limits
            ]

        said = f"worst of limits {', '.join(map(str, limits))}; {seconds} s after {warm} s of settling"
        for ns, grid in SHAPES:
            yield self._worst(
                f"share error, kernels of {ns // 1000} µs on {grid} blocks", cases(ns, grid, warm=warm), said
            )
        yield self._worst(
            f"share error in the first {seconds} s",
            cases(100_000, 1056, warm=0),
            "kernels of 100 µs on 1056 blocks, from idle",
        )
        yield self._worst(
            "share error, CUDA graphs",
            cases(100_000, 1056, warm=warm, mode="graph"),
            "graphs of ten such kernels",
        )
        yield self._worst(
            "share error, 4 processes",
            cases(1_000_000, 8192, warm=warm, processes=4),
            "kernels of 1 ms on 8192 blocks",
        )

    def _memory(self) -> Iterator[Row]:
        excess = Row("granted above the limit", "MiB", note="16 processes race for 1 GiB for 3 s")
        left = Row(
            "still counted after SIGKILL", "MiB", note="what cuMemGetInfo says of the 16 killed at once"
        )
        again = Row("all memory to be had again", "ms", note="from the kill")
        chaos = Row(
            "killed, stopped, forked at random",
            "MiB left",
            note="32 processes for 8 s; then one program asks for all of the memory",
        )
        race = Program("contend", ("--processes", "16", "--seconds", "3", "--bytes", str(LIMIT_BYTES)))
        storm = Program("chaos", ("--processes", "32", "--seconds", "8"), timeout_seconds=60)
        for arm in self._arms[1:]:
            self._tell(f"memory, {arm.name}")
            lines, end = self._run(arm, race)
            excess.figures[arm.name] = lines[0]["excess_bytes"] / (1 << 20) if lines else end
            left.figures[arm.name] = lines[1]["left_bytes"] / (1 << 20) if len(lines) > 1 else end
            again.figures[arm.name] = lines[1]["recovery_ms"] if len(lines) > 1 else end
            if again.figures[arm.name] == -1:
                again.figures[arm.name] = "not within 10 s"
            if self._bed.gpu is not None:
                continue
            lines, end = self._run(arm, storm)
            chaos.figures[arm.name] = lines[-1]["leaked_bytes"] / (1 << 20) if lines else end
        if self._bed.gpu is None:  # only the fake machine counts what it gave to whom
            yield excess
        yield from (left, again)
        if self._bed.gpu is None:
            yield chaos

    def _run(self, arm: Arm, program: Program) -> tuple[list[dict[str, float]], str]:
        """What the program printed, and how it ended if that was not of itself."""
        try:
            return run(self._bed, arm, program), ""
        except DidNotFinish as end:
            return end.lines, str(end)
