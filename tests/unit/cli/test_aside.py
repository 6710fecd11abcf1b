"""A part that a program can do without never ends it; one that it needs ends it with a sentence."""

import asyncio

import pytest

from poolmgr.cli.aside import aside, briefly, ended_by
from poolmgr.domain.errors import Fault, Unavailable
from poolmgr.domain.reasons import Reason


async def fails(error: BaseException) -> None:
    raise error


async def test_a_side_task_that_fails_costs_one_line() -> None:
    said: list[str] = []
    await aside("asking", fails(RuntimeError("no\nway")), said.append)
    assert said == ["asking stopped (RuntimeError: no way); the rest continues"]


async def test_a_side_task_is_cancelled_as_any_other() -> None:
    said: list[str] = []
    with pytest.raises(asyncio.CancelledError):
        await aside("asking", fails(asyncio.CancelledError()), said.append)
    assert said == []


def test_a_defect_in_a_part_that_is_needed_ends_in_a_sentence_with_its_cause() -> None:
    defect = KeyError("gpu")
    fault = ended_by("the demo's clock", defect)
    assert isinstance(fault, Fault)
    assert fault.message.startswith(
        "the demo's clock failed (KeyError: 'gpu'); start it again, with --verbose"
    )
    assert fault.__cause__ is defect


def test_an_error_that_has_a_sentence_keeps_it() -> None:
    down = Unavailable(Reason.INVARIANT_BROKEN, "the ledger is away")
    assert ended_by("the demo's clock", down) is down
    assert briefly(down) == "the ledger is away"
    assert briefly(TimeoutError()) == "TimeoutError"
