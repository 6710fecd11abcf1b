"""Mutants are found where a mistake would matter, and told apart from what no test has to notice."""

import os
import signal
import textwrap

import pytest

from tools.mutate.explained import explained
from tools.mutate.operators import mutants
from tools.mutate.runner import MEMORY_BYTES, in_fork, limit_cpu
from tools.mutate.targets import ROOT, TARGETS

pytestmark = pytest.mark.long


def changes(source: str) -> set[str]:
    return {mutant.change for mutant in mutants(textwrap.dedent(source))}


def test_a_condition_is_weakened_and_turned() -> None:
    assert changes("def f(a, b):\n    if a < 3 and not b:\n        return a\n") == {
        "a < 3 → a <= 3",
        "3 → 4",
        "not b → b",
        "a < 3 and (not b) → a < 3",
        "a < 3 and (not b) → not b",
        "a < 3 and (not b) → a < 3 or not b",
        "return a → return None",
    }


def test_statements_are_left_out() -> None:
    found = changes("def f(self):\n    self.held = None\n    self.stop()\n    raise ValueError\n")
    assert found == {"self.held = None → pass", "self.stop() → pass", "raise ValueError → pass"}


def test_a_filter_is_dropped() -> None:
    assert "[x for x in xs if x.ready] → [x for x in xs]" in changes("ys = [x for x in xs if x.ready]")


def test_sentences_logs_and_annotations_are_left_alone() -> None:
    assert not changes(
        'def f(x: "int | None") -> None:\n    """Text."""\n    log.info("one")\n    assert x\n    y = "two"\n'
    )


def test_what_stands_outside_functions_is_told_apart() -> None:
    found = list(mutants("LIMIT = 5\n\ndef f(n=1):\n    return n + 2\n"))
    assert {m.change for m in found if not m.in_function} == {"5 → 6", "1 → 2"}


def test_every_target_has_modules_and_tests() -> None:
    for target in TARGETS.values():
        assert target.files()
        assert all((ROOT / tests).exists() for tests in target.tests)


def test_what_is_explained_is_a_mutant_still() -> None:
    now: dict[str, set[tuple[str, str]]] = {}
    for module, function, change in explained():
        if module not in now:
            now[module] = {(m.function, m.change) for m in mutants((ROOT / module).read_text())}
        assert (function, change) in now[module], f"{module}: {function}: {change}"


def test_a_mutant_is_given_up_when_its_tests_wait_for_ever_or_loop() -> None:
    def leave_a_sleeper_and_wait() -> bool:
        if os.fork() == 0:
            signal.pause()
        os.wait()
        return False

    def loop() -> bool:
        limit_cpu(0.1)
        while True:
            pass

    assert in_fork(leave_a_sleeper_and_wait, still_seconds=0.2) == "killed, did not end"
    assert in_fork(loop) == "killed, did not end"
    assert in_fork(lambda: True) == "killed"
    assert in_fork(lambda: False) == "survived"


def test_a_mutant_that_fills_the_memory_is_killed_before_it_does() -> None:
    def fill() -> bool:
        try:
            bytearray(MEMORY_BYTES)  # zeroed by the kernel when touched: costs nothing where it is granted
        except MemoryError:
            return True
        return False

    assert in_fork(fill) == "killed"
