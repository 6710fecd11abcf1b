"""What containers that share GPUs take up."""

from typing import Any

import pytest

from poolmgr.planner.inventory.shared_fit import cards_of
from tests.unit.planner.builders import pod

CARD = 24_000


@pytest.mark.parametrize(
    ("asks", "cards"),
    [
        ({"memory_mib": 6_000, "cores_percent": 10}, 0.25),
        ({"memory_mib": 6_000, "cores_percent": 50}, 0.5),
        ({"memory_mib": 0, "memory_percent": 30, "cores_percent": 0}, 0.3),
        ({"memory_mib": 0, "cores_percent": 0}, 1.0),
        ({"memory_mib": 12_000, "cores_percent": 20, "gpus": 4}, 2.0),
    ],
    ids=["by memory", "by compute", "by a share of memory", "all memory unless it says less", "several"],
)
def test_a_pod_takes_up_what_it_needs_most(asks: dict[str, Any], cards: float) -> None:
    assert cards_of(pod("w", **asks), CARD) == pytest.approx(cards)


def test_of_a_card_whose_memory_is_not_known_it_takes_all() -> None:
    assert cards_of(pod("w", cores=10), 0) == 1.0
