"""Directives as annotations: whatever is written is read again, by hand or from Git the lists alone are enough."""

from hypothesis import given
from hypothesis import strategies as st

from poolmgr.domain.directives import NO_DIRECTIVES, Directives, Note
from poolmgr.domain.modes import Mode
from poolmgr.wire.annotations import DRAIN_TO, OPERATOR_NOTES, QUARANTINED_GPUS
from poolmgr.wire.directives import DIRECTIVES, annotations_of, directives_of

names = st.frozensets(st.sampled_from(["all", "0000:3b:00.0", "0000:5e:00.0"]))
notes = st.dictionaries(
    st.sampled_from(["cordon:all", "quarantine:0000:3b:00.0", "drain"]),
    st.builds(Note, st.text(), st.text(), st.integers(0, 4_000_000_000).map(float)),
).map(lambda found: tuple(sorted(found.items())))


@given(st.builds(Directives, names, names, st.sampled_from([None, *Mode]), names, notes))
def test_what_is_written_is_read_again(directives: Directives) -> None:
    written = annotations_of(directives)
    assert set(written) == set(DIRECTIVES), "each is named, so that a directive that ended goes"
    assert directives_of({name: text for name, text in written.items() if text is not None}) == directives


def test_by_hand_the_list_alone_is_enough() -> None:
    found = directives_of({QUARANTINED_GPUS: " 0000:3B:00.0, ", DRAIN_TO: "shared"})
    assert found == Directives(quarantined=frozenset({"0000:3b:00.0"}), drain_to=Mode.SHARED)


@given(st.dictionaries(st.sampled_from(DIRECTIVES), st.text() | st.just('{"drain":' * 5_000)))
def test_whatever_somebody_wrote_is_read_without_an_error(annotations: dict[str, str]) -> None:
    found = directives_of(annotations)
    assert found.drain_to in (None, *Mode)
    assert directives_of({}) is NO_DIRECTIVES
    assert directives_of({OPERATOR_NOTES: "[]"}).notes == ()
