"""What the reader remembers of a node may save time and may not alter a view."""

from poolmgr import wire
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
