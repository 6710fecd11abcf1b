"""What is promised over time: nothing twice, and what is said to be free is free."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from poolmgr.domain.calendar import Calendar, Capacity, Profile, capacity_of, judge
from poolmgr.domain.fleet import Quota, SideLimits
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.domain.reservation import Holders, Reservation, Window
from tests.builders import A10, pool

SIX = Capacity(6, {Mode.PASSTHROUGH: 4, Mode.SHARED: 6}, {"ml": 3.0})
windows = st.tuples(st.integers(0, 40), st.integers(1, 15)).map(lambda w: Window(w[0], w[0] + w[1]))


def wanted(*at: Window, gpus: int = 1, **over: Any) -> Reservation:
    values: dict[str, Any] = {"namespace": "ml", "name": "r", "mode": Mode.PASSTHROUGH, **over}
    return Reservation(
        values["namespace"],
        values["name"],
        A10,
        gpus,
        values["mode"],
        at or (Window(10, 20),),
        Holders(frozenset({values["namespace"]})),
        created_at=values.get("created_at", 0.0),
    )


def reservations() -> st.SearchStrategy[list[Reservation]]:
    one = st.builds(
        lambda window, gpus, mode, namespace, number: wanted(
            window, gpus=gpus, mode=mode, namespace=namespace, name=f"r{number}", created_at=number
        ),
        windows,
        st.integers(1, 5),
        st.sampled_from(Mode),
        st.sampled_from(["ml", "cad"]),
        st.integers(0, 99),
    )
    return st.lists(one, max_size=12, unique_by=lambda r: r.key)


@given(st.lists(st.tuples(windows, st.integers(1, 4)), max_size=10), windows)
def test_the_most_at_any_moment_is_what_counting_each_moment_gives(
    added: list[tuple[Window, int]], asked: Window
) -> None:
    profile = Profile()
    for window, gpus in added:
        profile.add(window, gpus)
    moments = range(int(asked.starts_at), int(asked.ends_at))
    counted = [sum(gpus for window, gpus in added if window[0] <= at < window[1]) for at in moments]
    assert profile.most(asked) == max(counted)


@given(reservations())
def test_whatever_is_promised_can_be_kept_at_every_moment(made: list[Reservation]) -> None:
    verdicts = judge(made, {A10.casefold(): SIX}, now=0.0)
    kept = [r for r in made if verdicts[r.key]]
    for at in range(60):
        now = [r for r in kept if r.windows[0][0] <= at < r.windows[0][1]]
        assert sum(r.gpus for r in now) <= 6
        assert sum(r.gpus for r in now if r.mode is Mode.PASSTHROUGH) <= 4
        assert sum(r.gpus for r in now if r.namespace == "ml") <= 3


@given(reservations(), st.integers(1, 3))
def test_a_window_that_is_named_as_free_can_be_had(made: list[Reservation], gpus: int) -> None:
    calendar = Calendar(SIX)
    verdicts = judge(made, {A10.casefold(): SIX}, now=0.0)
    for reservation in sorted(made, key=lambda r: (r.created_at, r.key)):
        if verdicts[reservation.key]:
            calendar.add(reservation)
    asked = wanted(Window(5, 12), gpus=gpus)
    free = calendar.free_windows(asked, asked.windows[0], now=0.0)
    assert free, "after the last reservation everything is free"
    for window in free:
        assert calendar.verdict(wanted(window, gpus=gpus), now=0.0)


def test_those_made_first_are_promised_whatever_their_names() -> None:
    first, second = wanted(gpus=3, name="z", created_at=1.0), wanted(gpus=1, name="a", created_at=2.0)
    verdicts = judge([second, first], {A10.casefold(): SIX}, now=0.0)
    assert verdicts["ml/z"]
    assert verdicts["ml/a"].reason is Reason.RESERVATION_CONFLICT


def test_a_window_that_is_over_conflicts_with_nothing() -> None:
    calendar = Calendar(SIX)
    calendar.add(wanted(Window(0, 100), gpus=4, namespace="cad"))
    course = wanted(Window(50, 60), Window(200, 210), gpus=2, namespace="cad")
    assert not calendar.verdict(course, now=55.0)
    assert calendar.verdict(course, now=60.0)


def test_a_model_that_nobody_has_can_not_be_promised() -> None:
    assert judge([wanted()], {}, now=0.0)["ml/r"].reason is Reason.AT_MAXIMUM


def test_capacity_is_what_pools_let_be_in_a_mode_and_what_their_quotas_leave() -> None:
    small = pool("small", passthrough=SideLimits(max=1), quotas=(Quota("ml", 0.5), Quota("cad", weight=2.0)))
    found = capacity_of({small: 4, pool("large"): 8})
    assert found == Capacity(12, {Mode.PASSTHROUGH: 9, Mode.SHARED: 12}, {"ml": 8.5})
