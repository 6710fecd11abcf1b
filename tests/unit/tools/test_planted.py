"""Planted mistakes: one for each witness, and one for each place that could take what it cannot tell for free."""

import pytest

from tests.guesses.world import CASES, Witness
from tools.mutate.planted import FREE, PLANTED, UNHEARD, Planted, planted_sources


def test_every_witness_has_a_mistake_of_its_own() -> None:
    assert [mistake.case for mistake in UNHEARD] == [witness.name for witness in Witness]


def test_whatever_cannot_be_asked_and_every_moment_has_one() -> None:
    others = {case.name for case in CASES if case.dark or case.arrives is not None}
    missing = others - {mistake.case for mistake in FREE}
    assert missing == {"no NVML", "at Drain"}, (
        "NVML's parts have one each; what is asked at Drain is asked at Fence"
    )


@pytest.mark.parametrize("mistake", PLANTED, ids=[mistake.name for mistake in PLANTED])
def test_a_mistake_changes_what_is_there_and_can_still_be_read_by_python(mistake: Planted) -> None:
    for path, source in planted_sources(mistake):
        compile(source, path, "exec")
