"""The story's node laid out as NVIDIA's driver has one, and how scenes look at a GPU that must stay there."""

import html
from dataclasses import replace

from e2e.controlplane.client import ApiClient, Json
from e2e.controlplane.kubevirt import KubeVirt
from e2e.node.hami_plugin import HamiPlugin
from e2e.node.images import shown
from e2e.node.node import REPOSITORY
from e2e.node.nvml import show_in_nvml
from e2e.node.poolmgr_release import NAMESPACE as POOLMGR_NAMESPACE
from e2e.node.shape import Shape
from e2e.node.shaped import ACCELERATORS, ShapedNode
from e2e.story import exporter
from e2e.story.acts import Acts
from e2e.story.steps import StepWatch
from e2e.story.workloads import NAMESPACE, pool
from poolmgr.domain.plan import SubjectKind
from poolmgr.domain.reasons import Reason

VM_RESOURCE = "nvidia.com/GA100_A100_SXM4_80GB"
VM_SELECTOR = "10DE:20B2"
DEVICE_VARIABLE = "PCI_RESOURCE_NVIDIA_COM_GA100_A100_SXM4_80GB"
OTHER_RESOURCE = "time-slicing.example.com/gpu"
"""Of the other device plugin; by its name alone nobody could tell that it gives GPUs away."""
PLUGINS = "/var/lib/kubelet/device-plugins"
STAYS_SECONDS = 20


class InShape:
    """The stage with NVIDIA's files over its two GPUs; `story` has the other verbs."""

    def __init__(self, story: Acts, plugin: HamiPlugin, kubevirt: KubeVirt) -> None:
        self.story = story
        self.guest, self.plane, self.node = story.guest, story.plane, story.node
        self.gpus = story.guest.spec.gpu_addresses
        self.shape = Shape(gpus=self.gpus, host_driver=story.host_driver)
        self.shaped = ShapedNode(story.guest)
        self.first = self.second = ""
        """PCI addresses, once `take_for_first` was called."""
        self._plugin, self._kubevirt = plugin, kubevirt
        self._watch = StepWatch(story.plane, story.node.name)

    # --- laying ---------------------------------------------------------------------------------------------------

    def lay(self) -> None:
        """Ends what runs, has both GPUs shared, lays the shape, and has everybody look at the GPUs anew."""
        story = self.story
        story.wait("the agent's report of both GPUs", lambda: len(story.devices()) == len(self.gpus))
        # The story has made more moves than poolmgr makes on a node within an hour; here that hour has passed.
        ApiClient(self.plane.service_account_kubeconfig(POOLMGR_NAMESPACE, "poolmgr-manager")).patch(
            f"/apis/poolmgr.io/v1alpha1/gpunodes/{self.node.name}", {"spec": {"disturbances": []}}
        )
        for machine in self._names("/apis/kubevirt.io/v1", "virtualmachines"):
            story.halt(machine)
            story.delete_machine(machine)
        for name in self._names("/api/v1", "pods"):
            story.delete_pod(name)
        story.apply(pool(shared_min=len(self.gpus)), user="admin")
        drivers = dict.fromkeys(self.gpus, story.host_driver)
        story.wait("both GPUs shared", lambda: self.guest.drivers() == drivers and story.settled())
        self.shaped.lay(self.shape)
        for address in self.gpus:
            self.nvml(address)
        self._kubevirt.permit({VM_SELECTOR: VM_RESOURCE})
        self.plane.kubectl(
            "set", "env", "-n", POOLMGR_NAMESPACE, "daemonset/poolmgr-agent", f"POOLMGR_ACCELERATORS={shown(ACCELERATORS)}"
        )  # fmt: skip
        self._plugin.restart()
        story.wait("the agent to know the GPUs as NVIDIA's", self._known)
        self._plugin.wait_registered(len(self.gpus))
        story.apply(pool(), user="admin")
        self.node.load_images([exporter.image()])
        self.plane.ensure_namespace(exporter.NAMESPACE)

    def _known(self) -> bool:
        devices = self.story.devices()
        return all(
            devices[address]["resourceName"] == VM_RESOURCE
            and devices[address]["uuid"] == self.shape.uuid_of(index)
            and devices[address]["rebind"]["possible"]
            for index, address in enumerate(self.gpus)
        )

    def _names(self, api: str, kind: str) -> list[str]:
        items: list[Json] = self.plane.api.get(f"{api}/namespaces/{NAMESPACE}/{kind}")["items"]
        return [
            item["metadata"]["name"]
            for item in items
            if kind != "pods" or "kubevirt.io" not in item["metadata"].get("labels", {})
        ]

    # --- what happens on the node --------------------------------------------------------------------------------

    def nvml(self, address: str, lines: str = "", *, mig: bool = False) -> None:
        """NVML shows the GPU as the shape has it, with these lines beside, and in MIG mode or not."""
        index = self.gpus.index(address)
        shape = replace(self.shape, mig={index: ()}) if mig else self.shape
        show_in_nvml(self.guest, address, f"{shape.nvml(index)}{lines}\n")

    def take_for_first(self, address: str) -> None:
        """Which GPU the scenes mean by the first one; the other is the second."""
        self.first, self.second = address, self.story.other_gpu(address)

    def device_file(self, address: str) -> str:
        return f"/dev/nvidia{self.gpus.index(address)}"

    def start_other_plugin(self, address: str) -> None:
        """Another device plugin offers replicas of the GPU beside HAMi's."""
        python = str(REPOSITORY / ".venv/bin/python")
        uuid = self.shape.uuid_of(self.gpus.index(address))
        self.guest.start(
            "time-slicing",
            [python, "-m", "e2e.node.time_slicing_plugin", PLUGINS, OTHER_RESOURCE, uuid],
            env={"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(REPOSITORY)},
        )
        self.story.wait("the other plugin's resource", lambda: self.node.allocatable(OTHER_RESOURCE))

    def run_exporter(self) -> str:
        """Starts it as the GPU operator does, and waits until it has said that it keeps the first GPU open. Answers its pod's
        UID."""
        self.plane.apply(exporter.daemon_set())
        self.plane.api.patch(self.node.path, {"metadata": {"labels": {exporter.LABEL: exporter.RUNS}}})
        uid: str = self.story.wait("the exporter to run", self.running_exporter)
        kept = f"keeps {self.device_file(self.first)} open"
        self.story.wait(
            f"the exporter to say that it {kept}",
            lambda: kept in self.node.pod_log(exporter.NAMESPACE, f"{exporter.NAME}-*"),
        )
        return uid

    # --- looking ---------------------------------------------------------------------------------------------------

    def device(self, address: str) -> Json:
        """What the agent reports of a GPU."""
        return self.story.devices()[address]

    def rebind_says(self, address: str, reason: Reason) -> bool:
        """The agent would not move the GPU, for that reason."""
        rebind = self.device(address)["rebind"]
        return bool(not rebind["possible"] and rebind["reason"] == reason)

    def told(self, address: str, reason: Reason, words: str) -> None:
        """Waits until the manager's REST API answers why the GPU stays, with this code and `words` in its sentence, and the
        page has these words as well."""

        def said() -> str:
            with self.story.stage.poolmgr.api(self.story.stage.admin) as api:
                refusals = api.get("/plans/latest")["refusals"]
                page = html.unescape(api._http.get("/").text)
            about = (SubjectKind.GPU, self.node.name, address)
            found = next((r for r in refusals if (r["kind"], r["namespace"], r["name"]) == about), None)
            if (
                found is None
                or found["reason"] != reason
                or words not in found["message"]
                or words not in page
            ):
                return ""
            return str(found["message"])

        sentence = self.story.wait(f"{address} to stay: {reason}, {words!r}", said)
        self.story.narrative.say("manager", f"{reason}: {sentence}")

    def running_exporter(self) -> str:
        """UID of its pod, if it is there to stay and runs."""
        for item in self.plane.api.get(f"/api/v1/namespaces/{exporter.NAMESPACE}/pods")["items"]:
            leaving = "deletionTimestamp" in item["metadata"]
            if not leaving and item["status"].get("phase") == "Running":
                return str(item["metadata"]["uid"])
        return ""

    def exporter_label(self) -> str:
        return str(self.node.object()["metadata"]["labels"].get(exporter.LABEL, ""))

    def event_says(self, name: str, words: str, namespace: str = NAMESPACE) -> None:
        """Waits until an Event of the VM or node has these words."""
        path = f"/api/v1/namespaces/{namespace}/events"

        def said() -> str:
            items = self.plane.api.get(path, fieldSelector=f"involvedObject.name={name}")["items"]
            return next((item["message"] for item in items if words in item["message"]), "")

        sentence = self.story.wait(f"an Event of {name} with {words!r}", said)
        self.story.narrative.say("manager", f"Event of {name}: {sentence}")

    def watch_steps(self) -> None:
        """From now on no move may begin: `stays`."""
        self._watch.start()

    def stays(self) -> None:
        """Looks for a while. No GPU has left its driver, and no move has even begun since `watch_steps`."""
        drivers = dict.fromkeys(self.gpus, self.story.host_driver)
        self.story.watch_for(STAYS_SECONDS, lambda: self.guest.drivers() != drivers)
        assert list(self._watch.new()) == []
        self.story.assert_kept()
