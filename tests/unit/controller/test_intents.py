"""Which nodes need no look: those where nothing has to be adopted, repaired or advanced."""

from dataclasses import replace

import pytest

from poolmgr.controller import intents
from poolmgr.domain.backoff import Backoff
from poolmgr.domain.directives import Directives
from poolmgr.domain.fleet import Node
from poolmgr.domain.identifiers import LeaseEpoch
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.neighbours import Neighbours
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from tests.builders import NOW, gpu, node, transition

HOME = gpu(0)
NEW = gpu(1, desired_mode=None)
STRAYED = gpu(2, desired_mode=Mode.PASSTHROUGH)
LOST = gpu(3, mode=None, desired_mode=Mode.SHARED)
BROKEN = gpu(4, desired_mode=Mode.PASSTHROUGH, phase=DevicePhase.QUARANTINED)


def test_a_node_counts_as_adopted_exactly_where_it_would_be() -> None:
    of_others = Neighbours(Verdict(False, Reason.GPUS_OF_OTHERS, "the GPU operator has them"))
    adopted = intents.as_adopted(node(HOME, NEW, STRAYED))
    assert [g.desired_mode for g in adopted.gpus] == [Mode.SHARED, Mode.SHARED, Mode.PASSTHROUGH]
    assert intents.adopt(adopted) is None
    for left in (
        node(HOME),
        node(NEW, complaint="says 'Leased'"),
        node(NEW, HOME, transition=transition(HOME)),
        node(NEW, neighbours=of_others),
    ):
        assert intents.as_adopted(left) == left


@pytest.mark.parametrize(
    ("found", "rests"),
    [
        (node(HOME), True),
        (node(), True),
        (node(HOME, NEW), False),
        (node(HOME, STRAYED), False),
        (node(HOME, LOST), True),
        (node(HOME, BROKEN), True),
        (node(HOME, transition=transition(HOME)), False),
    ],
)
def test_node_rests_exactly_where_there_is_nothing_to_do(found: Node, rests: bool) -> None:
    idle = (
        found.transition is None
        and intents.adopt(found) is None
        and intents.repair(found, LeaseEpoch(1), NOW) is None
    )
    assert (intents.at_rest(found), idle) == (rests, rests)


def test_strayed_gpu_of_a_silent_node_is_looked_at_again_until_it_can_be_repaired() -> None:
    silent = node(STRAYED, ready=False)
    assert intents.repair(silent, LeaseEpoch(1), NOW) is None
    assert not intents.at_rest(silent)


def test_node_whose_spec_a_newer_manager_wrote_is_left_as_it_is() -> None:
    for found in (node(HOME, NEW), node(HOME, STRAYED), node(HOME, transition=transition(HOME))):
        assert intents.at_rest(replace(found, complaint="the spec says 'Leased'"))


def test_cards_that_are_gone_are_forgotten_with_their_rests_and_no_others() -> None:
    gone = gpu(
        1, mode=None, desired_mode=Mode.SHARED, phase=DevicePhase.QUARANTINED, reason=Reason.DEVICE_GONE
    )
    rests = tuple(
        Backoff(g.pci_address, Reason.BIND_FAILED, "refused it", 1, NOW, NOW + 600) for g in (HOME, gone)
    )
    named = Directives(forgotten=frozenset({gone.pci_address, HOME.pci_address}))
    intent = intents.forgotten(node(HOME, gone, directives=named, backoffs=rests))
    assert intent is not None
    assert [address for address, _, _ in intent.desired] == [HOME.pci_address]
    assert [b.pci_address for b in intent.backoffs] == [HOME.pci_address]
    assert intents.forgotten(node(HOME, gone, directives=Directives(), backoffs=rests)) is None
    moving = node(HOME, gone, directives=named, transition=transition(HOME))
    assert intents.forgotten(moving) is None, "a move under way is finished first"


def test_the_word_to_forget_a_card_stands_while_it_is_gone_and_reported() -> None:
    gone = gpu(1, mode=None, phase=DevicePhase.QUARANTINED, reason=Reason.DEVICE_GONE)
    named = Directives(forgotten=frozenset({gone.pci_address}))
    assert intents.fulfilled(node(HOME, gone, directives=named)) is None
    for left in (node(HOME, directives=named), node(HOME, gpu(1), directives=named)):
        assert intents.fulfilled(left) == Directives()
