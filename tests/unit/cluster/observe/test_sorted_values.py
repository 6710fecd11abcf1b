"""Values handed out in key order."""

from hypothesis import given
from hypothesis import strategies as st

from poolmgr.cluster.observe.sorted_values import SortedValues

CHANGES = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.one_of(st.none(), st.integers(0, 3)), st.booleans())
)


@given(CHANGES)
def test_follows_a_sorted_dict_through_any_changes(changes: list[tuple[str, int | None, bool]]) -> None:
    values: SortedValues[int] = SortedValues()
    plain: dict[str, int] = {}
    for key, value, look in changes:
        before = plain.get(key)
        if value is None:
            plain.pop(key, None)
        else:
            plain[key] = value
        assert values.put(key, value) is (before != value)
        if look:
            assert values.tuple() == tuple(plain[k] for k in sorted(plain))
    assert values.tuple() == tuple(plain[k] for k in sorted(plain))


def test_same_tuple_is_handed_out_while_nothing_changes() -> None:
    values: SortedValues[str] = SortedValues()
    values.put("a", "x")
    first = values.tuple()
    values.put("a", "x")
    assert values.tuple() is first
