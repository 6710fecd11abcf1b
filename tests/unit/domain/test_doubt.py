"""Whom nobody places on a GPU keeps every GPU that it may be on."""

from dataclasses import replace

import pytest

from poolmgr.domain.demand import CardAsk
from poolmgr.domain.fleet import Holder
from poolmgr.domain.identifiers import GpuUuid, NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.occupancy import occupancy_of
from tests.builders import A10_RESOURCE, gpu, node, pod, sharing, snapshot, vm

G0, G1 = gpu(0), gpu(1)
P2 = gpu(2, mode=Mode.PASSTHROUGH)
PLAIN = pod("notebook", node=G0.node, waiting_since=None)
"""Bound to n1 by another scheduler: no slice."""


def doubts(*gpus, pods=(), vms=(), **about_node):
    there = node(*gpus, **about_node)
    return occupancy_of(snapshot(there, pods=pods, vms=vms)).doubts_on(there)


def test_with_everybody_placed_there_is_no_doubt() -> None:
    assert doubts(G0, G1, P2, pods=(pod(on=G0), pod("waits")), vms=(vm(on=(P2,)), vm("waits"))) == {}


def test_a_pod_without_a_slice_may_be_on_any_shared_gpu_of_its_node() -> None:
    found = doubts(G0, G1, P2, pods=(PLAIN,))
    assert set(found) == {G0.pci_address, G1.pci_address}
    assert "pod ml/notebook has 1 GPU(s) of n1, but it is not known which" in found[G0.pci_address]
    assert doubts(gpu(0, node="n2"), pods=(PLAIN,), name="n2") == {}


@pytest.mark.parametrize(
    "seen",
    [
        replace(G0, allocated_to=PLAIN.uid),
        replace(G0, allocated_to="ml/notebook"),
        replace(G0, holders=(Holder(0, "", PLAIN.uid),)),
    ],
    ids=["by UID", "by name", "as one of several"],
)
def test_once_its_agent_has_seen_it_on_a_gpu_the_others_are_free(seen) -> None:
    assert doubts(seen, G1, pods=(PLAIN,)) == {}


def test_a_pod_that_can_only_be_on_another_vendors_card_leaves_ours_alone() -> None:
    assert doubts(G0, pods=(replace(PLAIN, card_names="huawei.com/"),)) == {}
    assert doubts(G0, pods=(replace(PLAIN, card_names="nvidia.com/"),))


def test_the_sentence_counts_what_all_its_containers_ask_for() -> None:
    (why,) = doubts(G0, pods=(replace(PLAIN, containers=(CardAsk(2), CardAsk(1))),)).values()
    assert "3 GPU(s)" in why


def test_a_slice_of_a_uuid_that_no_agent_reports_may_be_of_any_shared_gpu() -> None:
    unknown = replace(G0, uuid=GpuUuid(""))
    found = doubts(unknown, P2, pods=(pod(on=G0),), sharing=None)
    assert set(found) == {G0.pci_address} and f"HAMi's UUID {G0.uuid}" in found[G0.pci_address]


def test_a_pod_with_a_gpu_of_another_node_may_have_any_shared_gpu_of_its_own() -> None:
    mine, its = node(G0, P2), node(gpu(0, node="n2"), name="n2")
    stray = replace(pod(on=its.gpus[0]), node=G0.node)
    found = occupancy_of(snapshot(mine, its, pods=(stray,)))
    assert set(found.doubts_on(mine)) == {G0.pci_address}
    assert (
        f"UUID {its.gpus[0].uuid} is that of a GPU of n2; delete it" in found.doubts_on(mine)[G0.pci_address]
    )
    assert not found.doubts_on(its) and not found.in_use(its.gpus[0])


def test_a_pod_on_either_of_two_nodes_that_report_one_uuid_is_in_no_doubt() -> None:
    twin = replace(G0, node=NodeName("n2"))
    nodes = node(G0), node(twin, name="n2")
    for there in nodes:
        found = occupancy_of(snapshot(*nodes, pods=(replace(pod(on=G0), node=there.name),)))
        assert found.doubts_on(nodes[0]) == found.doubts_on(nodes[1]) == {}


def test_a_slice_of_no_uuid_is_not_taken_for_one_of_a_gpu_without() -> None:
    unknown = replace(G0, uuid=GpuUuid(""))
    assert doubts(unknown, pods=(pod(on=unknown),), sharing=None)


@pytest.mark.parametrize("uuid", ["", "GPU-another"])
def test_a_gpu_that_hami_has_registered_and_the_agent_does_not_know_may_be_any_shared_one(uuid: str) -> None:
    found = doubts(replace(G0, uuid=GpuUuid(uuid)), P2, sharing=sharing(G0))
    assert set(found) == {G0.pci_address}
    assert f"HAMi has {G0.uuid} registered on n1" in found[G0.pci_address]


def test_two_gpus_of_one_uuid_are_both_in_doubt() -> None:
    assert set(doubts(G0, replace(G1, uuid=G0.uuid), gpu(2))) == {G0.pci_address, G1.pci_address}


def test_a_vm_whose_devices_nobody_has_reported_may_have_any_passthrough_gpu_that_it_asks_for() -> None:
    bound = vm(node=G0.node, waiting_since=None)
    other = replace(gpu(3, mode=Mode.PASSTHROUGH), resource_name="nvidia.com/GA100")
    assert set(doubts(G0, P2, other, vms=(bound,))) == {P2.pci_address}
    assert doubts(G0, replace(P2, allocated_to=bound.launcher_uid), vms=(bound,)) == {}


def test_a_vm_of_two_gpus_of_which_one_is_reported_may_have_another() -> None:
    p3 = gpu(3, mode=Mode.PASSTHROUGH)
    half = replace(vm(on=(P2,)), claims=vm(gpus=2).claims)
    assert p3.pci_address in doubts(P2, p3, vms=(half,))
    assert half.claims[0].resource_name == A10_RESOURCE
