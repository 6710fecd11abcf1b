"""The fleet that the live benchmark makes, as the manager reads it."""

import json
from typing import Any

import msgspec
import pytest

from bench.live import fleet, workloads
from bench.live.fleet import Size
from poolmgr import wire
from poolmgr.cluster.observe.pods import facts_of
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.hami.register import decode_register

SIZE = Size(nodes=4, gpus=8, pods=80)
SCHEDULERS = frozenset({"hami-scheduler"})


def as_wire(document: dict[str, Any], kind: type[Any]) -> Any:
    return msgspec.json.decode(json.dumps(document), type=kind)


def test_pods_of_every_kind_add_up() -> None:
    others = SIZE.nodes * (SIZE.vms_per_node + fleet.ORDINARY_PER_NODE) + SIZE.waiting
    assert len(list(workloads.slots(SIZE))) + others == SIZE.pods


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (Size(1, 3, 99), "at least 4 GPUs"),
        (Size(0, 8, 99), "at least one node"),
        (Size(10, 8, 60), "need more than 90 pods"),
        (Size(1, 8, 900), "more than 10 on each shared GPU"),
    ],
)
def test_numbers_that_do_not_go_together_are_refused(wrong: Size, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        wrong.check()


def test_one_shared_gpu_of_every_node_is_idle_and_no_passthrough_gpu_is_free() -> None:
    used = {(slot.node, slot.gpu) for slot in workloads.slots(SIZE)}
    for node in range(SIZE.nodes):
        shared = range(SIZE.vms_per_node, SIZE.gpus)
        assert [gpu for gpu in shared if (node, gpu) not in used] == [SIZE.gpus - 1]


def test_pods_that_come_and_go_leave_no_gpu_empty() -> None:
    slots = list(workloads.slots(SIZE))
    staying = {(s.node, s.gpu) for n, s in enumerate(slots) if n not in workloads.churning(SIZE)}
    assert {(s.node, s.gpu) for s in slots} == staying


def test_manager_reads_a_sharing_pod_on_the_gpu_that_hami_registered() -> None:
    slot = next(workloads.slots(SIZE))
    facts = facts_of(as_wire(workloads.sharing_pod("job-1", slot), wire.Pod), HamiConfig(), SCHEDULERS)
    assert facts is not None
    assert facts.shared is not None
    [part] = facts.shared.slices
    node = as_wire(fleet.kubernetes_node(SIZE, slot.node), wire.Node)
    assert part.uuid in {gpu.uuid for gpu in decode_register(node.metadata.annotations.register)}


def test_waiting_pod_asks_for_more_than_any_node_shares() -> None:
    facts = facts_of(as_wire(workloads.waiting_pod(SIZE, 1), wire.Pod), HamiConfig(), SCHEDULERS)
    assert facts is not None
    assert facts.shared is not None
    assert facts.shared.node is None
    assert facts.shared.gpus > SIZE.gpus - SIZE.vms_per_node


def test_manager_reads_a_launcher_as_the_machines_own() -> None:
    launcher = workloads.launcher_pod("desktop-1", "uid-1", fleet.MODELS[0], None)
    facts = facts_of(as_wire(launcher, wire.Pod), HamiConfig(), SCHEDULERS)
    assert facts is not None
    assert facts.launcher is not None
    assert facts.launcher.vmi_uid == "uid-1"
