"""Which HAMi a run is on follows from what can be had and what was chosen."""

from pathlib import Path

import pytest

from e2e.hami.edition import REAL, STAND_IN, choose
from e2e.parts import Part, PartMissing, PartRefused


def here(name: str) -> Part:
    return Part(name, "2.10.0", Path("/parts", name), "the folder /parts")


def nowhere(name: str) -> Part:
    raise PartMissing(f"{name} cannot be had here")


def damaged(name: str) -> Part:
    raise PartRefused(f"{name} is not what its checksum says")


def test_the_real_one_is_taken_where_it_can_be_had() -> None:
    edition = choose("2.10.0", "", here)
    assert edition.real
    assert edition.describe() == "HAMi 2.10.0 (real, from the folder /parts)"


def test_elsewhere_the_stand_in_takes_its_place_and_says_so() -> None:
    edition = choose("2.10.0", "", nowhere)
    assert not edition.real
    assert "not HAMi" in edition.describe()


def test_the_stand_in_is_taken_where_it_is_asked_for() -> None:
    assert not choose("2.8.3", STAND_IN, here).real


def test_a_run_that_must_be_on_the_real_one_is_on_nothing_else() -> None:
    with pytest.raises(PartRefused, match=r"POOLMGR_HAMI=real, and hami-2\.10\.0/scheduler"):
        choose("2.10.0", REAL, nowhere)


def test_a_part_that_is_not_what_it_should_be_is_not_replaced() -> None:
    with pytest.raises(PartRefused):
        choose("2.10.0", "", damaged)


def test_another_word_is_refused() -> None:
    with pytest.raises(PartRefused, match="set it to real or stand-in"):
        choose("2.10.0", "fake", here)


def test_the_stand_in_speaks_for_no_other_release() -> None:
    with pytest.raises(PartMissing, match=r"the stand-in speaks HAMi .*, not 2\.7\.0"):
        choose("2.7.0", "", nowhere)
