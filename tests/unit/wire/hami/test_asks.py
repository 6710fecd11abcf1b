"""What a container asks for: read once, for manager and webhook."""

import pytest

from poolmgr.wire.hami.asks import Ask, ask_of
from poolmgr.wire.hami.config import HamiConfig

CONFIG = HamiConfig(memory_factor=10, default_memory=500, default_cores=20, default_count=2)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"cpu": "1"}, None),
        ({"nvidia.com/gpu": "0", "nvidia.com/gpumem": "300"}, None),
        ({"nvidia.com/gpu": "1"}, Ask(1, 5_000, 0, 20)),
        ({"nvidia.com/gpumem": "300"}, Ask(2, 3_000, 0, 20)),
        ({"nvidia.com/gpu": "3", "nvidia.com/gpumem-percentage": "40"}, Ask(3, 0, 40, 20)),
        ({"nvidia.com/gpu": 1, "nvidia.com/gpumem": "3k", "nvidia.com/gpucores": "0"}, Ask(1, 30_000, 0, 0)),
    ],
)
def test_resources_and_defaults_make_an_ask(asked: dict[str, str | int], found: Ask | None) -> None:
    assert ask_of({}, asked, CONFIG) == ask_of(asked, {}, CONFIG) == found


def test_limits_count_where_requests_differ() -> None:
    found = ask_of({"nvidia.com/gpu": "2"}, {"nvidia.com/gpu": "1"}, HamiConfig())
    assert found == Ask(1, 0, 0, 0)


def test_text_that_is_no_quantity_is_refused() -> None:
    with pytest.raises(ValueError, match="not a Kubernetes quantity"):
        ask_of({}, {"nvidia.com/gpu": "many"}, HamiConfig())
