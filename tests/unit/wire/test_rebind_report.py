"""What the manager makes of an agent's word on whether a GPU could be rebound."""

from typing import Any

import pytest

from poolmgr.domain.fleet import Gpu
from poolmgr.domain.reasons import Reason
from poolmgr.wire import GpuNode
from poolmgr.wire.gpu_nodes import gpus_of
from tests.unit.cluster import builders as b


def reported(**over: Any) -> Gpu:
    (gpu,) = gpus_of(b.as_wire(b.gpu_node(devices=[b.device(**over)]), GpuNode), {})
    return gpu


def test_a_yes_is_a_yes() -> None:
    assert reported().rebind


def test_a_no_keeps_its_reason_and_sentence() -> None:
    no = reported(rebind={"possible": False, "reason": "MigEnabled", "message": "it is in MIG mode"}).rebind
    assert (no.ok, no.reason, no.message) == (False, Reason.MIG_ENABLED, "it is in MIG mode")


@pytest.mark.parametrize(
    "said", [None, {}, {"possible": False}, {"reason": "OfTomorrow"}, {"possible": False, "reason": ""}]
)
def test_an_agent_that_says_nothing_or_something_new_is_no_yes(said: Any) -> None:
    """An older agent has no such field, a newer one other codes."""
    found = reported(rebind=said).rebind
    assert (found.ok, found.reason) == (False, Reason.CANNOT_TELL)
    assert found.message
