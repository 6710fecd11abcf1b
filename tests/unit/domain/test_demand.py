"""Which GPUs a pod accepts by their model, as HAMi judges it, and how much of them it takes up."""

from typing import Any

import pytest

from poolmgr.domain.demand import CardAsk, accepts_model
from tests.builders import pod


@pytest.mark.parametrize(
    ("model", "accepted", "excluded", "fits"),
    [
        ("NVIDIA A10", (), (), True),
        ("NVIDIA A10", ("a10",), (), True),
        ("NVIDIA A10", ("A100", "T4"), (), False),
        ("NVIDIA A10", ("A10",), ("nvidia",), False),
        ("Tesla T4", ("NVIDIA-Tesla T4",), (), True),
        ("Tesla T4", ("T4",), ("NVIDIA",), False),
        ("NVIDIA A10", ("NVIDIA-NVIDIA A10",), (), False),
    ],
)
def test_parts_of_the_name_that_hami_registers_decide(
    model: str, accepted: tuple[str, ...], excluded: tuple[str, ...], fits: bool
) -> None:
    assert accepts_model(model, accepted, excluded) is fits


CARD = 24_000


@pytest.mark.parametrize(
    ("asks", "gpus"),
    [
        ({"memory_mib": 6_000, "cores_percent": 10}, 0.25),
        ({"memory_mib": 6_000, "cores_percent": 50}, 0.5),
        ({"memory_mib": 0, "memory_percent": 30, "cores_percent": 0}, 0.3),
        ({"memory_mib": 0, "cores_percent": 0}, 1.0),
        ({"memory_mib": 12_000, "cores_percent": 20, "gpus": 4}, 2.0),
        ({"containers": (CardAsk(memory_mib=6_000), CardAsk(cores_percent=50, memory_mib=1))}, 0.75),
        ({"containers": (CardAsk(2, memory_mib=6_000, init=True), CardAsk(memory_mib=6_000))}, 0.5),
    ],
    ids=[
        "by memory",
        "by compute",
        "by a share of memory",
        "all memory unless it says less",
        "several",
        "its containers together",
        "an init container nothing beside those after it",
    ],
)
def test_a_pod_takes_up_what_it_needs_most(asks: dict[str, Any], gpus: float) -> None:
    assert pod("w", **asks).worth(CARD) == pytest.approx(gpus)


def test_of_a_card_whose_memory_is_not_known_it_takes_all() -> None:
    assert pod("w", cores_percent=10).worth(0) == 1.0
