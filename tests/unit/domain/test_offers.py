"""What an agent reports ready for VMs beyond what the kubelet offers."""

from dataclasses import replace
from typing import Any

import pytest

from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.offers import unoffered
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.usage import is_out_of_use
from tests.unit.planner.builders import RESOURCE, gpu, node


def found(modes: str, offered: int | None, **changes: Any) -> list[int]:
    """Indices of the GPUs of a node that are not offered; `changes` by index, as `g0`."""
    gpus = tuple(
        replace(gpu("a", i, Mode.SHARED if m == "s" else Mode.PASSTHROUGH), **changes.get(f"g{i}", {}))
        for i, m in enumerate(modes)
    )
    at = node("a", modes, gpus=gpus, offered=None if offered is None else ((RESOURCE, offered),))
    return [int(g.pci_address[5:7], 16) for g in unoffered(at)]


@pytest.mark.parametrize(("offered", "expected"), [(None, []), (3, []), (2, []), (1, [0]), (0, [0, 1])])
def test_what_is_over_the_kubelets_number_is_not_offered(offered: int | None, expected: list[int]) -> None:
    assert found("ppss", offered) == expected


def test_of_several_the_unused_ones_are_not_offered() -> None:
    assert found("ppp", 1, g0={"allocated_to": "uid"}) == [1, 2]
    assert found("ppp", 0, g0={"allocated_to": "uid"}) == [1, 2, 0]


@pytest.mark.parametrize(
    "apart",
    [
        {"phase": DevicePhase.MOVING},
        {"phase": DevicePhase.QUARANTINED},
        {"desired_mode": Mode.SHARED},
        {"closed": Verdict(False, Reason.GPU_QUARANTINED)},
    ],
    ids=["moving", "in trouble", "on its way back", "withdrawn by an operator"],
)
def test_nobody_expects_the_kubelet_to_offer_what_is_not_ready(apart: dict[str, Any]) -> None:
    assert found("pp", 1, g1=apart) == []
    assert found("pp", 0, g1=apart) == [0]


def test_one_that_was_just_found_counts_as_reported() -> None:
    assert found("p", 0, g0={"desired_mode": None}) == [0]


def test_each_resource_is_counted_for_itself() -> None:
    assert found("pp", 1, g1={"resource_name": "nvidia.com/other"}) == [1]


@pytest.mark.parametrize("used", [False, True])
def test_bounds_do_not_count_what_is_only_said_to_be_there_nor_its_use(used: bool) -> None:
    assert not is_out_of_use(gpu("a", 0), used)
    assert is_out_of_use(gpu("a", 0, closed=Verdict(False, Reason.NOT_OFFERED)), used)
    taken_out = gpu("a", 0, closed=Verdict(False, Reason.GPU_QUARANTINED))
    assert is_out_of_use(taken_out, used) is not used
    drained = gpu("a", 0, closed=Verdict(False, Reason.NODE_DRAINED))
    assert not is_out_of_use(drained, used), "it goes to the other side"
