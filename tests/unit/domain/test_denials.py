"""What keeps a GPU where it is, whoever asks: in an order that names first what has to change first."""

from dataclasses import replace
from typing import Any

import pytest

from poolmgr.domain.backoff import WHOLE_NODE
from poolmgr.domain.denials import gpu_denial, lasting_denial, node_denial, unsure_words
from poolmgr.domain.fleet import Gpu, Node, RebalanceMode
from poolmgr.domain.liveness import AgentSign
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.neighbours import Neighbours
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from tests.builders import NOW, gpu, node, paused, pool, transition

G0, G1 = gpu(0), gpu(1)
POOL = pool()
CORDONED = Verdict(False, Reason.GPU_CORDONED, "an operator keeps it")
OTHERS = Neighbours(Verdict(False, Reason.GPUS_OF_OTHERS, "the GPU operator has them"))

OF_GPU: list[tuple[dict[str, Any], Reason]] = [
    ({"phase": DevicePhase.MOVING}, Reason.GPU_MOVING),
    ({"phase": DevicePhase.QUARANTINED}, Reason.GPU_UNHEALTHY),
    ({"observed_mode": None}, Reason.GPU_UNHEALTHY),
    ({"desired_mode": None}, Reason.NOT_ADOPTED),
    ({"desired_mode": Mode.PASSTHROUGH}, Reason.GPU_MOVING),
    ({"rebind": CORDONED}, Reason.GPU_CORDONED),
    ({"iommu_group": None}, Reason.NO_IOMMU),
    ({"iommu_group": G1.iommu_group}, Reason.IOMMU_GROUP_SHARED),
]
OF_NODE: list[tuple[dict[str, Any], Reason]] = [
    ({"agent": AgentSign(heard=False, silent=True)}, Reason.AGENT_SILENT),
    ({"ready": False}, Reason.NODE_NOT_READY),
    ({"complaint": "says 'Leased'"}, Reason.INVALID_REQUEST),
    ({"neighbours": OTHERS}, Reason.GPUS_OF_OTHERS),
    ({"reported": False}, Reason.NODE_NOT_REPORTED),
    ({"cordoned": True}, Reason.UNSUITABLE),
    ({"transition": transition(G1)}, Reason.NODE_IN_TRANSITION),
    ({"backoffs": (paused(WHOLE_NODE),)}, Reason.RECENTLY_FAILED),
]


def reason(card: Gpu = G0, *, there: Node | None = None, **about_pool: Any) -> Reason | None:
    found = gpu_denial(card, there or node(card, G1), replace(POOL, **about_pool), NOW)
    return found[0] if found else None


def test_a_gpu_of_which_nothing_is_wrong_may_move() -> None:
    assert reason() is None
    assert node_denial(node(G0, cordoned=True, cordoned_by_us=True), NOW) is None


@pytest.mark.parametrize(("about", "why"), OF_GPU)
def test_a_gpu_stays_for_what_is_so_of_itself(about: dict[str, Any], why: Reason) -> None:
    assert reason(replace(G0, **about)) is why


@pytest.mark.parametrize(("about", "why"), OF_NODE)
def test_a_gpu_stays_for_what_is_so_of_its_node(about: dict[str, Any], why: Reason) -> None:
    there = node(G0, G1, **about)
    assert reason(there=there) is why
    assert node_denial(there, NOW) == gpu_denial(G0, there, POOL, NOW)


def test_a_gpu_that_a_move_names_is_moving_and_the_others_of_its_node_wait_for_it() -> None:
    there = node(G0, G1, transition=transition(G1))
    assert gpu_denial(G1, there, POOL, NOW) == (
        Reason.GPU_MOVING,
        "GPU 0000:00:01.0 on n1 is moving to Passthrough",
    )
    assert reason(there=there) is Reason.NODE_IN_TRANSITION
    assert lasting_denial(G1, there, POOL, NOW) is None


def test_of_several_reasons_the_first_of_the_list_is_given() -> None:
    for rules in (OF_GPU[3:6], OF_NODE):
        about: dict[str, Any] = {}
        for more, why in reversed(rules):
            about = {**about, **more}
            card = replace(G0, **about) if rules is not OF_NODE else G0
            assert reason(card, there=node(card, G1, **(about if rules is OF_NODE else {}))) is why


def test_a_gpu_stays_for_its_pool() -> None:
    assert reason(rebalance=RebalanceMode.OFF) is Reason.POOL_OFF
    assert reason(rebalance=RebalanceMode.RECOMMEND) is None, "its moves are shown"
    found = gpu_denial(G0, node(G0, ready=False), None, NOW)
    assert found == (Reason.NOT_IN_POOL, "no GPUPool selects GPU 0000:00:00.0 on n1")


def test_a_gpu_stays_while_the_spec_of_its_pool_is_not_understood_whatever_its_mode() -> None:
    unread = replace(POOL, complaint="rebalance.granularity is 'Rack'")
    assert gpu_denial(G0, node(G0), unread, NOW) == (Reason.POOL_OFF, unread.off_text)


def test_a_gpu_is_said_to_move_where_it_is_known_to_go() -> None:
    to = replace(G0, phase=DevicePhase.MOVING, desired_mode=None)
    assert gpu_denial(to, node(to), POOL, NOW) == (
        Reason.GPU_MOVING,
        "GPU 0000:00:00.0 on n1 is changing its driver; it can be planned once it has one",
    )
    back = replace(to, desired_mode=Mode.SHARED)
    found = gpu_denial(back, node(back, G1, transition=transition(G1)), POOL, NOW)
    assert found == (Reason.GPU_MOVING, "GPU 0000:00:00.0 on n1 is moving to Shared")


def test_a_gpu_that_rests_stays_and_another_of_its_node_does_not() -> None:
    there = node(G0, G1, backoffs=(paused(G0.pci_address),))
    assert (reason(G0, there=there), reason(G1, there=there)) == (Reason.RECENTLY_FAILED, None)


def test_what_is_over_with_the_move_hides_nothing_that_lasts() -> None:
    card = replace(G0, desired_mode=None, rebind=CORDONED)
    there = node(card, G1, transition=transition(G1), reported=False)
    assert gpu_denial(card, there, POOL, NOW) is not None
    assert lasting_denial(card, there, POOL, NOW) == (
        Reason.GPU_CORDONED,
        "GPU 0000:00:00.0 on n1 stays as it is: an operator keeps it",
    )
    assert lasting_denial(replace(card, rebind=G0.rebind), there, POOL, NOW) is None


def test_a_maximum_names_the_gpus_that_may_be_there_only_where_there_are_some() -> None:
    assert unsure_words(0) == ""
    assert "counts 2 that may be there" in unsure_words(2)
