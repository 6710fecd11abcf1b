"""What a waiting workload may come to take up of pools; `tests/unit/webhooks/test_pod_demand.py` holds admission to it."""

import pytest

from poolmgr.domain.charge import accepts_one_of, charge_of_slices, charge_of_whole, reached
from poolmgr.domain.demand import CardAsk
from poolmgr.domain.identifiers import GpuUuid, PoolName

A, B = GpuUuid("GPU-a"), GpuUuid("GPU-b")
P, Q = PoolName("p"), PoolName("q")


@pytest.mark.parametrize(
    ("there", "allowed", "excluded", "accepted"),
    [
        ([A], (), (), True),
        ([], (), (), True),
        ([A], (), (A,), True),  # others of the model may come
        ([A], (A, B), (), True),
        ([A], (B,), (), False),
        ([A, B], (A, B), (A,), True),
        ([A], (A, B), (A,), False),
    ],
)
def test_a_pod_that_names_its_gpus_is_held_to_them(
    there: list[GpuUuid], allowed: tuple[GpuUuid, ...], excluded: tuple[GpuUuid, ...], accepted: bool
) -> None:
    found = accepts_one_of(
        "NVIDIA A10", there, models=(), excluded_models=(), allowed_uuids=allowed, excluded_uuids=excluded
    )
    assert found is accepted


def test_a_pod_accepts_no_gpu_of_a_model_that_it_excludes() -> None:
    accepted = accepts_one_of(
        "NVIDIA A10", [A], models=(), excluded_models=("A10",), allowed_uuids=(A,), excluded_uuids=()
    )
    assert accepted is False


def test_of_several_pools_those_that_admit_it_and_all_where_none_is_known_to() -> None:
    kinds = [(P, "A10"), (Q, "A10"), (Q, "T4")]
    assert reached(kinds, lambda kind: kind[0], lambda kind: kind == (Q, "T4")) == [(Q, "T4")]
    assert reached(kinds, lambda kind: kind[0], lambda kind: False) == kinds
    assert reached(kinds[1:], lambda kind: kind[0], lambda kind: kind == (Q, "T4")) == kinds[1:]


def test_slices_count_by_the_card_of_which_they_take_the_largest_part() -> None:
    asks = [CardAsk(1, memory_mib=6_000), CardAsk(1, memory_mib=6_000, init=True)]
    assert charge_of_slices(asks, [(P, 24_000), (P, 12_000), (Q, 24_000)]) == {P: 0.5, Q: 0.25}


def test_every_claim_counts_in_each_of_its_pools_once() -> None:
    assert charge_of_whole([(2, [P, P, Q]), (1, [P])]) == {P: 3.0, Q: 2.0}
