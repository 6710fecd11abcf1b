"""Which GPUs a pod accepts by their model, as HAMi judges it."""

import pytest

from poolmgr.domain.demand import accepts_model


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
