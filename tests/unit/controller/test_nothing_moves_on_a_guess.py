"""No GPU that is truly used moves while one witness could have told, or could not be asked.

Worlds come from `tests/guesses`: any subset of witnesses is silent, unreadable or contradicts the others, and the real agent,
wire, snapshot, planner, guard and executor work on them.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings

from poolmgr.agent.preflight import OK
from tests.guesses.play import play
from tests.guesses.world import Tally, Witness, World, worlds

pytestmark = pytest.mark.long

ENOUGH = 0.8
"""Of the GPUs that nobody uses, where everybody can be asked and agrees: so many at least are planned for a move. The rest
stand beside one whose user nobody can place, or that has the node's console."""

SEARCH = settings(
    max_examples=2_000,
    phases=[Phase.generate],
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
"""Until the first world that shows the mistake."""


@pytest.mark.hypothesis
def test_nothing_that_is_used_is_planned_closed_or_unbound(
    record_property: Callable[[str, Any], None],
) -> None:
    tally = Tally()

    @settings(max_examples=settings().max_examples // 2)  # one of them takes as long as a hundred elsewhere
    @given(worlds())
    def holds(world: World) -> None:
        outcome, broken = play(world)
        tally.count(world, outcome.planned)
        assert not broken, broken

    holds()
    record_property("points", str(tally))
    assert tally.moved >= ENOUGH * tally.free > 0, tally
    assert tally.moving >= tally.worlds / 10, tally


@pytest.mark.sweep
@pytest.mark.parametrize("witness", Witness)
def test_a_witness_whom_nobody_heeds_is_missed(witness: Witness) -> None:
    """A planted mistake for each: what it tells goes unheard, and the same worlds show a used GPU that moves."""
    find(worlds(witness), lambda world: bool(play(world, witness)[1]), settings=SEARCH)


def nobody_doubts(*args: Any) -> dict[str, str]:
    return {}


@pytest.mark.sweep
def test_unknown_that_counts_as_free_at_the_agent_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted in the rule itself."""
    monkeypatch.setattr("poolmgr.agent.decisions.check_evidence", lambda seen: OK)
    find(worlds(), lambda world: world.hangs_on_the_dark and bool(play(world)[1]), settings=SEARCH)


@pytest.mark.sweep
def test_unknown_that_counts_as_free_at_the_manager_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolmgr.domain.occupancy.doubts_of", lambda node, unplaced: {})
    find(worlds(Witness.REQUEST), lambda world: bool(play(world)[1]), settings=SEARCH)
