"""The main job, told in eight chapters on one stage. Each chapter starts where the one before it ended.

A chapter that fails ends the story: those after it would start from a state that nobody described.
"""

import pytest

from e2e.controlplane.kubevirt import virtual_machine
from e2e.story.acts import Acts
from e2e.story.workloads import DEVICE_VARIABLE, GPU_ON_THE_BUS, NAMESPACE, VM_RESOURCE, pool, vgpu_pod
from poolmgr.domain.modes import Step

# A chapter has many waits, each with a limit of its own: beside busy processes the last one takes over half an hour.
pytestmark = [pytest.mark.story, pytest.mark.node, pytest.mark.timeout(7200)]


def _machine(name: str) -> dict[str, object]:
    return virtual_machine(name, NAMESPACE, [VM_RESOURCE])


def test_1_both_gpus_start_shared_and_a_vgpu_pod_runs_through_hami(story: Acts) -> None:
    story.narrative.chapter(1, "Both GPUs start shared; a vGPU pod runs through HAMi")
    story.wait("the agent's report of both GPUs", lambda: len(story.devices()) == 2)
    assert {item["mode"] for item in story.devices().values()} == {"Shared"}
    story.apply(pool(), user="admin")
    story.run_pod(vgpu_pod("train-1", story.node.name))
    story.keep("train-1")
    story.show("get", "gpunodes,gpupools")


def test_2_a_vm_wants_a_gpu_and_its_user_is_told_what_happens_next(story: Acts) -> None:
    story.narrative.chapter(2, "A VM wants a whole GPU: none is free, and its user is told what happens next")
    story.stage.poolmgr.wait_ready("webhook")  # one that has no time to answer is not asked
    assert "Warning:" in story.apply(_machine("jane"))
    story.wait("virt-controller's launcher pod", lambda: story.launcher("jane"))


def test_3_the_free_gpu_is_moved_and_the_vm_finds_it_on_its_bus(story: Acts) -> None:
    story.narrative.chapter(3, "The free GPU is taken from HAMi, rebound, and given to the VM")
    busy = story.gpu_of("train-1")
    free = story.other_gpu(busy)
    story.wait_driver(free, "vfio-pci")
    story.wait("the launcher to run", lambda: story.running_launcher("jane"))
    seen = story.wait("the VM to show its bus", lambda: story.launcher_says("jane", GPU_ON_THE_BUS))
    story.narrative.quote("launcher", seen)
    assert f"{DEVICE_VARIABLE}={free}" in seen
    assert f"IOMMU group {story.guest.iommu_group(free)}" in seen
    story.wait("the move to end", story.settled)
    assert story.guest.driver(busy) == story.host_driver
    story.assert_kept()


def test_4_vgpu_pods_meanwhile_land_on_the_other_gpu_only(story: Acts) -> None:
    story.narrative.chapter(4, "vGPU pods land on the other GPU only; the one there already never restarted")
    story.run_pod(vgpu_pod("train-2", story.node.name))
    assert story.gpu_of("train-2") == story.gpu_of("train-1")
    story.assert_kept()


def test_5_a_second_vm_waits_because_the_other_gpu_is_busy(story: Acts) -> None:
    story.narrative.chapter(
        5, "A second VM: the other GPU is busy, the plan says by whom, nothing is unbound"
    )
    before = story.guest.drivers()
    story.apply(_machine("joe"))
    story.wait("joe's launcher pod", lambda: story.launcher("joe"))
    said = story.wait("a plan that says who is on the GPU", lambda: story.plan_says("train-1"))
    story.narrative.quote("manager", said)
    story.show("describe", "gpupool", "all")
    story.watch_for(20, lambda: story.guest.drivers() != before or not story.settled())
    story.delete_machine("joe")
    story.assert_kept()


def test_6_the_vm_stops_and_its_gpu_returns_to_hami(story: Acts) -> None:
    story.narrative.chapter(6, "The VM stops and shared demand waits: the GPU goes back to HAMi")
    lent = story.gpu_on("vfio-pci")
    story.halt("jane")
    # More than what train-1 and train-2 leave of the GPU that is shared.
    story.apply(vgpu_pod("train-3", story.node.name, cores=80))
    story.wait_driver(lent, story.host_driver)
    story.wait_running("train-3")
    assert story.gpu_of("train-3") == lent
    last_event = story.last_event("train-3")
    # While HAMi's plugin is away the pod may be refused ("unregistered"); it is tried again once the node is open.
    assert "CardInsufficientCore" in last_event, last_event
    story.wait("the move to end", story.settled)
    story.assert_kept()
    story.delete_pod("train-3")


def test_7_the_agent_dies_between_unbind_and_bind_and_across_a_reboot(story: Acts) -> None:
    story.narrative.chapter(
        7, "The agent dies between unbind and bind, and again across a reboot of the node"
    )
    moving = story.other_gpu(story.gpu_of("train-1"))
    story.kill_agent_between_unbind_and_bind(moving, lambda: story.apply(_machine("june")))
    story.wait_driver(moving, "vfio-pci")
    story.wait("the launcher to run", lambda: story.running_launcher("june"))
    story.wait("the move to end", story.settled)
    story.assert_kept()

    story.reboot()
    story.wait("a report that says what the kernel says", story.reported_as_it_is)
    story.wait_driver(moving, "vfio-pci")
    story.wait("a report that says what the kernel says", story.reported_as_it_is)
    story.show("get", "gpunodes")


def test_8_the_manager_is_killed_after_each_step_and_its_successor_goes_on(story: Acts) -> None:
    story.narrative.chapter(8, "The manager is killed after each step; its successor goes on")
    moving = story.gpu_on("vfio-pci")
    story.narrative.say("operator", "scales the manager to two replicas: one leads, the other stands by")
    story.stage.poolmgr.scale("manager", 2)
    # The reboot ended every pod: fill the shared GPU anew, so that the next one needs the other.
    story.run_pod(vgpu_pod("filler", story.node.name))
    story.halt("june")
    back = story.kill_manager_at_each_step(
        lambda: story.apply(vgpu_pod("train-4", story.node.name, cores=80)),
        done=lambda: story.guest.driver(moving) == story.host_driver,
    )
    story.wait_running("train-4")
    story.delete_pod("train-4")
    there = story.kill_manager_at_each_step(
        lambda: story.apply(_machine("jill")), done=lambda: story.guest.driver(moving) == "vfio-pci"
    )
    story.wait("the launcher to run", lambda: story.running_launcher("jill"))
    story.narrative.say("story", f"managers were killed at: {', '.join(back)}; {', '.join(there)}")
    assert set(Step) - {Step.DONE} <= set(back) & set(there)
