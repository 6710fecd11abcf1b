"""The agent on a real kernel with a real kubelet and API server. The tests follow one another."""

from collections.abc import Iterator

import pytest

from e2e.agent.agent_on_node import VENV_PYTHON, AgentOnNode
from e2e.node.builders import pod
from e2e.node.kubelet import KubeNode
from e2e.node.node import REPOSITORY, GuestNode
from e2e.node.nvml import gpu_uuid
from poolmgr.domain.modes import Mode, Step

FIRST, SECOND = "0000:00:10.0", "0000:00:11.0"
RESOURCE = "emulated.poolmgr.io/BOCHS_DISPLAY"
BOTH_SHARED = {FIRST: Mode.SHARED, SECOND: Mode.SHARED}
FIRST_OVER = {FIRST: Mode.PASSTHROUGH, SECOND: Mode.SHARED}
NAMESPACE = "agent-tests"


@pytest.fixture(scope="module")
def agent(kube_node: KubeNode) -> Iterator[AgentOnNode]:
    made = AgentOnNode(kube_node).install()
    kube_node.plane.ensure_namespace(NAMESPACE)
    yield made
    made.uninstall()
    for address in (FIRST, SECOND):
        if made.guest.driver(address) != "bochs-drm":
            made.guest.rebind(address, "bochs-drm")


def test_the_real_kernel_keeps_the_contract_of_the_fake_one(guest_node: GuestNode) -> None:
    command = [str(VENV_PYTHON), "-B", "-m", "pytest", "-p", "no:cacheprovider", "-o", "timeout=0", "-v", "-k", "real or test_kernelwrite",
               "tests/integration/agent/test_kernel_contract.py", "tests/integration/agent/test_kernelwrite.py"]  # fmt: skip
    result = guest_node.run(
        command, env={"POOLMGR_REAL_GPU": FIRST}, cwd=str(REPOSITORY), timeout_seconds=600, echo=True
    )
    assert result.rc == 0, result.out
    assert "[real] PASSED" in result.out, "the real kernel was asked"
    assert guest_node.driver(FIRST) == "bochs-drm"


def test_the_agent_reports_the_node_with_the_rights_of_its_chart(agent: AgentOnNode) -> None:
    agent.start()
    # NVML may answer after the first report: that says that the GPU's UUID is not known.
    agent.plane.wait_for("a report with NVML's answers", lambda: agent.device(FIRST).get("uuid"))
    gpu = agent.device(FIRST)
    assert (gpu["driver"], gpu["mode"], gpu["phase"]) == ("bochs-drm", "Shared", "Ready")
    assert (gpu["uuid"], gpu["model"]) == (gpu_uuid(FIRST), "NVIDIA L40S")
    assert (gpu["resourceName"], gpu["groupDevices"]) == (RESOURCE, [FIRST])
    owner = agent.body()["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"]) == ("Node", agent.node.object()["metadata"]["uid"])
    print(agent.plane.kubectl("get", "gpunodes", "-o", "wide"))


def test_a_held_gpu_stays_on_the_real_kernel(agent: AgentOnNode) -> None:
    card = agent.guest.run(f"ls /sys/bus/pci/devices/{FIRST}/drm | grep card", check=True).out.strip()
    holder = agent.guest.start("holder", ["sleep", "1000"])
    agent.guest.run(f"kill {holder}")
    holder = agent.guest.start("holder", ["sh", "-c", f"exec 5<>/dev/dri/{card}; exec sleep 1000"])
    agent.want(FIRST_OVER, "p1", step=Step.REBIND, moving=[FIRST])
    gpu = agent.until(FIRST, reason="HolderPresent", phase="Moving")
    assert f"(pid {holder}) by /dev/dri/{card}" in gpu["message"]
    assert agent.guest.driver(FIRST) == "bochs-drm"
    agent.guest.run(f"kill {holder}")
    agent.until(FIRST, mode="Passthrough", phase="Ready", planId="p1", advertised=True)


def test_a_gpu_in_passthrough_is_on_vfio_and_allocatable_and_keeps_its_name(agent: AgentOnNode) -> None:
    assert agent.guest.driver(FIRST) == "vfio-pci"
    assert agent.guest.driver(SECOND) == "bochs-drm"
    agent.plane.wait_for(
        "the node's allocatable", lambda: agent.node.allocatable(RESOURCE) == 1, timeout_seconds=60
    )
    assert agent.device(FIRST)["uuid"] == gpu_uuid(FIRST)
    agent.want(FIRST_OVER, "p1")


def test_a_pod_gets_kubevirts_contract_from_the_real_kubelet(agent: AgentOnNode) -> None:
    command = [
        "sh",
        "-c",
        "env | grep PCI_RESOURCE; ls /dev/vfio; trap 'exit 0' TERM; while :; do sleep 1; done",
    ]
    agent.plane.apply(pod("vm", NAMESPACE, command=command, limits={RESOURCE: "1"}))
    running = agent.node.wait_for_pod(NAMESPACE, "vm")
    log = agent.node.pod_log(NAMESPACE, "vm")
    print(log)
    assert f"PCI_RESOURCE_EMULATED_POOLMGR_IO_BOCHS_DISPLAY={FIRST}" in log
    assert log.split()[1:] == [str(agent.guest.iommu_group(FIRST)), "vfio"]
    agent.until(FIRST, allocatedTo=running["metadata"]["uid"])


def test_a_gpu_given_to_a_pod_is_withdrawn_and_stays_until_the_pod_is_gone(agent: AgentOnNode) -> None:
    agent.want(BOTH_SHARED, "p2", step=Step.FENCE, moving=[FIRST])
    agent.until(FIRST, advertised=False, driver="vfio-pci")
    agent.plane.wait_for(
        "nothing allocatable", lambda: agent.node.allocatable(RESOURCE) == 0, timeout_seconds=60
    )
    agent.want(BOTH_SHARED, "p2", step=Step.REBIND, moving=[FIRST])
    agent.until(FIRST, reason="KubeletAllocated")
    assert agent.guest.driver(FIRST) == "vfio-pci"
    agent.plane.kubectl("delete", "pod", "-n", NAMESPACE, "vm", "--timeout=300s")
    agent.until(FIRST, mode="Shared", phase="Ready", planId="p2", allocatedTo="")
    assert agent.guest.driver(FIRST) == "bochs-drm"
    agent.want(BOTH_SHARED, "p2")


KILL_WHEN_BARE = """
while [ -e /sys/bus/pci/devices/{gpu}/driver ]; do :; done
kill -9 {pid}
readlink /sys/bus/pci/devices/{gpu}/driver || echo bare
"""


def test_killed_between_unbind_and_bind_it_finishes_when_it_is_back(agent: AgentOnNode) -> None:
    agent.guest.put(KILL_WHEN_BARE.format(gpu=FIRST, pid=agent.pid), "/run/kill-when-bare.sh")
    agent.guest.start("killer", ["sh", "/run/kill-when-bare.sh"])
    agent.want(FIRST_OVER, "p3", step=Step.REBIND, moving=[FIRST])
    agent.guest.wait_for(f"! kill -0 {agent.pid} 2>/dev/null", what="the agent is killed")
    agent.guest.wait_for("test -s /var/log/node/killer.log")
    assert agent.guest.logs("killer").split()[-1] == "bare", "killed while the GPU was on no driver"
    agent.start()
    gpu = agent.until(FIRST, mode="Passthrough", phase="Ready", planId="p3", advertised=True)
    assert gpu["reason"] == "Recovered"
    print(gpu["message"])
    agent.want(FIRST_OVER, "p3")


def test_a_restarted_kubelet_has_the_device_again(agent: AgentOnNode) -> None:
    agent.guest.run("pkill -x kubelet; sleep 1", check=True)
    agent.plane.wait_for("the kubelet is gone", lambda: agent.device(FIRST).get("advertised") is not None)
    agent.node._start_kubelet(agent.guest)
    agent.plane.wait_for(
        "registered again",
        lambda: agent.guest.logs("agent").count("device_plugin_registered") >= 3,
    )
    agent.plane.wait_for(
        "allocatable again", lambda: agent.node.allocatable(RESOURCE) == 1, timeout_seconds=120
    )


def test_after_a_power_cut_a_gpu_waits_for_a_transition_to_passthrough(agent: AgentOnNode) -> None:
    before = agent.body()["status"]["bootId"]
    agent.guest.reboot(power_cut=True)
    assert agent.guest.driver(FIRST) == "bochs-drm", "the host driver wins the boot"
    from e2e.node.nvml import ensure_nvml

    ensure_nvml(agent.guest)
    agent.start()
    agent.until(FIRST, mode="Shared", reason="Drifted", advertised=False)
    assert agent.guest.driver(FIRST) == "bochs-drm", "HAMi may have registered it: only a transition moves it"
    agent.want(FIRST_OVER, "p3", step=Step.REBIND, moving=[FIRST])
    gpu = agent.until(FIRST, mode="Passthrough", phase="Ready", planId="p3", advertised=True)
    assert gpu["uuid"] == gpu_uuid(FIRST)
    assert agent.body()["status"]["bootId"] not in (before, "")
    assert agent.guest.driver(FIRST) == "vfio-pci"
    print(agent.guest.logs("agent")[-1500:])


def test_power_cut_between_unbind_and_bind(agent: AgentOnNode) -> None:
    agent.want(BOTH_SHARED, "p4", step=Step.FENCE, moving=[FIRST])
    agent.until(FIRST, advertised=False)
    agent.guest.put(KILL_WHEN_BARE.format(gpu=FIRST, pid=agent.pid), "/run/kill-when-bare.sh")
    agent.guest.start("killer", ["sh", "/run/kill-when-bare.sh"])
    agent.want(BOTH_SHARED, "p4", step=Step.REBIND, moving=[FIRST])
    agent.guest.wait_for("test -s /var/log/node/killer.log")
    agent.guest.reboot(power_cut=True)
    agent.start()
    agent.until(FIRST, mode="Shared", phase="Ready", planId="p4", driver="bochs-drm")
    agent.want(BOTH_SHARED, "p4")
