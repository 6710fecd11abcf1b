"""The collector comes back on, whatever happens, and is left off where it was off."""

import gc

import pytest

from poolmgr.planner.collector import collector_paused


def test_collector_is_off_within_and_on_afterwards() -> None:
    with collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_collector_is_on_again_after_an_error() -> None:
    with pytest.raises(RuntimeError), collector_paused():
        raise RuntimeError
    assert gc.isenabled()
