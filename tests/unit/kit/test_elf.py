"""Which libraries are taken for ones that the dynamic linker loads here."""

import platform
import sys
from pathlib import Path

import pytest

from poolmgr.kit.elf import MACHINES, why_not_loaded
from tests.builders import library


def test_a_program_of_this_machine_is_for_this_machine() -> None:
    assert why_not_loaded(Path(sys.executable).read_bytes(), platform.machine()) is None


@pytest.mark.parametrize("machine", MACHINES)
def test_a_library_is_for_its_own_machine_only(machine: str) -> None:
    (other,) = MACHINES.keys() - {machine}
    assert why_not_loaded(library(MACHINES[machine]), machine) is None
    said = why_not_loaded(library(MACHINES[other]), machine)
    assert said and said.startswith(f"is built for another machine than this {machine}")


def test_on_a_machine_that_nobody_builds_for_no_library_is_right() -> None:
    assert why_not_loaded(library(243), "riscv64")


@pytest.mark.parametrize(
    "content", [b"", b"#!/bin/sh\n" + b" " * 20, b"\x7fELF", b"\x7fELF".ljust(19, b"\0")]
)
def test_what_is_no_library_is_said_so(content: bytes) -> None:
    assert why_not_loaded(content, "x86_64") == "is no shared library"
