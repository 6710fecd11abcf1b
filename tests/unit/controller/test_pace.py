"""A plan is made at once for a VM that has just come, and otherwise once in a while."""

from poolmgr.controller.pace import Pace
from poolmgr.domain.identifiers import Generation
from poolmgr.domain.snapshot import ClusterSnapshot
from tests.builders import snapshot, vm


def view(*waiting: str, generation: int = 1) -> ClusterSnapshot:
    return snapshot(vms=tuple(vm(name) for name in waiting), generation=Generation(generation))


def test_first_plan_is_due_at_once() -> None:
    assert Pace(5.0).is_due(0.0)


def test_changes_are_gathered_until_they_have_settled() -> None:
    pace = Pace(5.0)
    pace.planned(view("a"), 100.0)
    assert not pace.is_due(104.0)
    assert pace.settles_in(104.0) == 1.0
    assert pace.is_due(105.0)


def test_vm_that_was_not_planned_for_is_urgent() -> None:
    pace = Pace(5.0)
    pace.planned(view("a"), 100.0)
    assert pace.is_urgent(view("a", "b"))
    pace.planned(view("a", "b"), 100.1)
    assert not pace.is_urgent(view("b"))


def test_instance_and_launcher_of_a_machine_that_was_planned_for_are_not_urgent_again() -> None:
    pace = Pace(5.0)
    machine, instance = vm("a", uid="machine-a", launcher_uid=""), vm("a", uid="instance-a")
    pace.planned(snapshot(vms=(machine,)), 100.0)
    assert not pace.is_urgent(snapshot(vms=(instance,)))


def test_vm_that_could_not_be_served_before_its_launcher_was_there_is_urgent_then() -> None:
    pace = Pace(5.0)
    pace.planned(snapshot(vms=(vm("a", provisional=True),)), 100.0)
    assert not pace.is_urgent(snapshot(vms=(vm("a", provisional=True),)))
    assert pace.is_urgent(snapshot(vms=(vm("a"),)))


def test_look_that_could_not_lead_to_a_plan_leaves_the_vm_urgent() -> None:
    pace = Pace(5.0)
    pace.looked(view("a"), 100.0)
    assert pace.is_urgent(view("a", generation=2))
    assert not pace.is_urgent(view(generation=2))
    assert not pace.is_due(101.0)


def test_pause_ends_when_a_plan_for_what_has_changed_may_be_made() -> None:
    pace = Pace(5.0)
    pace.planned(view(), 100.0)
    assert pace.pause(view(), 101.0, 30.0) == 30.0
    assert pace.pause(view(generation=2), 101.0, 30.0) == 4.0
    assert pace.pause(view(generation=2), 101.0, 2.0) == 2.0
    assert pace.pause(None, 101.0, 2.0) == 2.0
