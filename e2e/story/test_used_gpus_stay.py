"""After the main job: a VM waits while something keeps both GPUs, each time another thing that is easily overlooked. Nothing
is unbound, and everybody is told why; when only a monitoring service is left, it steps aside and comes back.

The node is laid out as NVIDIA's driver would have it; `e2e/node/README.md` says what of that is real. The scenes follow one
another on the story's stage.
"""

import pytest

from e2e.controlplane.kubevirt import virtual_machine
from e2e.node.builders import pod
from e2e.node.poolmgr_release import STEP_SECONDS
from e2e.story import exporter
from e2e.story.acts import Acts
from e2e.story.in_shape import DEVICE_VARIABLE, OTHER_RESOURCE, VM_RESOURCE, InShape
from e2e.story.workloads import GPU_ON_THE_BUS, NAMESPACE, vgpu_pod
from poolmgr.domain.reasons import Reason
from poolmgr.wire.gpu_operator import PAUSED

pytestmark = [pytest.mark.story, pytest.mark.node, pytest.mark.timeout(7200)]


def _notebook(name: str, in_shape: InShape) -> None:
    """A pod to which the other plugin gives the second GPU, and which does nothing with it."""
    selector = {"kubernetes.io/hostname": in_shape.node.name}
    in_shape.story.run_pod(pod(name, NAMESPACE, limits={OTHER_RESOURCE: "1"}, nodeSelector=selector))
    in_shape.story.wait(f"the agent to see {name}", lambda: in_shape.device(in_shape.second)["allocatedTo"])


def test_9_an_idle_slice_keeps_its_gpu(story: Acts, in_shape: InShape) -> None:
    story.narrative.chapter(
        9, "A pod has a slice and computes nothing, another is idle on another plugin's GPU"
    )
    story.run_pod(vgpu_pod("idle-slice", story.node.name))
    in_shape.take_for_first(story.gpu_of("idle-slice"))
    in_shape.start_other_plugin(in_shape.second)
    _notebook("notebook", in_shape)
    story.keep("idle-slice")
    story.keep("notebook")
    in_shape.watch_steps()
    story.apply(virtual_machine("kim", NAMESPACE, [VM_RESOURCE]))
    story.wait("kim's launcher pod", lambda: story.launcher("kim"))
    in_shape.told(in_shape.first, Reason.GPU_BUSY, f"pod {NAMESPACE}/idle-slice")
    in_shape.event_says("kim", "2 of them GpuBusy")
    assert in_shape.device(in_shape.first)["holders"] == [], "no process has it open"
    in_shape.stays()


def test_10_a_pod_of_another_plugin_keeps_its_gpu(story: Acts, in_shape: InShape) -> None:
    story.narrative.chapter(10, "The other plugin's pod: only the kubelet knows of it")
    uid = story.pod("notebook")["metadata"]["uid"]
    in_shape.told(in_shape.second, Reason.GPU_BUSY, f"the pod with UID {uid}, to which the kubelet gave it")
    assert in_shape.device(in_shape.second)["allocatedTo"] == uid
    assert in_shape.device(in_shape.second)["holders"] == [], "no process has it open"
    in_shape.stays()


def test_11_mig_that_is_switched_on_meanwhile_keeps_a_gpu_that_nobody_uses(
    story: Acts, in_shape: InShape
) -> None:
    story.narrative.chapter(11, "Somebody switches MIG on; then the GPU's only pod ends")
    second = in_shape.second
    assert in_shape.device(second)["rebind"]["possible"], "so the agent said until now"
    in_shape.nvml(second, mig=True)
    story.wait("the agent to notice", lambda: in_shape.rebind_says(second, Reason.MIG_ENABLED))
    story.let_go("notebook")
    story.wait("the kubelet to have it back", lambda: not in_shape.device(second)["allocatedTo"])
    in_shape.told(second, Reason.MIG_ENABLED, f"is in MIG mode: run nvidia-smi -i {second} -mig 0 first")
    in_shape.event_says("kim", "1 of them MigEnabled")
    in_shape.stays()

    _notebook("notebook-2", in_shape)
    story.keep("notebook-2")
    in_shape.nvml(second)


def test_12_a_mask_over_the_drivers_files_hides_no_holder(story: Acts, in_shape: InShape) -> None:
    story.narrative.chapter(
        12, "A tmpfs lies over /proc/driver/nvidia, and a process of the host has the GPU open"
    )
    first, file = in_shape.first, in_shape.device_file(in_shape.first)
    holder = story.guest.start("holder", ["sh", "-c", f"exec 5<>{file}; exec sleep 100000"])
    in_shape.shaped.mask([])
    story.wait("the agent to see the holder", lambda: in_shape.device(first)["holders"])
    story.let_go("idle-slice")
    in_shape.told(first, Reason.GPU_BUSY, f"process sleep (pid {holder})")
    (seen,) = in_shape.device(first)["holders"]
    assert (seen["pid"], seen["path"]) == (holder, file)
    in_shape.stays()

    story.narrative.say("story", "NVML does not say either which device file is whose")
    for address in in_shape.gpus:
        in_shape.nvml(address, "fail = nvmlDeviceGetMinorNumber NOT_SUPPORTED")
    in_shape.told(first, Reason.CANNOT_TELL, "the numbers of its device files are unknown")
    in_shape.event_says("kim", "2 of them CannotTell")
    story.guest.run(f"kill {holder}", check=True)
    in_shape.stays()
    in_shape.told(first, Reason.CANNOT_TELL, "the numbers of its device files are unknown")


def test_13_a_monitoring_service_steps_aside_and_comes_back(story: Acts, in_shape: InShape) -> None:
    story.narrative.chapter(
        13, "Only a monitoring service has the GPU open: it is paused, the GPU moves, it is back"
    )
    first = in_shape.first
    before = in_shape.run_exporter()
    in_shape.shaped.unmask()
    for address in in_shape.gpus:
        in_shape.nvml(address)
    story.wait("the exporter to be paused", lambda: in_shape.exporter_label() == PAUSED)
    story.narrative.say("operator", f"sees {exporter.LABEL}={PAUSED} on {story.node.name}")
    in_shape.event_says(story.node.name, "pausing dcgm-exporter", namespace="default")
    story.wait_driver(first, "vfio-pci")
    story.wait("the launcher to run", lambda: story.running_launcher("kim"))
    seen = story.wait("the VM to show its bus", lambda: story.launcher_says("kim", GPU_ON_THE_BUS))
    assert f"{DEVICE_VARIABLE}={first}" in seen
    story.wait("the exporter to be back", lambda: in_shape.running_exporter() not in ("", before))
    assert in_shape.exporter_label() == exporter.RUNS
    # HAMi's plugin starts beside the VM and all the others: nine minutes on a busy machine.
    story.wait("the move to end", story.settled, seconds=STEP_SECONDS)
    assert story.guest.driver(in_shape.second) == story.host_driver
    story.assert_kept()
