"""Which GPUs are closed to new pods, as GPUNodes change."""

from poolmgr.cluster.observe.closed_gpus import ClosedGpus
from poolmgr.wire import GpuNode
from tests.unit.cluster.builders import GPU_A, GPU_B, as_wire, device, gpu_node

LEAVING = {"devices": [{"pciAddress": device()["pciAddress"], "mode": "Passthrough", "planId": "p"}]}


def node(name: str = "n1", uuid: str = GPU_A, *, leaves: bool) -> GpuNode:
    return as_wire(gpu_node(name, [device(uuid=uuid)], spec=LEAVING if leaves else {}), GpuNode)


def test_it_follows_each_node_as_it_changes_and_goes() -> None:
    closed, other = ClosedGpus(), node("n2", GPU_B, leaves=True)
    assert closed.among([node(leaves=False), other]) == {GPU_B}
    assert closed.among([node(leaves=True), other]) == {GPU_A, GPU_B}
    assert closed.among([node(leaves=False), other]) == {GPU_B}
    assert closed.among([node(leaves=True)]) == {GPU_A}
    assert closed.among([]) == frozenset()
