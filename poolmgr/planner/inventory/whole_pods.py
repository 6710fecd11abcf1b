"""Pods whose containers ask for several cards, or several of whose containers ask: do they fit on one node, whole?

HAMi places one container after the other, each on distinct cards, and does not go back. In which order it looks at cards
is a setting that is not known here (`gpuSchedulerPolicy`), so a pod fits only where it does in either order. What an init
container had is there again for those after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from poolmgr.domain.demand import CardAsk

FULL_CORES = 100


@dataclass(frozen=True, slots=True)
class Card:
    """What a shared GPU has left."""

    row: int
    """Names it to the caller."""
    size_mib: int
    """Of the whole card, as HAMi counts it."""
    memory_mib: int
    cores: int
    slots: int
    empty: bool

    def takes(self, ask: CardAsk) -> bool:
        """As HAMi decides on one card."""
        if self.slots < 1 or self.memory_mib < ask.memory_on(self.size_mib) or self.cores < ask.cores_percent:
            return False
        if ask.cores_percent >= FULL_CORES and not self.empty:
            return False
        return bool(ask.cores_percent) or self.cores > 0

    def after(self, ask: CardAsk) -> "Card":
        return replace(
            self,
            memory_mib=self.memory_mib - ask.memory_on(self.size_mib),
            cores=self.cores - ask.cores_percent,
            slots=self.slots - 1,
            empty=False,
        )


def place_whole(cards: Sequence[Card], asks: Sequence[CardAsk]) -> list[Card] | None:
    """The cards as they are once the pod is there; None where it does not fit whole."""
    if _placed(cards, asks, fullest_first=True) is None:
        return None
    return _placed(cards, asks, fullest_first=False)


def _placed(cards: Sequence[Card], asks: Sequence[CardAsk], *, fullest_first: bool) -> list[Card] | None:
    for ask in asks:
        if ask.init and _after(list(cards), ask, fullest_first) is None:
            return None
    left: list[Card] | None = list(cards)
    for ask in asks:
        if not ask.init and left is not None:
            left = _after(left, ask, fullest_first)
    return left


def _after(cards: list[Card], ask: CardAsk, fullest_first: bool) -> list[Card] | None:
    order = sorted(cards, key=lambda card: (card.memory_mib if fullest_first else -card.memory_mib, card.row))
    chosen = {card.row: card.after(ask) for card in [c for c in order if c.takes(ask)][: ask.cards]}
    if len(chosen) < ask.cards:
        return None
    return [chosen.get(card.row, card) for card in cards]
