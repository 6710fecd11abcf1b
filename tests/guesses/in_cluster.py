"""The cluster's side of a world: the API server's objects, HAMi's own doings, and what agent and manager see them through."""

import copy
import json
import random
import ssl
from typing import Any

import httpx

from poolmgr.agent.apiserver import ApiServer
from poolmgr.agent.credentials import Credentials
from poolmgr.cluster.client import Client
from poolmgr.cluster.observe.assembly import Assembly
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.liveness import AgentSign
from poolmgr.domain.modes import Mode
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.kit.clock import Clock
from poolmgr.wire import kinds
from tests.guesses.on_node import (
    NAMESPACE,
    RESOURCE,
    WorldNode,
    hamis_uuid,
    pod_name,
    pod_uid,
)
from tests.guesses.world import Kind, Source, Use, W, World
from tests.unit.cluster import builders as make
from tests.unit.cluster.builders import Json
from tests.unit.cluster.fake_api import FakeApi
from tests.unit.cluster.planned import apply_to

NODE = NodeName("n1")
TLS = ssl.create_default_context()
SLICES = "nvidia.com/gpu"
PLUGIN_KEY = "hami-device-plugin-n1"


def _asked(use: Use) -> Json:
    """By the pod. What HAMi has given it, it has asked for: where that is not told, by a name that the resource had once."""
    if W.REQUEST in use.tells:
        return {SLICES: "1"}
    return {"example.com/renamed": "1"} if W.ANNOTATION in use.tells else {}


class WorldCluster:
    """One API server in memory. Implements `controller.interfaces.ClusterView`."""

    def __init__(self, world: World, clock: Any) -> None:
        self.world = world
        self.clock = clock
        self.api = FakeApi(clock)
        self.client = Client(self.api.transport(), clock=clock, rng=random.Random(7))
        self.sign = AgentSign()
        self._assembly = Assembly()
        self._applied: dict[str, Json] = {}
        shared = [i for i in world.indices if world.modes[i] is Mode.SHARED]
        labels = {"kubernetes.io/hostname": NODE, "gpu": "on" if shared else "off"}
        self._put(kinds.NODES, make.node(NODE, labels=labels, allocatable={SLICES: "0"}))
        self._put(kinds.GPU_POOLS, make.pool(models=[], rebalance={"maxInFlight": 10, "cooldownSeconds": 0}))
        self._put(kinds.DAEMON_SETS, make.plugin())
        self._put(kinds.DEPLOYMENTS, make.scheduler())
        self._put(
            kinds.GPU_NODES,
            {
                "apiVersion": "poolmgr.io/v1alpha1",
                "kind": "GPUNode",
                "metadata": {"name": NODE, "generation": 1},
                "spec": {},
            },
        )
        for number in range(len(world.modes) + 1):
            self._waits(f"waits{number}")

    # -- who wants GPUs, and who has them -----------------------------------------------------------------

    def begin(self, use: Use) -> None:
        """What the cluster's objects show of the use."""
        if use.kind in (Kind.VM, Kind.ADMITTED):
            self._machine(use)
            return
        placed = f"{hamis_uuid(self.world, use.gpu)},NVIDIA,3000,30:;"
        spec: Json = {"resourceClaims": [{"name": "gpu"}]} if W.POD_CLAIM in use.tells else {}
        self._put(
            kinds.PODS,
            make.pod(
                pod_name(use),
                NAMESPACE,
                node=NODE,
                uid=pod_uid(use),
                limits=_asked(use),
                annotations={"hami.io/vgpu-devices-allocated": placed} if W.ANNOTATION in use.tells else {},
                scheduler="default-scheduler",
                spec=spec,
            ),
        )

    def _machine(self, use: Use) -> None:
        """Between two runs the instance is over, its launcher gone, and the machine is to run again."""
        name = f"machine-{use.gpu}"
        runs = W.LAUNCHER in use.tells
        if not runs and not use.between_runs:
            return
        self._put(kinds.VIRTUAL_MACHINES, make.vm(name, NAMESPACE, gpus=[RESOURCE]))
        self._put(
            kinds.VIRTUAL_MACHINE_INSTANCES,
            make.vmi(name, NAMESPACE, gpus=[RESOURCE], phase="Running" if runs else "Succeeded", node=NODE),
        )
        if runs:
            self._put(kinds.PODS, make.launcher(name, NAMESPACE, node=NODE, uid=pod_uid(use)))

    def _waits(self, name: str) -> None:
        if self.world.wanted is Mode.PASSTHROUGH:
            self._put(kinds.VIRTUAL_MACHINE_INSTANCES, make.vmi(name, gpus=[RESOURCE]))
            self._put(kinds.PODS, make.launcher(name, unschedulable_since=make.CREATED))
        else:
            whole = {SLICES: "1", "nvidia.com/gpumem": "23028"}
            self._put(kinds.PODS, make.pod(name, limits=whole, unschedulable_since=make.CREATED))

    # -- HAMi ---------------------------------------------------------------------------------------------

    def hami_acts(self, node: WorldNode) -> None:
        """Its plugin follows the node's label and registers what is on its driver; its scheduler stamps the handshake."""
        before = self.node()
        found = copy.deepcopy(before)
        annotations = found["metadata"].setdefault("annotations", {})
        plugin = f"/api/v1/namespaces/hami/pods/{PLUGIN_KEY}"
        wanted = found["metadata"]["labels"].get("gpu") == "on"
        if wanted and plugin not in self.api.objects:
            self._put(kinds.PODS, make.plugin_pod(NODE))
            found["status"]["allocatable"][SLICES] = "20"
            annotations["hami.io/node-nvidia-register"] = self._registered(node)
        elif not wanted and plugin in self.api.objects:
            self.api.remove(plugin)
            self._applied.pop(plugin, None)
            self._assembly.apply_pod(f"hami/{PLUGIN_KEY}", None)
            found["status"]["allocatable"][SLICES] = "0"
        annotations.setdefault("hami.io/node-handshake", "Requesting_2026-11-22 10:00:00")
        if found != before:
            self._put(kinds.NODES, found)

    def _registered(self, node: WorldNode) -> str:
        if Source.REGISTER in self.world.unreadable:
            return "[{"
        return make.register(*(self._hami_knows(node, gpu) for gpu in node.on_driver()))

    def _hami_knows(self, node: WorldNode, gpu: int) -> str:
        """NVML's own, unless it knew the GPU by another before."""
        use = self.world.use_of(gpu)
        if use is not None and use.kind is Kind.RENAMED and W.REGISTER in use.tells:
            return hamis_uuid(self.world, gpu)
        return node.uuid_from_nvml(gpu)

    # -- for agent and manager ----------------------------------------------------------------------------

    async def snapshot(self) -> ClusterSnapshot:
        for path, document in self.api.objects.items():
            if self._applied.get(path) is not document:
                apply_to(self._assembly, document)
                self._applied[path] = document
        return self._assembly.snapshot(self.clock.now(), synced=True, agents={NODE: self.sign})

    async def wait_for_change(self, timeout_seconds: float, *, settle_seconds: float = 0.0) -> None: ...

    def client_of_agent(self, clock: Clock) -> ApiServer:
        credentials = Credentials("https://api:6443", TLS, token="t0")
        return ApiServer(credentials, NODE, clock, httpx.MockTransport(self._answer))

    def gpu_node(self) -> Json:
        return self.api.objects.get(kinds.GPU_NODES.path(NODE), {})

    def node(self) -> Json:
        return self.api.get(kinds.NODES.path(NODE))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path, content_type = request.url.path, request.headers.get("content-type", "")
        body = json.loads(request.content) if request.content else None
        lists_pods = path == kinds.PODS.path()
        if lists_pods and Source.POD_LIST in self.world.unreadable:
            return httpx.Response(500, json={"message": "etcd is away"})
        answer = self.api.handle(request.method, path, dict(request.url.params), body, content_type)
        found = json.loads(answer.body)
        if lists_pods:
            found["items"] = [pod for pod in found["items"] if pod["spec"].get("nodeName") == NODE]
        return httpx.Response(answer.status, json=found)

    def _put(self, kind: kinds.Kind, document: Json) -> None:
        self.api.put(kind.path(), document)

    def touch_gpu_node(self) -> None:
        self._put(kinds.GPU_NODES, self.gpu_node())
