"""What the reader remembers of a node may save time and may not alter a view."""

from poolmgr import wire
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.wire.instants import from_rfc3339
from tests.unit.cluster.builders import as_wire
from tests.unit.webhooks.objects import device, gpu_node, gpu_pool, node
from webhooks.fleet_reader import FleetReader


def test_reader_that_remembers_sees_as_one_that_does_not() -> None:
    reader = FleetReader()
    shared, given = device(0), device(0, mode="Passthrough")
    plain = as_wire(node("n1"), wire.Node)
    closed = as_wire(node("n1", unschedulable=True), wire.Node)
    one, other = (as_wire(gpu_node("n1", found), wire.GpuNode) for found in (shared, given))
    pool = as_wire(gpu_pool(passthrough={"max": 0}), wire.GpuPool)
    for objects in (
        ([one], [], [plain]),
        ([one], [pool], [plain]),
        ([other], [pool], [plain]),
        ([other], [pool], [closed]),
        ([other], [pool], []),
        ([], [pool], [plain]),
        ([one], [], [plain]),
    ):
        assert reader.read(*objects) == FleetReader().read(*objects)


def test_a_pause_ends_by_the_clock_though_no_object_changes() -> None:
    pause = {"pciAddress": "", "until": "2026-11-22T11:00:00Z", "failedAt": "2026-11-22T10:00:00Z"}
    found = gpu_node("n1", device(0))
    found["spec"]["backoffs"] = [pause]
    pool = as_wire(gpu_pool(), wire.GpuPool)
    objects = [as_wire(found, wire.GpuNode)], [pool], [as_wire(node("n1"), wire.Node)]
    reader, end = FleetReader(), from_rfc3339("2026-11-22T11:00:00Z")
    held = [
        reader.read(*objects, now=now).models["nvidia a10"].outlook[Mode.PASSTHROUGH].held
        for now in (end - 60, end - 1, end)
    ]
    assert held == [(Reason.RECENTLY_FAILED,)] * 2 + [()]
