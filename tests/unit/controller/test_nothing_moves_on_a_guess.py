"""No GPU that is truly used moves while one witness could have told, or could not be asked.

Worlds come from `tests/guesses`: any subset of witnesses is silent, unreadable or contradicts the others, and the real agent,
wire, snapshot, planner, guard and executor work on them. Beside worlds that are drawn as they come there is a case for each
witness, for whatever cannot be read, and for each moment at which a use may begin. `tools/mutate/planted.py` plants a mistake
for each, which this has to find.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings

from tests.guesses.play import play
from tests.guesses.world import ANYTHING, CASES, Case, Tally, World, worlds
from tools.mutate.planted import FREE, UNHEARD, Planted, is_found

pytestmark = pytest.mark.long

ONE_OF_EACH = (UNHEARD[0], FREE[0])
"""`python -m tools.mutate witnesses` plants them all, which takes as long as everything else here together."""

ENOUGH = 0.8
"""Of the GPUs that nobody uses, where everybody can be asked and agrees: so many at least are planned for a move."""


@pytest.mark.hypothesis
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_nothing_that_is_used_is_planned_closed_or_unbound(
    case: Case, record_property: Callable[[str, Any], None]
) -> None:
    tally = Tally()
    # One of them takes as long as a hundred elsewhere.
    share = 2 if case is ANYTHING else 5 if case.arrives is not None else 20

    @settings(max_examples=settings().max_examples // share)
    @given(worlds(case))
    def holds(world: World) -> None:
        outcome, broken = play(world)
        tally.count(world, outcome.planned, outcome.arrived)
        assert not broken, broken

    holds()
    record_property("points", str(tally))
    if case is ANYTHING:
        assert tally.moved >= ENOUGH * tally.free > 0, tally
        assert tally.moving >= tally.worlds / 10, tally
    if case.arrives is not None:
        assert tally.arrived > 0, tally


@pytest.mark.sweep
@pytest.mark.parametrize("mistake", ONE_OF_EACH, ids=[mistake.name for mistake in ONE_OF_EACH])
def test_a_mistake_that_is_planted_in_the_product_is_found(mistake: Planted) -> None:
    assert is_found(mistake)
