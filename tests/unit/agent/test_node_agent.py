"""What an agent does in its rounds, on a fake node.

One file, long as it is: a round is one sequence, and what a test changes of it is seen beside the others.
"""

from pathlib import Path
from typing import Any

import pytest

from poolmgr.agent.podresources import PodName
from poolmgr.domain.errors import Unavailable
from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.reasons import Reason
from tests.fake_cluster_of_agent import AgentUnderTest
from tests.fake_node import FakeNode

A = "0000:00:04.0"
B = "0000:00:05.0"


def two_gpus(tmp_path: Path, **more: str) -> AgentUnderTest:
    node = FakeNode(tmp_path)
    node.add_device(A, numa=0)
    node.add_device(B, numa=1)
    return AgentUnderTest(node, {A: "GPU-a", B: "GPU-b"})


async def in_passthrough(tmp_path: Path) -> AgentUnderTest:
    under = two_gpus(tmp_path)
    under.api.want({A: Mode.PASSTHROUGH, B: Mode.SHARED}, step=Step.REBIND, moving=[A])
    await under.passes(3)
    under.api.want({A: Mode.PASSTHROUGH, B: Mode.SHARED})
    await under.passes(2)
    return under


async def test_reports_every_gpu_without_touching_it(tmp_path: Path) -> None:
    under = two_gpus(tmp_path)
    await under.passes()
    gpu = under.api.device(A)
    assert (gpu["driver"], gpu["mode"], gpu["phase"]) == ("bochs-drm", "Shared", "Ready")
    assert (gpu["uuid"], gpu["model"], gpu["memoryMiB"]) == ("GPU-a", "NVIDIA A10", 23028)
    assert gpu["resourceName"] == "emulated.poolmgr.io/BOCHS_DISPLAY"
    assert under.api.body["status"]["summary"] == {
        "gpus": 2, "passthrough": 0, "shared": 2, "moving": 0, "trouble": 0,
    }  # fmt: skip
    assert under.node.writes == []


async def test_reports_only_when_something_changed(tmp_path: Path) -> None:
    under = two_gpus(tmp_path)
    await under.passes(2)
    before = under.api.patches
    await under.passes(5)
    assert under.api.patches == before


async def test_moves_a_gpu_at_the_rebind_step_and_offers_it_at_once(tmp_path: Path) -> None:
    under = two_gpus(tmp_path)
    under.api.want({A: Mode.PASSTHROUGH, B: Mode.SHARED}, step=Step.REBIND, moving=[A])
    await under.passes(1)
    gpu = under.api.device(A)
    assert under.node.driver_of(A) == "vfio-pci"
    assert (gpu["mode"], gpu["phase"], gpu["planId"], gpu["advertised"]) == (
        "Passthrough",
        "Ready",
        "plan-1",
        False,
    )
    await under.passes(1)
    assert under.api.device(A)["advertised"] is True
    assert under.api.device(A)["uuid"] == "GPU-a", "a GPU keeps its name where nobody can ask it"
    assert under.node.driver_of(B) == "bochs-drm"


async def test_rebinds_at_no_earlier_step(tmp_path: Path) -> None:
    under = two_gpus(tmp_path)
    for step in (Step.INTEND, Step.FENCE, Step.DRAIN, Step.DETACH):
        under.api.want({A: Mode.PASSTHROUGH}, step=step, moving=[A])
        await under.passes(2)
    assert under.node.writes == []
    assert under.api.body["status"]["observedGeneration"] == under.api.body["metadata"]["generation"]


async def test_a_held_gpu_is_left_alone_and_says_by_whom(tmp_path: Path) -> None:
    under = two_gpus(tmp_path)
    pod = "12345678-1234-1234-1234-123456789abc"
    pid = under.node.start_process("/dev/dri/card4", command="python3", pod_uid=pod)
    under.api.want({A: Mode.PASSTHROUGH}, step=Step.REBIND, moving=[A])
    await under.passes(3)
    gpu = under.api.device(A)
    assert under.node.writes == []
    assert (gpu["phase"], gpu["reason"]) == ("Moving", "HolderPresent")
    assert gpu["message"] == f"{A} is held by python3 (pid {pid}, pod {pod}) by /dev/dri/card4"
    assert gpu["holders"] == [{"pid": pid, "command": "python3", "podUid": pod, "path": "/dev/dri/card4"}]
    under.node.end_process(pid)
    await under.passes(2)
    assert under.node.driver_of(A) == "vfio-pci"


async def test_a_leaving_gpu_is_withdrawn_before_anything_else(tmp_path: Path) -> None:
    under = await in_passthrough(tmp_path)
    assert under.api.device(A)["advertised"] is True
    under.api.want({A: Mode.SHARED, B: Mode.SHARED}, "plan-2", step=Step.FENCE, moving=[A])
    await under.passes(2)
    gpu = under.api.device(A)
    assert (gpu["advertised"], gpu["driver"]) == (False, "vfio-pci")
    under.api.want({A: Mode.SHARED, B: Mode.SHARED}, "plan-2", step=Step.REBIND, moving=[A])
    await under.passes(2)
    gpu = under.api.device(A)
    assert (gpu["driver"], gpu["mode"], gpu["planId"]) == ("bochs-drm", "Shared", "plan-2")
    assert under.node.devices[A].override == "", "no reservation is left behind"
    assert under.node.violations == []


async def test_a_gpu_given_to_a_pod_stays(tmp_path: Path) -> None:
    under = await in_passthrough(tmp_path)
    under.node.given[A] = "launcher"
    under.api.want({A: Mode.SHARED, B: Mode.SHARED}, "plan-2", step=Step.REBIND, moving=[A])
    await under.passes(3)
    assert under.node.driver_of(A) == "vfio-pci"
    assert under.api.device(A)["reason"] == "KubeletAllocated"


async def test_a_gpu_stays_while_the_kubelet_does_not_say_who_has_it(tmp_path: Path) -> None:
    under = await in_passthrough(tmp_path)
    under.kubelet.known = False
    under.api.want({A: Mode.SHARED, B: Mode.SHARED}, "plan-2", step=Step.REBIND, moving=[A])
    await under.passes(3)
    assert under.node.driver_of(A) == "vfio-pci"
    assert under.api.device(A)["reason"] == "KubeletUnreachable"
    assert under.api.device(A)["advertised"] is True, "the kubelet's last word stands"


async def test_a_gpu_with_slices_of_a_pod_stays(tmp_path: Path) -> None:
    under = two_gpus(tmp_path)
    await under.passes(1)
    under.api.slices["GPU-a"] = ("ml/train-0",)
    under.api.want({A: Mode.PASSTHROUGH}, step=Step.REBIND, moving=[A])
    await under.passes(3)
    assert under.node.writes == []
    assert under.api.device(A)["message"] == f"{A} has slices assigned to ml/train-0"


async def test_an_older_leader_is_not_obeyed(tmp_path: Path) -> None:
    under = two_gpus(tmp_path)
    under.api.want({A: Mode.SHARED, B: Mode.PASSTHROUGH}, "new", step=Step.FENCE, moving=[B], epoch=7)
    await under.passes(1)
    under.restart()  # what was seen survives the process
    under.api.want({A: Mode.PASSTHROUGH, B: Mode.SHARED}, "old", step=Step.REBIND, moving=[A], epoch=6)
    await under.passes(3)
    assert under.node.writes == []
    assert under.api.device(A)["reason"] == "StaleEpoch"
    assert under.api.device(A)["planId"] != "old"


@pytest.mark.parametrize(("seconds", "second"), [(10.0, "vfio-pci"), (16.0, "bochs-drm")])
async def test_each_gpu_of_a_move_is_taken_on_a_spec_that_is_fresh(
    tmp_path, seconds: float, second: str
) -> None:
    """While it was at work on the first the manager parked the move; the second has been given back to HAMi."""
    under = two_gpus(tmp_path)
    wanted = {A: Mode.PASSTHROUGH, B: Mode.PASSTHROUGH}
    under.api.want(wanted, step=Step.REBIND, moving=[A, B])

    def slowly(_: object) -> None:
        under.node.followers.clear()
        under.clock.time += seconds
        under.api.want(wanted, step=Step.ATTACH, moving=[A, B])

    under.node.followers.append(slowly)
    await under.passes(1)
    assert (under.node.driver_of(A), under.node.driver_of(B)) == ("vfio-pci", second)


@pytest.mark.parametrize(("step", "driver"), [(Step.REBIND, "vfio-pci"), (Step.ATTACH, "bochs-drm")])
async def test_looks_that_always_take_long_hold_up_no_move_that_the_spec_still_wants(
    tmp_path: Path, step: Step, driver: str
) -> None:
    """NVML may need a second for each GPU that it wakes. Meanwhile the manager may have parked the move."""
    under = two_gpus(tmp_path)
    await under.passes(2)
    under.api.want({A: Mode.PASSTHROUGH}, step=Step.REBIND, moving=[A])
    lists = under.api.list_pods

    async def list_pods() -> Any:
        under.clock.time += 16
        under.api.want({A: Mode.PASSTHROUGH}, step=step, moving=[A])
        return await lists()

    under.api.list_pods = list_pods  # type: ignore[method-assign]
    await under.passes(1)
    assert under.node.driver_of(A) == driver
    assert bool(under.node.writes) is (step is Step.REBIND)


async def test_an_agent_without_the_api_server_begins_nothing(tmp_path: Path) -> None:
    """The spec that it has says Rebind; what it says now, nobody can tell it."""
    under = two_gpus(tmp_path)
    under.api.want({A: Mode.PASSTHROUGH}, step=Step.REBIND, moving=[A])

    async def away() -> None:
        raise Unavailable(Reason.API_UNAVAILABLE, "no route")

    under.api.read_or_create = away  # type: ignore[method-assign, assignment]
    with pytest.raises(Unavailable):
        await under.passes(1)
    assert under.node.writes == []


async def test_at_attach_only_a_gpu_on_no_driver_is_touched(tmp_path: Path) -> None:
    """What an agent finds that comes back to a parked move."""
    under = two_gpus(tmp_path)
    under.node._unbind(under.node.devices[B])
    under.api.want({A: Mode.PASSTHROUGH, B: Mode.PASSTHROUGH}, step=Step.ATTACH, moving=[A, B])
    await under.passes(3)
    assert (under.node.driver_of(A), under.node.driver_of(B)) == ("bochs-drm", "vfio-pci")
    assert f"unbind {A}" not in under.node.writes


async def test_a_hung_unbind_is_quarantined_and_never_repeated(tmp_path: Path) -> None:
    under = two_gpus(tmp_path)
    under.node.faults.hang_unbind_of.add(A)
    under.api.want({A: Mode.PASSTHROUGH, B: Mode.SHARED}, step=Step.REBIND, moving=[A])
    await under.passes(5)
    gpu = under.api.device(A)
    assert (gpu["phase"], gpu["reason"]) == ("Quarantined", "UnbindTimedOut")
    assert under.node.writes.count(f"unbind {A}") == 1
    under.restart()
    await under.passes(5)
    assert under.node.writes.count(f"unbind {A}") == 1
    assert under.api.device(A)["phase"] == "Quarantined"
    assert under.api.device(B)["phase"] == "Ready", "the agent and the other GPU go on"
    assert under.node.violations == []


async def test_a_gpu_that_a_write_still_holds_is_offered_to_no_vm_though_it_is_where_it_belongs(
    tmp_path: Path,
) -> None:
    under = two_gpus(tmp_path)
    under.api.want({A: Mode.PASSTHROUGH, B: Mode.SHARED}, step=Step.REBIND, moving=[A])
    await under.passes(3)
    assert under.node.offered == {A}
    under.node.faults.hang_write.add(len(under.node.writes) + 1)  # its reservation, before it is unbound
    under.api.want({A: Mode.SHARED, B: Mode.SHARED}, step=Step.REBIND, moving=[A])
    await under.passes(3)
    under.api.want({A: Mode.PASSTHROUGH, B: Mode.SHARED})
    await under.passes(3)
    assert under.node.driver_of(A) == "vfio-pci"
    assert under.node.offered == set()


async def test_a_reboot_frees_a_hung_gpu_and_brings_it_where_it_belongs(tmp_path: Path) -> None:
    under = two_gpus(tmp_path)
    under.node.faults.hang_unbind_of.add(A)
    under.api.want({A: Mode.PASSTHROUGH, B: Mode.SHARED}, step=Step.REBIND, moving=[A])
    await under.passes(2)
    under.node.faults.hang_unbind_of.clear()
    under.node.reboot()
    under.restart()
    await under.passes(3)
    assert under.node.driver_of(A) == "vfio-pci"
    assert under.api.device(A)["phase"] == "Ready"


async def test_a_bind_that_fails_brings_the_gpu_back_and_says_so(tmp_path: Path) -> None:
    under = two_gpus(tmp_path)
    under.node.faults.probe_binds_nothing.add(f"{A} vfio-pci")
    under.api.want({A: Mode.PASSTHROUGH, B: Mode.SHARED}, step=Step.REBIND, moving=[A])
    await under.passes(1)
    gpu = under.api.device(A)
    assert (gpu["driver"], gpu["reason"], gpu["planId"]) == ("bochs-drm", "BindFailed", "")
    assert "it is back on Shared" in gpu["message"]
    assert under.node.devices[A].override == ""


async def test_a_move_that_keeps_failing_is_given_up(tmp_path: Path) -> None:
    under = two_gpus(tmp_path)
    under.node.faults.probe_binds_nothing.add(f"{A} vfio-pci")
    under.api.want({A: Mode.PASSTHROUGH, B: Mode.SHARED}, step=Step.REBIND, moving=[A])
    await under.passes(60)
    unbinds = under.node.writes.count(f"unbind {A}")
    assert unbinds == 5
    assert under.api.device(A)["phase"] == "Quarantined"
    await under.passes(30)
    assert under.node.writes.count(f"unbind {A}") == unbinds
    under.api.want({A: Mode.SHARED, B: Mode.SHARED}, "plan-2")
    await under.passes(2)
    assert under.api.device(A)["phase"] == "Ready", "a plan that leaves it where it is ends the quarantine"


async def test_after_a_reboot_a_gpu_waits_for_a_transition_since_hami_may_have_registered_it(
    tmp_path: Path,
) -> None:
    under = await in_passthrough(tmp_path)
    under.node.reboot()
    under.restart()
    await under.passes(3)
    gpu = under.api.device(A)
    assert under.node.driver_of(A) == "bochs-drm"
    assert (gpu["reason"], gpu["advertised"]) == ("Drifted", False)


async def test_after_a_reboot_a_gpu_that_somebody_already_holds_is_left_alone(tmp_path: Path) -> None:
    under = await in_passthrough(tmp_path)
    under.node.reboot()
    under.node.start_process("/dev/dri/card4", command="nvidia-device-p")
    under.restart()
    await under.passes(3)
    assert under.node.driver_of(A) == "bochs-drm"
    assert under.node.violations == []


async def test_a_gpu_on_no_driver_and_in_no_plan_goes_to_its_host_driver(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    node.add_device(A, driver="")
    under = AgentUnderTest(node)
    await under.passes(2)
    assert node.driver_of(A) == "bochs-drm"
    assert under.api.device(A)["reason"] == "Recovered"


async def test_a_gpu_that_left_the_bus_is_reported_gone(tmp_path: Path) -> None:
    under = two_gpus(tmp_path)
    await under.passes(2)
    under.node.remove_from_bus(B)
    await under.passes(2)
    gone = under.api.device(B)
    assert (gone["phase"], gone["reason"], gone["uuid"]) == ("Quarantined", "DeviceGone", "GPU-b")
    assert under.api.body["status"]["summary"]["trouble"] == 1


async def test_a_gpu_taken_out_on_purpose_is_forgotten_after_a_reboot(tmp_path: Path) -> None:
    under = two_gpus(tmp_path)
    under.api.want({A: Mode.SHARED, B: Mode.SHARED})
    await under.passes(2)
    under.node.remove_from_bus(B)
    under.node.reboot()
    under.restart()
    await under.passes(2)
    assert under.api.device(B)["reason"] == "DeviceGone", "the manager still wants it"
    under.api.want({A: Mode.SHARED})
    await under.passes(2)
    assert [d["pciAddress"] for d in under.api.body["status"]["devices"]] == [A]


async def test_companion_functions_travel_first_and_come_back(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    node.add_device(A, group=9)
    sound = "0000:00:04.1"
    node.add_device(sound, device="2222", pci_class="040300", group=9, host_driver="snd_hda_intel")
    under = AgentUnderTest(node)
    under.api.want({A: Mode.PASSTHROUGH}, step=Step.REBIND, moving=[A])
    await under.passes(2)
    assert (node.driver_of(A), node.driver_of(sound)) == ("vfio-pci", "vfio-pci")
    assert node.writes.index(f"unbind {sound}") < node.writes.index(f"unbind {A}")
    under.api.want({A: Mode.SHARED}, "plan-2", step=Step.FENCE, moving=[A])
    await under.passes(2)
    under.api.want({A: Mode.SHARED}, "plan-2", step=Step.REBIND, moving=[A])
    await under.passes(2)
    assert (node.driver_of(A), node.driver_of(sound)) == ("bochs-drm", "snd_hda_intel")
    assert node.violations == []


async def test_a_group_with_a_stranger_is_refused(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    node.add_device(A, group=9)
    node.add_driver("e1000e")
    node.add_device(
        "0000:00:06.0", vendor="8086", device="10d3", pci_class="020000", group=9, host_driver="e1000e"
    )
    under = AgentUnderTest(node)
    under.api.want({A: Mode.PASSTHROUGH}, step=Step.REBIND, moving=[A])
    await under.passes(2)
    assert under.node.writes == []
    gpu = under.api.device(A)
    assert gpu["reason"] == "GroupNotViable"
    assert gpu["groupDevices"] == [A, "0000:00:06.0"]


async def test_gpus_of_one_group_move_together_or_not_at_all(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    node.add_device(A, group=9)
    node.add_device(B, group=9)
    under = AgentUnderTest(node)
    under.api.want({A: Mode.PASSTHROUGH, B: Mode.SHARED}, step=Step.REBIND, moving=[A])
    await under.passes(2)
    assert node.writes == []
    assert under.api.device(A)["reason"] == "GroupNotViable"
    under.api.want({A: Mode.PASSTHROUGH, B: Mode.PASSTHROUGH}, "plan-2", step=Step.REBIND, moving=[A, B])
    await under.passes(2)
    assert (node.driver_of(A), node.driver_of(B)) == ("vfio-pci", "vfio-pci")
    assert node.offered == {A, B}


async def test_a_foreign_driver_is_left_alone(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    node.add_driver("nouveau")
    node.add_device(A, driver="nouveau")
    under = AgentUnderTest(node)
    under.api.want({A: Mode.PASSTHROUGH}, step=Step.REBIND, moving=[A])
    await under.passes(2)
    assert node.writes == []
    assert under.api.device(A)["phase"] == "Foreign"


async def test_a_spec_that_contradicts_itself_moves_nothing(tmp_path: Path) -> None:
    under = two_gpus(tmp_path)
    under.api.want({A: Mode.SHARED}, step=Step.REBIND, moving=[A], to_mode=Mode.PASSTHROUGH)
    await under.passes(2)
    assert under.node.writes == []
    assert under.api.device(A)["reason"] == "InvariantBroken"


async def test_an_unreadable_spec_moves_nothing_and_is_told(tmp_path: Path) -> None:
    under = two_gpus(tmp_path)
    under.api.body["spec"] = {"devices": [{"pciAddress": A, "mode": "Sideways"}]}
    await under.passes(2)
    assert under.node.writes == []
    ready = next(c for c in under.api.body["status"]["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "InvalidRequest")


async def test_what_stands_in_the_way_of_a_move_is_said_before_anybody_asks_for_one(tmp_path: Path) -> None:
    """The manager would otherwise cordon the node and take HAMi down first, and hear of it at the last step."""
    node = FakeNode(tmp_path)
    node.add_device(A, group=9)
    node.add_device(B)
    node.add_driver("e1000e")
    node.add_device("0000:00:06.0", vendor="8086", pci_class="020000", group=9, host_driver="e1000e")
    under = AgentUnderTest(node, {A: "GPU-a", B: "GPU-b"})
    await under.passes()
    assert under.api.device(A)["phase"] == "Ready"
    reported = under.api.device(A)["rebind"]
    assert (reported["possible"], reported["reason"]) == (False, "GroupNotViable")
    assert "0000:00:06.0" in reported["message"]
    assert under.api.device(B)["rebind"] == {"possible": True, "reason": "InPlace", "message": ""}


async def test_a_gpu_in_use_could_be_rebound_once_its_users_have_gone(tmp_path: Path) -> None:
    under = two_gpus(tmp_path)
    under.node.start_process("/dev/dri/card0", command="Xorg")
    under.node.given[B] = "launcher"
    await under.passes()
    assert under.api.device(A)["rebind"]["possible"]
    assert under.api.device(B)["rebind"]["possible"]


async def test_a_silent_kubelet_is_said_of_every_gpu_and_taken_back(tmp_path: Path) -> None:
    under = two_gpus(tmp_path)
    under.kubelet.known = False
    await under.passes()
    assert {under.api.device(a)["rebind"]["reason"] for a in (A, B)} == {"KubeletUnreachable"}
    under.kubelet.known = True
    await under.passes()
    assert all(under.api.device(a)["rebind"]["possible"] for a in (A, B))


async def test_a_gpu_that_another_device_plugin_gave_away_stays(tmp_path: Path) -> None:
    under = two_gpus(tmp_path)
    await under.passes()
    under.kubelet.given_by_others = [(PodName("ml", "notebook"), "nvidia.com/gpu", "GPU-a")]
    under.api.pods[PodName("ml", "notebook")] = "uid-7"
    under.api.want({A: Mode.PASSTHROUGH}, step=Step.REBIND, moving=[A])
    await under.passes(3)
    assert under.node.writes == []
    assert under.api.device(A)["allocatedTo"] == "uid-7"
    assert under.api.device(A)["reason"] == "KubeletAllocated"


def offered(under: AgentUnderTest) -> dict[str, bool]:
    """What the kubelet is told: address → closed to whoever comes."""
    return {offer.address: offer.closed for offer in under.plugins.offers}


async def test_a_gpu_that_an_operator_withdraws_is_closed_while_in_use_and_offered_no_more_after(
    tmp_path: Path,
) -> None:
    under = await in_passthrough(tmp_path)
    assert offered(under) == {A: False}
    under.api.pods[PodName("default", "launcher")] = "uid-launcher"
    under.node.given[A] = "launcher"
    under.api.annotate("poolmgr.io/quarantined-gpus", A)
    await under.passes(2)
    assert offered(under) == {A: True}, "its user keeps it, nobody new gets it"
    under.kubelet.known = False
    await under.passes(2)
    assert offered(under) == {A: True}, "nobody can tell whether it is in use"
    under.kubelet.known = True
    del under.node.given[A]
    await under.passes(2)
    assert offered(under) == {}
    assert (under.node.driver_of(A), under.api.device(A)["phase"]) == ("vfio-pci", "Ready")
    under.api.annotate("poolmgr.io/quarantined-gpus", "")
    await under.passes(2)
    assert offered(under) == {A: False}


async def test_a_card_that_an_operator_has_forgotten_is_reported_no_more_without_a_reboot(
    tmp_path: Path,
) -> None:
    under = two_gpus(tmp_path)
    under.api.want({A: Mode.SHARED, B: Mode.SHARED})
    await under.passes(2)
    under.node.remove_from_bus(B)
    under.api.annotate("poolmgr.io/forgotten-gpus", f"{A},{B}")
    await under.passes(2)
    assert under.api.device(B)["reason"] == "DeviceGone", "the manager still wants it"
    assert f"`poolmgr gpu forget node-1/{B}`" in under.api.device(B)["message"]
    under.api.want({A: Mode.SHARED})
    await under.passes(2)
    assert [d["pciAddress"] for d in under.api.body["status"]["devices"]] == [A], "what is on its bus stays"
