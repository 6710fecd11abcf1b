"""Packing and fragmentation, on figures that one can work out by hand."""

import numpy as np
import pytest

from bench.packing.fragments import Fragments, typical
from bench.packing.packing import POLICIES, PUBLISHED, allocated_at_capacity
from bench.scenarios.traces import PodTable, TraceNode

HALF = (1_000, 1, 500, "")
WHOLE = (1_000, 1, 1_000, "")


def measure(*shapes: tuple[int, int, int, str]) -> Fragments:
    return Fragments.of(typical(list(shapes)), ("A", "B"))


def row(*left: int) -> np.ndarray:
    return np.array([left])


def amount(of: Fragments, left: np.ndarray, cpu: float = 64_000.0, model: int = 0) -> float:
    return float(of.amount(np.array([cpu]), left, np.array([model]))[0])


def test_popular_shapes_alone_are_typical_and_their_shares_sum_to_one() -> None:
    chosen = typical([HALF] * 60 + [WHOLE] * 36 + [(1, 8, 1_000, "")] * 4)
    assert [shape for shape, _ in chosen] == [HALF, WHOLE]
    assert sum(share for _, share in chosen) == pytest.approx(1.0)


def test_what_a_typical_pod_could_use_is_no_fragment() -> None:
    assert amount(measure(HALF), row(500, 1_000)) == 0
    assert amount(measure(HALF), row(400, 1_000)) == 400
    assert amount(measure(WHOLE), row(400, 500)) == 900
    assert amount(measure(HALF, WHOLE), row(500, 1_000)) == pytest.approx(250)


def test_everything_is_a_fragment_where_cpu_or_model_does_not_suit() -> None:
    assert amount(measure(HALF), row(1_000, 1_000), cpu=500.0) == 2_000
    assert amount(measure((1_000, 1, 500, "B")), row(1_000, 1_000)) == 2_000
    assert amount(measure((1_000, 1, 500, "B")), row(1_000, 1_000), model=1) == 0


def test_share_goes_to_the_gpu_where_it_leaves_least_over() -> None:
    scores, cards = measure(HALF, WHOLE).score(
        np.array([64_000.0]), row(1_000, 500, 700), np.array([0]), 1_000, 1, 500
    )
    assert cards.tolist() == [1]
    assert scores[0] > 50


def nodes(count: int) -> list[TraceNode]:
    return [TraceNode(f"n{n}", 4, "A", 64_000, 262_144) for n in range(count)]


def pods(count: int, seed: int) -> PodTable:
    chance = np.random.default_rng(seed)
    milli = chance.choice([300, 500, 700, 1_000], count)
    ones = np.ones(count, dtype=np.int64)
    return PodTable(
        np.full(count, np.nan),
        np.full(count, np.nan),
        ones,
        milli,
        ones > 0,
        2_000 * ones,
        4_096 * ones,
        ("",) * count,
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_no_policy_allocates_more_than_there_is_and_equal_seeds_give_equal_figures(policy: str) -> None:
    first, again = (allocated_at_capacity(nodes(12), pods(120, 1), policy, 5) for _ in range(2))
    assert first == again
    assert 60.0 < first["allocated"] <= 100.0


def test_least_fragmentation_packs_better_than_chance() -> None:
    runs = {
        p: np.mean([allocated_at_capacity(nodes(12), pods(120, s), p, s)["allocated"] for s in range(4)])
        for p in ("FGD", "Random")
    }
    assert runs["FGD"] > runs["Random"] + 2


def test_every_published_policy_can_be_run() -> None:
    assert {policy for _, policy in PUBLISHED} == set(POLICIES)
