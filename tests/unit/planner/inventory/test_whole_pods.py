"""Pods of several parts on the cards of one node."""

import pytest

from poolmgr.domain.demand import CardAsk
from poolmgr.planner.inventory.whole_pods import Card, place_whole


def card(row: int, memory: int = 100, cores: int = 100, slots: int = 10, size: int = 100) -> Card:
    return Card(row, size, memory, cores, slots, empty=memory == size and cores == 100)


def memory_after(cards: list[Card], *asks: CardAsk) -> list[int] | None:
    left = place_whole(cards, asks)
    return [card.memory_mib for card in left] if left is not None else None


@pytest.mark.parametrize(
    ("asks", "after"),
    [
        ((CardAsk(2, 30),), [70, 70]),
        ((CardAsk(1, 60), CardAsk(1, 60)), [40, 40]),
        ((CardAsk(1, 50), CardAsk(2, 50)), [0, 50]),
        ((CardAsk(3, 10),), None),
        ((CardAsk(2, memory_percent=50),), [50, 50]),
        ((CardAsk(2),), [0, 0]),  # whole cards
        ((CardAsk(1, 100, init=True), CardAsk(1, 100)), [100, 0]),
        ((CardAsk(3, 10, init=True), CardAsk(1, 10)), None),
        ((CardAsk(2, 10, 0, 100), CardAsk(1, 10)), None),  # all compute of both is used up
    ],
)
def test_two_empty_cards(asks: tuple[CardAsk, ...], after: list[int] | None) -> None:
    found = memory_after([card(0), card(1)], *asks)
    assert (sorted(found) if found is not None else None) == (sorted(after) if after is not None else None)


def test_a_card_that_is_in_use_serves_no_exclusive_container() -> None:
    assert place_whole([card(0, memory=90)], [CardAsk(1, 10, 0, 100)]) is None


def test_a_card_without_slots_or_compute_serves_nobody() -> None:
    assert place_whole([card(0, slots=0)], [CardAsk(1, 1)]) is None
    assert place_whole([card(0, cores=0)], [CardAsk(1, 1)]) is None


def test_what_is_said_to_fit_fits_in_either_order_of_cards() -> None:
    """Emptiest first, the small one takes the only card on which the large one would fit."""
    cards = [card(0, memory=40), card(1)]
    assert place_whole(cards, [CardAsk(1, 30), CardAsk(1, 90)]) is None
    assert place_whole(cards, [CardAsk(1, 90), CardAsk(1, 30)]) is not None
