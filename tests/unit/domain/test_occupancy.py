"""Who is on which GPU is worked out once for the values that it follows from, and anew for any other."""

from dataclasses import replace

from poolmgr.domain.census import take_census
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.occupancy import occupancy_of
from poolmgr.domain.usage import GpuState
from tests.builders import gpu, node, pod, snapshot, vm

GPU = gpu(0)
BUSY = snapshot(node(GPU), pods=(pod(on=GPU),), vms=(vm("waits"),))


def test_the_same_nodes_vms_and_pods_have_the_same_occupancy_at_any_time() -> None:
    later = replace(BUSY, taken_at=BUSY.taken_at + 1)
    assert occupancy_of(later) is occupancy_of(BUSY)


def test_any_other_value_has_its_own() -> None:
    known = occupancy_of(BUSY)
    assert occupancy_of(replace(BUSY, pods=(pod("other", on=GPU),))).users_of(GPU) != known.users_of(GPU)
    assert occupancy_of(replace(BUSY, vms=(vm(on=(GPU,)),))).vm_on(GPU) is not None
    assert occupancy_of(replace(BUSY, nodes=(node(GPU, name="n2"),))) is not known


def test_two_snapshots_in_turns_are_each_worked_out_once() -> None:
    other = replace(BUSY, pods=(pod("other", on=GPU),))
    first, second = occupancy_of(BUSY), occupancy_of(other)
    assert occupancy_of(BUSY) is first
    assert occupancy_of(other) is second


def test_a_pod_is_on_the_gpu_of_its_own_node_alone_where_two_nodes_report_its_uuid() -> None:
    twin = replace(GPU, node=NodeName("n2"))
    bound = pod(on=GPU)
    view = snapshot(node(GPU), node(twin, name="n2"), pods=(bound,))
    found = occupancy_of(view)
    assert (list(found.pods_on(GPU)), list(found.pods_on(twin))) == ([bound], [])
    mine, its = take_census(view).uses
    assert (mine.pods, mine.state, mine.share > 0) == ((bound,), GpuState.IN_USE, True)
    assert (its.pods, its.state, its.share) == ((), GpuState.IDLE, 0.0)


def test_a_pod_that_is_not_bound_yet_may_be_on_the_gpu_of_either() -> None:
    twin = replace(GPU, node=NodeName("n2"))
    view = snapshot(node(GPU), node(twin, name="n2"), pods=(replace(pod(on=GPU), node=None),))
    assert all(use.state is GpuState.IN_USE for use in take_census(view).uses)
