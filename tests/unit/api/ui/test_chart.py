"""The day's picture: within its frame, thinned, and with the same numbers as a table."""

import json

from poolmgr.api.ui import chart
from poolmgr.domain.census import Count
from poolmgr.domain.history import DemandSample
from tests.showcase import NOW


def day(minutes: int, **changes: float):
    count = Count(**({"gpus": 10, "passthrough": 4, "passthrough_used": 3, "shared_share": 2.5} | changes))
    return [DemandSample(NOW + 60 * i, count) for i in range(minutes)]


def points(text: str) -> list[tuple[float, float]]:
    return [tuple(float(n) for n in pair.split(",")) for pair in text.split()]


def test_too_little_history_draws_nothing() -> None:
    assert chart.draw([]) is None
    assert chart.draw(day(1)) is None


def test_sides_are_stacked_and_stay_in_the_frame() -> None:
    drawn = chart.draw(day(120))
    assert drawn is not None
    height = chart.BASE - chart.TOP
    vm_top = points(drawn.vms)[0][1]
    assert vm_top == round(chart.BASE - 0.3 * height, 1)
    assert points(drawn.containers)[0][1] == round(chart.BASE - 0.55 * height, 1)
    for text in (drawn.vms, drawn.containers, drawn.capacity, drawn.waiting):
        assert all(0 <= x <= chart.WIDTH and 0 <= y <= chart.HEIGHT for x, y in points(text))
    assert drawn.mean_percent == 55
    assert drawn.waiting_peak == 0


def test_a_week_of_minutes_is_thinned() -> None:
    drawn = chart.draw(day(7 * 24 * 60, waiting_vms=2))
    assert drawn is not None
    assert len(json.loads(drawn.points)) <= chart.MAX_POINTS
    assert drawn.waiting_peak == 2
    assert len(drawn.x_ticks) <= 9


def test_table_has_an_hour_a_row_newest_first() -> None:
    drawn = chart.draw(day(121))
    assert drawn is not None
    assert [(r.at, r.use) for r in drawn.rows] == [(NOW + 7200, "55%"), (NOW + 3600, "55%"), (NOW, "55%")]


def test_fleet_without_gpus_divides_by_nothing() -> None:
    drawn = chart.draw(day(3, gpus=0, passthrough=0, passthrough_used=0, shared_share=0))
    assert drawn is not None
    assert drawn.mean_percent == 0
