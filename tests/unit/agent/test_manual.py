"""What an operator sees and is refused at one node by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from poolmgr.agent.manual import ManualControl, checks, describe_steps
from poolmgr.agent.node_sources import of_this_node
from poolmgr.agent.observed import ObservedGpu
from poolmgr.agent.settings import AgentSettings
from poolmgr.domain.errors import Rejected
from poolmgr.domain.fleet import Holder
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from tests.fake_node import FakeNode

A = "0000:3b:00.0"


def manual_control(tmp_path: Path, **device: str) -> ManualControl:
    node = FakeNode(tmp_path)
    node.add_device(A, vendor="10de", device="2236", pci_class="030200", host_driver="nvidia", **device)  # type: ignore[arg-type]
    settings = AgentSettings(
        NodeName("n1"),
        sys_root=node.sys,
        proc_root=node.proc,
        state_dir=node.state_dir,
        kubelet_dir=tmp_path / "kubelet",
    )
    return ManualControl(of_this_node(settings))


async def observed_gpu(tmp_path: Path, **device: str) -> ObservedGpu:
    return (await manual_control(tmp_path, **device).find("3b:00.0")).observed


async def test_a_gpu_is_found_by_its_short_address_and_named_without_nvml(tmp_path: Path) -> None:
    (found,) = await manual_control(tmp_path).look(ask_nvml=False)
    assert (found.observed.gpu.address, found.model, found.memory_mib) == (A, "NVIDIA A10", 23028)
    with pytest.raises(Rejected, match=r"0000:99:00.0 is not a GPU of this node; it has: 0000:3b:00.0"):
        await manual_control(tmp_path / "other").find("99:00.0")


async def test_every_check_is_named_and_a_holder_is_told(tmp_path: Path) -> None:
    seen = await observed_gpu(tmp_path)
    assert [name for name, v in checks(seen, Mode.PASSTHROUGH) if not v] == ["evidence"]
    gpu = replace(seen.gpu, device_files_known=True)
    observed = replace(seen, gpu=gpu, uuid="GPU-1", mig_enabled=False, kubelet_known=True)
    assert all(verdict for _, verdict in checks(observed, Mode.PASSTHROUGH))
    held = replace(observed, holders=(Holder(7, "python3", "", "/dev/nvidia0"),))
    refusals = {name: v.message for name, v in checks(held, Mode.PASSTHROUGH) if not v}
    assert refusals == {"holders": f"{A} is held by python3 (pid 7) by /dev/nvidia0"}


async def test_a_gpu_that_the_kubelet_offers_is_not_taken_from_it_manual(tmp_path: Path) -> None:
    observed = await observed_gpu(tmp_path, driver="vfio-pci")
    offered = replace(observed, listed=True, kubelet_known=True)
    assert [name for name, v in checks(offered, Mode.SHARED) if not v] == ["kubelet"]


async def test_a_dry_run_says_each_step_and_that_nothing_is_to_do_when_it_is_there(tmp_path: Path) -> None:
    gpu = (await observed_gpu(tmp_path)).gpu
    steps = describe_steps(gpu, Mode.PASSTHROUGH)
    assert f"unbind {A} from nvidia" in steps
    assert steps[-1] == f"read back that {A} is on vfio-pci and answers"
    assert describe_steps(gpu, Mode.SHARED) == (f"nothing: {A} is already on nvidia",)
