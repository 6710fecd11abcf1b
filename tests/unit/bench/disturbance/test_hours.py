"""Hours of trouble on the simulated fleet: the bound of disturbance holds, and so do the promises, at each second."""

import pytest

from bench.disturbance.hours import Hours

pytestmark = pytest.mark.long


@pytest.mark.parametrize("hami", [(2, 10), (2, 8)], ids=["hami-2.10", "hami-2.8"])
async def test_every_node_stays_within_its_bound(hami) -> None:
    costs = await Hours(3, seed=1, hami=hami).run(2)
    assert all(cost.within_bounds for cost in costs), [cost.row() for cost in costs]
    assert sum(sum(cost.stops) for cost in costs) > 0, "something moved"
    assert sum(sum(cost.silent) for cost in costs) > 1_000, "agents were silent"
