"""What chapters do on the stage and how they look at it; every verb waits by looking, and says what it saw."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from e2e.controlplane.client import ApiError, Json
from e2e.controlplane.kubevirt import launcher_pod
from e2e.node.machine import PYTHON
from e2e.node.nvml import HOST_DRIVER
from e2e.story.stage import Stage, driver_links
from e2e.story.steps import StepWatch
from e2e.story.workloads import NAMESPACE
from poolmgr.domain.errors import PoolError
from poolmgr.domain.modes import Step

WAIT_SECONDS = 600
"""For anything that takes seconds on an idle machine: the emulated node is ten times slower beside other work."""


CATCH = Path(__file__).with_name("guest_catch.py")


_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|\r")


class Acts:
    """The stage with verbs."""

    host_driver = HOST_DRIVER

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.plane, self.guest, self.node = stage.plane, stage.guest, stage.node
        self.narrative = stage.narrative
        self._kept: dict[str, tuple[str, int]] = {}

    # --- users and administrators ------------------------------------------------------------------------------

    def apply(self, item: Json, *, user: str = "user") -> str:
        """kubectl apply, as a user does it; answers and quotes what the user saw, warnings included."""
        said = self.plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(item))
        self.narrative.quote(user, f"$ kubectl apply -f {item['metadata']['name']}.yaml\n{said}")
        return said

    def show(self, *arguments: str) -> str:
        """kubectl, quoted."""
        said = self.plane.kubectl(*arguments)
        self.narrative.quote("operator", f"$ kubectl {' '.join(arguments)}\n{said}")
        return said

    def run_pod(self, item: Json) -> None:
        """Apply a pod and wait until it runs."""
        self.apply(item)
        self.wait_running(item["metadata"]["name"])

    def delete_pod(self, name: str) -> None:
        self.plane.api.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}", gracePeriodSeconds=0)
        self.wait(f"{name} to be gone", lambda: not self.plane.api.exists(_pod_path(name)))

    def halt(self, machine: str) -> None:
        """Stop a VM as `virtctl stop` does."""
        self.plane.api.patch(_machine_path(machine), {"spec": {"runStrategy": "Halted"}})
        self.narrative.say("user", f"stops VM {machine}")
        self.wait(f"{machine}'s launcher to go", lambda: self.launcher(machine) is None)

    def delete_machine(self, machine: str) -> None:
        self.plane.api.delete(_machine_path(machine))
        self.wait(f"{machine}'s launcher to go", lambda: self.launcher(machine) is None)

    # --- waiting -----------------------------------------------------------------------------------------------

    def wait(self, what: str, probe: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
        """What `probe` answers once that is true. On time-out the story says what it was waiting for, and the manager
        why nothing moved."""
        try:
            return self.plane.wait_for(what, probe, timeout_seconds=seconds)
        except TimeoutError as late:
            self.narrative.say("story", f"waited in vain: {late}")
            self.narrative.say("sysfs", driver_links(self.guest))
            with contextlib.suppress(PoolError, ApiError):
                self.narrative.quote("manager", self.plan_says(""))
            raise

    def wait_running(self, pod: str) -> Json:
        found: Json = self.wait(f"{pod} to run", lambda: _running(self.pod(pod)))
        return found

    def wait_driver(self, address: str, driver: str) -> None:
        """Wait until the kernel has the GPU on `driver`; says the links before and after."""
        self.narrative.say("sysfs", f"before: {driver_links(self.guest)}")
        self.wait(f"{address} on {driver}", lambda: self.guest.driver(address) == driver)
        self.narrative.say("sysfs", f"after:  {driver_links(self.guest)}")

    def watch_for(self, seconds: float, forbidden: Callable[[], Any]) -> None:
        """Look for `seconds` that `forbidden` stays false."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert not forbidden()
            time.sleep(1)

    # --- looking -----------------------------------------------------------------------------------------------

    def gpu_node(self) -> Json:
        """The GPUNode of the real node."""
        return self.plane.api.get(f"/apis/poolmgr.io/v1alpha1/gpunodes/{self.node.name}")

    def devices(self) -> dict[str, Json]:
        """What the agent reports, by PCI address."""
        return {item["pciAddress"]: item for item in self.gpu_node().get("status", {}).get("devices", [])}

    def settled(self) -> bool:
        """Whether nothing is moving on the real node."""
        return not self.gpu_node().get("spec", {}).get("transition")

    def reported_as_it_is(self) -> bool:
        """Whether the agent's report since this boot and the kernel agree on every GPU."""
        if self.gpu_node()["status"].get("bootId") != self.guest.boot_id():
            return False
        reported = {address: item.get("driver") or None for address, item in self.devices().items()}
        return reported == self.guest.drivers()

    def pod(self, name: str) -> Json:
        """A pod of the users' namespace."""
        return self.plane.api.get(_pod_path(name))

    def gpu_of(self, pod: str) -> str:
        """PCI address of the GPU that HAMi gave to a pod."""
        text: str = self.pod(pod)["metadata"]["annotations"]["hami.io/vgpu-devices-allocated"]
        uuid = text.split(",")[0]
        return next(address for address, item in self.devices().items() if item.get("uuid") == uuid)

    def other_gpu(self, address: str) -> str:
        """The node's other GPU."""
        (other,) = set(self.guest.spec.gpu_addresses) - {address}
        return other

    def launcher(self, machine: str) -> Json | None:
        """The VM's launcher pod, if there is one."""
        return launcher_pod(self.plane, NAMESPACE, machine)

    def running_launcher(self, machine: str) -> Json | None:
        pod = self.launcher(machine)
        return _running(pod) if pod else None

    def launcher_says(self, machine: str, word: str) -> str:
        """What the VM's launcher has printed, once `word` is in it; empty before."""
        pod = self.running_launcher(machine)
        said = self.node.pod_log(NAMESPACE, pod["metadata"]["name"]) if pod else ""
        return _TERMINAL_CODES.sub("", said) if word in said else ""

    def gpu_on(self, driver: str) -> str:
        """PCI address of the one GPU that the kernel has on `driver`."""
        (found,) = (address for address, name in self.guest.drivers().items() if name == driver)
        return found

    def keep(self, pod: str) -> None:
        """From now on this pod must stay as it is: `assert_kept`."""
        self._kept[pod] = _identity(self.pod(pod))

    def let_go(self, pod: str) -> None:
        """Delete a pod that was to stay as it was until now."""
        del self._kept[pod]
        self.delete_pod(pod)

    def assert_kept(self) -> None:
        """None of the kept pods was restarted, replaced or moved."""
        for pod, identity in self._kept.items():
            assert _identity(self.pod(pod)) == identity, pod

    def plan_says(self, word: str) -> str:
        """The sentences of the manager's newest plan (its REST API) that hold `word`, one a line."""
        with self.stage.poolmgr.api(self.stage.admin) as api:
            answer = api.get("/plans/latest")
        return "\n".join(dict.fromkeys(text for text in _sentences(answer) if word in text))

    def last_event(self, pod: str) -> str:
        """What Events have said of one of the users' pods."""
        by_name = f"involvedObject.name={pod}"
        return self.plane.kubectl(
            "get",
            "events",
            "-n",
            NAMESPACE,
            "--field-selector",
            by_name,
            "-o",
            "jsonpath={.items[*].message}",
        )

    # --- breaking ----------------------------------------------------------------------------------------------

    def kill_agent_between_unbind_and_bind(self, address: str, begin: Callable[[], object]) -> None:
        """SIGKILL the agent in the moment in which the GPU has no driver. `begin` sets the move off."""
        self.guest.start("catch", [str(PYTHON), "-I", "-S", str(CATCH), address])
        self.wait("the trap to be armed", lambda: "armed" in self.guest.logs("catch"))
        begin()
        left = self.wait(f"{address} to lose its driver", lambda: _caught(self.guest.logs("catch")))
        self.narrative.say("sysfs", f"the agent was killed in mid-move: {address} → {left}")
        assert left == "no driver"

    def reboot(self) -> None:
        """Pull the node's plug and boot it again; what it kept is on its disk."""
        self.narrative.say("story", f"power cut; {driver_links(self.guest)}")
        with self.narrative.timed("node", "is back"):
            self.guest.reboot(power_cut=True)
        self.narrative.say("sysfs", driver_links(self.guest))

    def kill_manager_at_each_step(self, begin: Callable[[], object], done: Callable[[], bool]) -> list[Step]:
        """Kill the manager as soon as it has written a step of the move that `begin` causes; answers the steps in
        order. Steps that it wrote before the signal came are one kill."""
        killed_at: list[Step] = []
        watch = StepWatch(self.plane, self.node.name).start()
        begin()

        def news() -> list[Step] | str:
            return list(watch.new()) or ("over" if killed_at and self.settled() and done() else "")

        while isinstance(steps := self.wait("another step of the move", news), list):
            killed = self.stage.poolmgr.kill_leader()
            self.narrative.say(
                "story", f"{killed} is killed at {', '.join(steps)}; the other manager takes over"
            )
            killed_at += steps
        watch.stop()
        return killed_at


def _caught(log: str) -> str:
    return log.partition("killed: ")[2].strip()


def _sentences(answer: object) -> Iterator[str]:
    """Every `message` in a JSON document, in order."""
    if isinstance(answer, dict):
        if isinstance(answer.get("message"), str):
            yield answer["message"]
        for value in answer.values():
            yield from _sentences(value)
    elif isinstance(answer, list):
        for value in answer:
            yield from _sentences(value)


def _pod_path(name: str) -> str:
    return f"/api/v1/namespaces/{NAMESPACE}/pods/{name}"


def _machine_path(name: str) -> str:
    return f"/apis/kubevirt.io/v1/namespaces/{NAMESPACE}/virtualmachines/{name}"


def _running(pod: Json) -> Json | None:
    if pod["status"].get("phase") == "Failed":
        raise PodFailed(pod)
    return pod if pod["status"].get("phase") == "Running" else None


def _identity(pod: Json) -> tuple[str, int]:
    restarts = sum(item["restartCount"] for item in pod["status"].get("containerStatuses", []))
    return pod["metadata"]["uid"], restarts


class PodFailed(AssertionError):
    """A pod that was to run has failed; the message is its status."""

    def __init__(self, pod: Json) -> None:
        super().__init__(f"{pod['metadata']['name']} failed: {pod['status']}")
