"""Runs the tests of one module on each of its mutants, as a plugin of one pytest process.

Everything is imported and collected once. Each mutant is tried in a fork of that process: there the code of the
changed functions is put in place of the original's, and the tests that run the changed lines are run until one fails.
What stands outside functions (constants, defaults, classes) is made at import, so such a mutant is tried by a pytest
of its own that imports it. A mutant whose tests do not end counts as killed.
"""

import ast
import contextlib
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest

from tools.mutate.operators import Mutant, mutants

CPU_SECONDS = 0.5
"""How much CPU time a test may use on a mutant beyond three times what it takes without it, its lines being traced: a
mutant that loops uses it up. Not wall-clock time, which says nothing on a busy machine."""
STUCK_SECONDS = 1800.0
"""Wall-clock time after which a mutant that is imported anew is given up."""
STILL_SECONDS = 30.0
"""How long the processes of a mutant all sleep, and use no CPU time, until it is taken to wait for ever: unit tests sleep
for nothing. One that waits for a processor does not sleep, so a busy machine ends nobody."""
MEMORY_BYTES = 2 * 2**30
"""How much memory a mutant's process may allocate: tests that fill a limit to the brim fill a mutant's limit as well, and
2**20 may have become 3**20. What asks for more gets a MemoryError, which fails the test."""
PLANTED = "POOLMGR_MUTATE_PLANTED"
"""Names the file that has the changed modules of a process, as pickled (path, source)."""


class Runner:
    """The plugin: takes the place of pytest's own loop over the tests."""

    def __init__(self, path: Path, results: Path) -> None:
        self._path = path.resolve()
        self._source = path.read_text()
        self._results = results
        self._functions: list[FunctionType] = []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("the tests cannot be collected")
        lines, seconds = self._lines_of_tests(session)
        self._functions = [
            o
            for o in gc.get_objects()
            if isinstance(o, FunctionType) and o.__code__.co_filename == str(self._path)
        ]
        gc.freeze()  # no fork need look at what all of them share, nor copy its pages
        with self._results.open("w") as out:
            for mutant in mutants(self._source):
                items = [i for i in session.items if self._concerns(mutant, lines[i.nodeid])]
                items.sort(key=lambda i: seconds[i.nodeid])
                tests = [(i, 3 * seconds[i.nodeid] + CPU_SECONDS) for i in items]
                if not items:
                    outcome = "survived, no test runs it"
                elif mutant.in_function:
                    outcome = in_fork(lambda mutant=mutant, tests=tests: self._try(mutant, tests))
                else:
                    outcome = self._import_anew(mutant, session)
                row = {
                    "function": mutant.function,
                    "line": mutant.line,
                    "change": mutant.change,
                    "tests": len(items),
                    "outcome": outcome,
                }
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
                out.flush()
        return True

    @staticmethod
    def _concerns(mutant: Mutant, lines: frozenset[int]) -> bool:
        return not mutant.in_function or any(n in lines for n in range(mutant.line, mutant.last_line + 1))

    def _lines_of_tests(self, session: pytest.Session) -> tuple[dict[str, frozenset[int]], dict[str, float]]:
        """Which lines of the module each test runs, and how long it takes. All of them pass."""
        lines: dict[str, frozenset[int]] = {}
        seconds: dict[str, float] = {}
        for item in session.items:
            begun = time.process_time()
            with _trace(str(self._path)) as hit:
                if not _passes(item):
                    raise session.Interrupted(f"{item.nodeid} fails without any mutant")
            lines[item.nodeid], seconds[item.nodeid] = frozenset(hit), time.process_time() - begun
        return lines, seconds

    def _try(self, mutant: Mutant, tests: list[tuple[pytest.Item, float]]) -> bool:
        """In the fork: whether one of `tests`, with the CPU seconds that each may use, fails."""
        changed = dict(_codes(compile(mutant.tree, str(self._path), "exec")))
        for function in self._functions:
            code = function.__code__
            new = changed.get((code.co_qualname, code.co_firstlineno))
            if new is not None and len(new.co_freevars) == len(code.co_freevars):
                function.__code__ = new
        return not all(_passes_within(item, cpu_seconds) for item, cpu_seconds in tests)

    def _import_anew(self, mutant: Mutant, session: pytest.Session) -> str:
        with tempfile.NamedTemporaryFile(suffix=".pickle") as file:
            file.write(pickle.dumps([(str(self._path), ast.unparse(mutant.tree))]))
            file.flush()
            command = [sys.executable, "-m", "pytest", "-p", "tools.mutate.runner", "-x", "-q", *QUIET]
            try:
                ended = subprocess.run(
                    [*command, *session.config.args],
                    env={**os.environ, PLANTED: file.name},
                    capture_output=True,
                    check=False,
                    timeout=STUCK_SECONDS,
                )
            except subprocess.TimeoutExpired:
                return "killed, did not end"
        return "survived" if ended.returncode == 0 else "killed"


QUIET = (
    "-p",
    "no:schemathesis",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
    "-m",
    "not sweep",
)


def _passes(item: pytest.Item) -> bool:
    """Runs one test with its fixtures."""
    from _pytest.runner import runtestprotocol

    reports = runtestprotocol(item, log=False, nextitem=None)
    return not any(report.failed for report in reports)


def limit_cpu(seconds: float) -> None:
    """From now on this process may use so much CPU time; then it dies, until it is given more."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)


def limit_memory(most: int = MEMORY_BYTES) -> None:
    """From now on this process may allocate `most` bytes in all."""
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _passes_within(item: pytest.Item, cpu_seconds: float) -> bool:
    limit_cpu(cpu_seconds)
    return _passes(item)


def in_fork(attempt: Any, still_seconds: float = STILL_SECONDS) -> str:
    """`attempt` in a child of this process: what came of the mutant.

    It is given up where the child dies, or once all of its processes have slept for `still_seconds`."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        found = True
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        try:
            limit_memory()
            found = attempt()
        except BaseException:  # noqa: BLE001 - a mutant may end the run in any way
            pass
        finally:
            os.write(write, b"k" if found else b"s")
            os._exit(0)
    os.close(write)
    answer = b"t" if _waits_for_ever(child, read, still_seconds) else os.read(read, 1)
    os.close(read)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return {b"k": "killed", b"s": "survived"}.get(answer, "killed, did not end")


def _waits_for_ever(group: int, answer: int, still_seconds: float) -> bool:
    """Returns once there is an answer to read, or the processes of the group have all slept for too long."""
    used, since = 0, time.monotonic()
    while not select.select([answer], [], [], 0.2)[0]:
        asleep, now_used = _at_rest(group)
        if not asleep or now_used != used:
            used, since = now_used, time.monotonic()
        elif time.monotonic() - since > still_seconds:
            return True
    return False


def _at_rest(group: int) -> tuple[bool, int]:
    """Whether all processes of the group sleep, and the CPU time that they have used, in ticks."""
    asleep, used = True, 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp, *rest = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        if int(pgrp) == group:
            asleep = asleep and state in "SZ"
            used += int(rest[8]) + int(rest[9])
    return asleep, used


def _codes(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    """Every function's code in a module's, by qualified name and line."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield (constant.co_qualname, constant.co_firstlineno), constant
            yield from _codes(constant)


@contextlib.contextmanager
def _trace(filename: str) -> Iterator[set[int]]:
    """Collects the lines of one file that run, in all of this thread's frames."""
    hit: set[int] = set()

    def local(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            hit.add(frame.f_lineno)
        return local

    def begin(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != filename:
            return None
        hit.add(frame.f_lineno)
        return local

    sys.settrace(begin)
    try:
        yield hit
    finally:
        sys.settrace(None)


class _Planted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one file from a changed source."""

    def __init__(self, path: str, source: str) -> None:
        self._path, self._source = path, source

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.origin != self._path:
            return None
        return importlib.util.spec_from_file_location(name, self._path, loader=self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, self._path, "exec"), module.__dict__)


if PLANTED in os.environ:
    limit_memory()
    for changed in pickle.loads(Path(os.environ[PLANTED]).read_bytes()):
        sys.meta_path.insert(0, _Planted(*changed))
