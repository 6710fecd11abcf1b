"""A recording has what the agent looks at, and nothing that is nobody else's business."""

import json
from pathlib import Path

from e2e.node.shape import Shape
from poolmgr.agent.manual import ManualControl
from tests.fake_node import FakeNode
from tests.recorded_node import RecordedNode, answers, judge

A, B = "0000:3b:00.0", "0000:86:00.0"
POD = "0f0e0d0c-0000-4000-8000-000000000001"


async def test_a_recording_is_judged_as_its_node(tmp_path: Path) -> None:
    node = RecordedNode(tmp_path, Shape(gpus=(A, B), mig={1: ("1g.10gb",)}))
    node.hold("/dev/nvidia0", "dcgm-exporter", POD)
    there = ManualControl(node.sources)
    here = judge(await node.record())
    assert await here.look() == await there.look()
    assert await answers(here) == await answers(there)


async def test_what_is_judged_is_a_copy_whatever_becomes_of_the_node(tmp_path: Path) -> None:
    node = RecordedNode(tmp_path, Shape(gpus=(A,)))
    content = await node.record()
    node.node.remove_from_bus(A)
    (finding,) = await judge(content).look()
    assert finding.observed.gpu.address == A


def secretive(node: FakeNode, pid: int) -> None:
    folder = node.proc / str(pid)
    (folder / "cmdline").write_text("python3\0--token=s3cret-argument\0")
    (folder / "environ").write_text("PASSWORD=s3cret-environment\0")
    (folder / "cgroup").write_text(f"0::/kubepods/pod{POD}/cri-s3cret-container\n1:cpu:/s3cret-slice\n")
    (folder / "fd/9").symlink_to("/home/ada/s3cret-file")
    (folder / "fd/10").symlink_to("socket:[s3cret]")
    (folder / "fdinfo").mkdir()


async def test_of_a_process_only_name_pod_and_devices_are_kept(tmp_path: Path) -> None:
    node = RecordedNode(tmp_path, Shape(gpus=(A,)))
    secretive(node.node, node.hold("/dev/nvidia0", "python3", POD))
    vm = node.hold("anon_inode:[vfio-device]", "qemu-kvm")
    secretive(node.node, vm)
    info = f"pos:\ts3cret-position\nvfio-device-syspath: /sys/devices/pci0000:3a/{A}\n"
    (node.node.proc / str(vm) / "fdinfo/7").write_text(info)
    bystander = node.hold("/dev/null", "s3cret-daemon")
    secretive(node.node, bystander)
    content = await node.record()
    assert b"s3cret" not in content
    assert f'"/proc/{bystander}' not in content.decode()
    (finding,) = await judge(content).look()
    assert [(h.command, h.pod_uid, h.path) for h in finding.observed.holders] == [
        ("python3", POD, "/dev/nvidia0"),
        ("qemu-kvm", POD, "anon_inode:[vfio-device]"),
    ]


async def test_of_pods_only_those_that_were_given_devices_are_kept(tmp_path: Path) -> None:
    node = RecordedNode(tmp_path, Shape(gpus=(A,)))
    node.kubelet.pods.pod_resources.add(name="s3cret-pod", namespace="bank").containers.add(name="main")
    node.give("nvidia.com/gpu", node.shape.uuid_of(0) if node.shape else "", pod="ml/train")
    content = await node.record()
    assert b"s3cret" not in content
    assert json.loads(content)["kubelet"]["pods"]["podResources"][0]["name"] == "train"


async def test_names_that_cannot_be_shown_do_not_get_into_the_file(tmp_path: Path) -> None:
    node = RecordedNode(tmp_path, Shape(gpus=(A,)))
    pid = node.hold("/dev/nvidia0")
    (node.node.proc / str(pid) / "comm").write_bytes(b"\xff\x1b[2J\n")
    here = judge(await node.record())
    (finding,) = await here.look()
    assert finding.observed.holders[0].command.isprintable()


async def test_a_hidden_process_stays_hidden_in_the_recording(tmp_path: Path) -> None:
    """Not knowing who holds a GPU must not become knowing that nobody does."""
    node = RecordedNode(tmp_path, Shape(gpus=(A,)))
    pid = node.hold("/dev/null", "guarded")
    (node.node.proc / str(pid) / "fd/9").write_text("")  # no link: any error but "it is gone" will do
    answer = (await answers(judge(await node.record())))[A]
    assert (answer.moves, answer.reason) == (False, "CannotTell")
    assert "which files guarded (pid" in answer.message
