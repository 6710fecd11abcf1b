"""Who is on which GPU is worked out once for the values that it follows from, and anew for any other."""

from dataclasses import replace

from poolmgr.domain.census import take_census
from poolmgr.domain.identifiers import GpuUuid, NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.occupancy import IndexedPods, Names, is_loose, occupancy_of, unbound_pods, unbound_vms
from poolmgr.domain.snapshot import Unread
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


def test_what_could_not_be_read_counts_as_well() -> None:
    unread = Unread("pods", "ml", "rubbish", "it has no containers", GPU.node)
    idle = replace(BUSY, pods=())
    assert occupancy_of(idle).doubts_on(idle.nodes[0]) == {}
    assert set(occupancy_of(replace(idle, unread=(unread,))).doubts_on(idle.nodes[0])) == {GPU.pci_address}


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


def test_of_pods_bound_here_elsewhere_and_nowhere_those_bound_elsewhere_are_not_on_the_gpu() -> None:
    here, nowhere = pod("here", on=GPU), replace(pod("nowhere", on=GPU), node=None)
    elsewhere = replace(pod("elsewhere", on=GPU), node=NodeName("n2"))
    found = occupancy_of(snapshot(node(GPU), pods=(here, elsewhere, nowhere)))
    assert list(found.pods_on(GPU)) == [here, nowhere]
    assert found.in_use(GPU)


def test_a_pod_with_slices_of_two_gpus_is_once_on_each() -> None:
    other = gpu(1)
    each = (*pod(on=GPU).slices, *pod(on=other).slices)
    both, again = pod("both", on=GPU, slices=each), pod("again", on=GPU, slices=(*each, each[0]))
    found = occupancy_of(snapshot(node(GPU, other), pods=(both, again)))
    assert [list(found.pods_on(one)) for one in (GPU, other)] == [[both, again], [both, again]]


def test_a_slice_of_no_uuid_is_on_no_gpu_whose_uuid_is_not_known() -> None:
    unknown = replace(GPU, uuid=GpuUuid(""))
    assert occupancy_of(snapshot(node(unknown), pods=(pod(on=unknown),))).users_of(unknown) == ()


def test_a_vm_is_on_the_gpu_that_the_kubelet_gave_to_its_launcher() -> None:
    nameless, started = vm("nameless", launcher_uid=""), vm("started")
    taken = gpu(1, mode=Mode.PASSTHROUGH, allocated_to=started.launcher_uid)
    there = node(GPU, taken)
    found = occupancy_of(snapshot(there, vms=(nameless, started)))
    assert (found.vm_on(taken), found.vm_on(GPU)) == (started, None)
    tenants = Names.of(there).tenants(found)
    assert (tenants.launched, list(map(list, tenants.pods))) == ((started,), [[], []])


def test_pods_that_bring_their_index_along_are_on_the_gpus_that_it_says() -> None:
    there, loose = pod(on=GPU), pod("loose", node=GPU.node)
    pods = IndexedPods.of((there, loose), {GPU.uuid: (there,)}, (loose,))
    plain = snapshot(node(GPU), pods=tuple(pods))
    found, worked_out = occupancy_of(replace(plain, pods=pods)), occupancy_of(plain)
    assert list(found.pods_on(GPU)) == list(worked_out.pods_on(GPU)) == [there]
    assert found.unplaced == worked_out.unplaced != {}


def test_loose_is_who_is_bound_without_a_slice_and_unbound_who_is_not_bound() -> None:
    there, loose, waits = pod(on=GPU), pod("loose", node=GPU.node), pod("waits")
    assigned = replace(there, node=None)
    assert [is_loose(one) for one in (there, loose, waits, assigned)] == [False, True, False, False]
    assert unbound_pods((there, loose, waits, assigned)) == (waits, assigned)
    assert unbound_vms((vm(on=(GPU,)), vm("waits"))) == (vm("waits"),)
