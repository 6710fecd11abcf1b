"""Machines that ask for whole GPUs."""

from typing import Any

from poolmgr import wire
from poolmgr.cluster.kubevirt.passthrough import Passthrough
from poolmgr.cluster.kubevirt.vms import KnownVms, vms_of
from poolmgr.cluster.observe.pods import Launcher, facts_of
from poolmgr.domain.demand import DeviceClaim, Vm
from poolmgr.domain.identifiers import NodeName
from poolmgr.wire.hami.config import HamiConfig
from tests.unit.cluster.builders import A10, CREATED_AT, as_wire, launcher, vm, vmi

FLEET = Passthrough(frozenset({A10}), {})


def instance(**over: Any) -> wire.VirtualMachineInstance:
    return as_wire(vmi(**over), wire.VirtualMachineInstance)


def machine(**over: Any) -> wire.VirtualMachine:
    return as_wire(vm(**over), wire.VirtualMachine)


def launched(**over: Any) -> Launcher:
    facts = facts_of(as_wire(launcher(**over), wire.Pod), HamiConfig(), frozenset())
    assert facts is not None
    assert facts.launcher is not None
    return facts.launcher


def only(
    *instances: wire.VirtualMachineInstance,
    launchers: tuple[Launcher, ...] = (),
    machines: tuple[wire.VirtualMachine, ...] = (),
    fleet: Passthrough = FLEET,
) -> Vm:
    (found,) = vms_of(machines, instances, launchers, fleet)
    return found


def test_unschedulable_launcher_makes_a_waiting_vm() -> None:
    found = only(instance(), launchers=(launched(unschedulable_since="2026-11-22T10:01:00Z"),))
    assert found.waiting
    assert found.waiting_since == CREATED_AT + 60
    assert found.claims == (DeviceClaim(A10, 1),)


def test_instance_without_a_launcher_waits_since_it_was_made() -> None:
    assert only(instance()).waiting_since == CREATED_AT


def test_bound_launcher_gives_node_requests_and_the_devices_it_holds() -> None:
    pod = launched(node="n1", uid="uid-launcher")
    fleet = Passthrough(frozenset({A10}), {"uid-launcher": ((NodeName("n1"), "0000:00:04.0"),)})
    found = only(instance(phase="Running"), launchers=(pod,), fleet=fleet)
    assert (found.node, found.launcher_uid, found.waiting_since) == ("n1", "uid-launcher", None)
    assert found.devices == (("n1", "0000:00:04.0"),)
    assert (found.cpu_milli, found.memory_mib) == (500, 1024)


def test_unknown_gpu_name_stays_visible_and_unknown_host_device_does_not() -> None:
    found = only(instance(gpus=["nvidia.com/TYPO"], host_devices=["vendor.com/nic", A10]))
    assert found.claims == (DeviceClaim("nvidia.com/TYPO", 1), DeviceClaim(A10, 1))


def test_machine_without_gpus_is_none_of_ours() -> None:
    assert vms_of([machine(gpus=[])], [instance(gpus=[], host_devices=["vendor.com/nic"])], [], FLEET) == ()


def test_finished_instance_counts_only_while_its_launcher_is_there() -> None:
    assert vms_of([], [instance(phase="Failed")], [], FLEET) == ()
    assert only(instance(phase="Failed"), launchers=(launched(node="n1"),)).node == "n1"


def test_machine_between_two_instances_still_wants_its_gpu() -> None:
    found = only(machines=(machine(),))
    assert found.waiting
    assert found.claims == (DeviceClaim(A10, 1),)


def test_instance_speaks_for_its_machine() -> None:
    assert only(instance(), machines=(machine(),)).uid == "uid-vm1"


def test_halted_machine_wants_nothing_until_it_is_told_to_start() -> None:
    assert vms_of([machine(run={"runStrategy": "Halted"})], [], [], FLEET) == ()
    assert vms_of([machine(run={"running": False})], [], [], FLEET) == ()
    assert only(machines=(machine(run={"runStrategy": "Manual"}, printable="Starting"),)).waiting


def test_of_two_launchers_the_bound_one_counts() -> None:
    pending, bound = launched(uid="uid-new"), launched(node="n1", uid="uid-old")
    assert only(instance(), launchers=(pending, bound)).launcher_uid == "uid-old"


def test_vm_is_made_anew_only_where_something_that_it_follows_from_has_changed() -> None:
    desk, other = instance(name="desk"), instance(name="other")
    theirs = launched(vmi="desk", node="n1"), launched(vmi="other", node="n1")
    held = {theirs[0].pod_uid: ((NodeName("n1"), "0000:00:04.0"),)}
    known = KnownVms()

    def look(*instances: wire.VirtualMachineInstance, fleet: Passthrough = FLEET) -> list[Vm]:
        return list(vms_of((), instances or (desk, other), theirs, fleet, known=known))

    first = look()
    again = look()
    assert all(one is two for one, two in zip(first, again, strict=True))
    placed = look(fleet=Passthrough(frozenset({A10}), held))
    assert placed[0].devices == held[theirs[0].pod_uid]
    assert placed[1] is first[1]
    assert look(instance(name="desk", gpus=[A10, A10]), other)[0].gpus == 2
    assert [vm.name for vm in look(other)] == ["other"]
    assert look()[0] == first[0], "one that has gone and comes again is looked at again"
