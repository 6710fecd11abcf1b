"""`domain/placement.py` against the real kube-scheduler, on generated pods and nodes.

Each pod has an arena of one to three nodes of its own, named by a label, so that its fate tells about these nodes alone:
bound to one of them, which we must have admitted, or unschedulable, and then we must have admitted none. Nodes are
objects only: nothing has to run on them. `POOLMGR_PLACEMENTS=5000` tries that many pods, `POOLMGR_SEED` others.

A node that we do not admit although the scheduler would is a wait that need not be; a node that we admit and the
scheduler does not is a GPU moved for nobody. Neither is allowed here. A mismatch names the rules that its pod has.
"""

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from e2e.controlplane.client import Json
from e2e.controlplane.plane import ControlPlane
from poolmgr import wire
from poolmgr.cluster.observe.assembly import Assembly
from poolmgr.cluster.observe.pods import PodFacts, facts_of
from poolmgr.wire.hami.config import HamiConfig

pytestmark = pytest.mark.integration

COUNT = int(os.environ.get("POOLMGR_PLACEMENTS", "150"))
SEED = int(os.environ.get("POOLMGR_SEED", "1"))
BATCH = 250
"""Pods that wait for the scheduler at a time."""
NAMESPACE = "placements"
ARENA = "arena"
EXTENDED = "example.com/card"
KEYS = ("zone", "disk", "generation")
VALUES = ("a", "b", "7", "12", "0")
TAINTS = ("dedicated", "spot")
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


@pytest.fixture(scope="module")
def plane(artifacts: Path) -> Iterator[ControlPlane]:
    """etcd, API server and scheduler alone: no controller may taint nodes that no kubelet keeps."""
    plane = ControlPlane(artifacts / "placement").start()
    try:
        plane.ensure_scheduler()
        plane.ensure_namespace(NAMESPACE)
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        plane.api.create(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", account)
        yield plane
    finally:
        plane.stop()


def test_we_admit_the_nodes_that_the_scheduler_admits(plane: ControlPlane) -> None:
    chance = random.Random(SEED)
    verdicts: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    wrong: list[str] = []
    for start in range(0, COUNT, BATCH):
        arenas = [Arena(chance, number) for number in range(start, min(COUNT, start + BATCH))]
        for arena in arenas:
            arena.create(plane)
        for arena in arenas:
            node = arena.await_fate(plane)
            ours = arena.admitted()
            verdicts["bound" if node else "unschedulable"] += 1
            classes.update(arena.classes)
            if (node and node not in ours) or (not node and ours):
                wrong.append(
                    f"{arena.classes}: scheduler {node or arena.message!r}, ours {ours}: {arena.pod}"
                )
        for arena in arenas:
            arena.delete(plane)
    print(f"\n{COUNT} pods: {dict(verdicts)}; rules: {dict(classes)}; mismatches: {len(wrong)}")
    assert not wrong, "\n".join(wrong[:10])
    assert min(verdicts["bound"], verdicts["unschedulable"]) > COUNT // 5, "the cases decide nothing"


class Arena:
    """One pod, its nodes, and what runs on them."""

    def __init__(self, chance: random.Random, number: int) -> None:
        self.name = f"a{number}"
        self.message = ""
        self.nodes = [self._node(chance, index) for index in range(chance.randint(1, 3))]
        self.occupants = [
            self._occupant(chance, node, index)
            for node in self.nodes
            for index in range(chance.choice((0, 0, 1, 1)))
        ]
        self.classes: list[str] = []
        self.volume, self.claim = self._volume(chance) if chance.random() < 0.2 else ({}, {})
        self.pod = self._pod(chance)

    def create(self, plane: ControlPlane) -> None:
        for node in self.nodes:
            plane.api.create("/api/v1/nodes", node)
            # The API server adds a taint to every new node, which the controller manager takes off.
            path = f"/api/v1/nodes/{node['metadata']['name']}"
            plane.api.patch(path, {"spec": {"taints": node["spec"]["taints"]}})
        if self.volume:
            plane.api.create("/api/v1/persistentvolumes", self.volume)
            plane.api.create(f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims", self.claim)
        for pod in (*self.occupants, self.pod):
            plane.api.create(f"/api/v1/namespaces/{NAMESPACE}/pods", pod)

    def await_fate(self, plane: ControlPlane) -> str:
        """The node that the pod is bound to; empty once the scheduler has said that it fits nowhere."""
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{self.name}"

        def fate() -> Json | None:
            pod = plane.api.get(path)
            said = [c for c in pod["status"].get("conditions", []) if c["type"] == "PodScheduled"]
            return pod if pod["spec"].get("nodeName") or said else None

        pod = plane.wait_for(f"the scheduler's word on {self.name}", fate)
        self.message = next((c.get("message", "") for c in pod["status"].get("conditions", [])), "")
        return str(pod["spec"].get("nodeName", ""))

    def admitted(self) -> list[str]:
        """Nodes of the arena that we say may run the pod."""
        cluster = Assembly()
        for node in self.nodes:
            cluster.apply_node(node["metadata"]["name"], _as(node, wire.Node))
            report = {"kind": "GPUNode", "metadata": {"name": node["metadata"]["name"]}}
            cluster.apply_gpu_node(node["metadata"]["name"], _as(report, wire.GpuNode))
        for pod in self.occupants:
            cluster.apply_pod(f"{NAMESPACE}/{pod['metadata']['name']}", _facts(pod))
        if self.volume:
            cluster.apply_volume(self.name, _as(self.volume, wire.PersistentVolume))
            cluster.apply_claim(f"{NAMESPACE}/{self.name}", _as(self.claim, wire.PersistentVolumeClaim))
        waiting = _facts(self.pod)
        assert waiting is not None
        cluster.apply_pod(f"{NAMESPACE}/{self.name}", waiting)
        cluster.apply_instance(f"{NAMESPACE}/{self.name}", _as(self._instance(), wire.VirtualMachineInstance))
        snapshot = cluster.snapshot(0.0, synced=True)
        [machine] = snapshot.vms
        where, needs = machine.placement, machine.needs
        return [
            node.name
            for node in snapshot.nodes
            if not node.cordoned and not where.denial(node.name, dict(node.labels), node.lasting_taints)
            if not node.free_resources.lacks(needs)
        ]

    def delete(self, plane: ControlPlane) -> None:
        for pod in (*self.occupants, self.pod):
            name = pod["metadata"]["name"]
            plane.api.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}", gracePeriodSeconds=0)
        for node in self.nodes:
            plane.api.delete(f"/api/v1/nodes/{node['metadata']['name']}")
        if self.volume:
            plane.api.delete(f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims/{self.name}")
            plane.api.delete(f"/api/v1/persistentvolumes/{self.name}")

    def _node(self, chance: random.Random, index: int) -> Json:
        amounts = {
            "cpu": chance.choice(("3500m", "8", "16")),
            "memory": chance.choice(("6000Mi", "16Gi", "32Gi")),
            "ephemeral-storage": chance.choice(("10Gi", "100Gi")),
            "pods": chance.choice(("2", "110", "110")),
        }
        if chance.random() < 0.85:
            amounts[EXTENDED] = chance.choice(("0", "1", "4"))
        labels = {key: chance.choice(VALUES) for key in KEYS if chance.random() < 0.7}
        taints = [
            {"key": key, "value": chance.choice(("", "x", "y")), "effect": chance.choice(EFFECTS)}
            for key in TAINTS
            if chance.random() < 0.1
        ]
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"{self.name}-n{index}", "labels": {ARENA: self.name, **labels}},
            "spec": {"taints": taints, **({"unschedulable": True} if chance.random() < 0.05 else {})},
            "status": {
                "capacity": amounts,
                "allocatable": amounts,
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }

    def _volume(self, chance: random.Random) -> tuple[Json, Json]:
        """A volume that some nodes can use, and the claim that has it."""
        terms = [{"matchExpressions": [_expression(chance)]} for _ in range(chance.randint(1, 2))]
        meta = {"name": self.name}
        common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
        volume: Json = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": meta,
            "spec": common
            | {
                "capacity": {"storage": "1Gi"},
                "local": {"path": "/disk"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
                "claimRef": {"namespace": NAMESPACE, "name": self.name},
            },
        }
        claim: Json = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            # As the controller manager leaves it once it has bound the two.
            "metadata": meta | {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": common | {"volumeName": self.name, "resources": {"requests": {"storage": "1Gi"}}},
        }
        return volume, claim

    def _instance(self) -> Json:
        """The machine whose launcher the pod is."""
        devices = {"gpus": [{"name": "gpu", "deviceName": "example.com/gpu"}]}
        metadata = {"name": self.name, "namespace": NAMESPACE, "uid": self.name}
        return {"metadata": metadata, "spec": {"domain": {"devices": devices}}}

    def _occupant(self, chance: random.Random, node: Json, index: int) -> Json:
        name = node["metadata"]["name"]
        containers = [_container(chance, 0, port=chance.random() < 0.3)]
        spec: Json = {"nodeName": name, "containers": containers}
        if chance.random() < 0.15:
            spec["affinity"] = {"podAntiAffinity": {REQUIRED: [self._about(chance)]}}
        return _pod_object(f"{name}-p{index}", spec, {"app": self._app(chance)}, launcher=False)

    def _app(self, chance: random.Random) -> str:
        """Of this arena alone, so that no other arena's pods are in the picture."""
        return f"{self.name}-{chance.choice('xy')}"

    def _about(self, chance: random.Random) -> Json:
        """A term about some pods of the arena."""
        selector = {"matchLabels": {"app": self._app(chance)}}
        return {"topologyKey": chance.choice((*KEYS, ARENA)), "labelSelector": selector}

    def _pod(self, chance: random.Random) -> Json:
        spec: Json = {"nodeSelector": {ARENA: self.name}}
        if self.volume:
            spec["volumes"] = [{"name": "disk", "persistentVolumeClaim": {"claimName": self.name}}]
            self.classes.append("volume")
        rules = (self._selector, self._affinity, self._tolerations, self._containers, self._others)
        for rule in rules:
            rule(chance, spec)
        return _pod_object(self.name, spec, {"app": self._app(chance)}, launcher=True)

    def _others(self, chance: random.Random, spec: Json) -> None:
        for kind, likely in (("podAntiAffinity", 0.15), ("podAffinity", 0.1)):
            if chance.random() < likely:
                terms = [self._about(chance) for _ in range(chance.randint(1, 2))]
                spec.setdefault("affinity", {})[kind] = {REQUIRED: terms}
                self.classes.append(kind)
        if chance.random() < 0.2:
            constraints = {}
            for _ in range(chance.randint(1, 2)):
                about = self._about(chance)
                more = {"minDomains": chance.randint(1, 3)} if chance.random() < 0.3 else {}
                constraints[about["topologyKey"]] = (
                    about
                    | more
                    | {
                        "maxSkew": chance.randint(1, 2),
                        "whenUnsatisfiable": "DoNotSchedule",
                    }
                )
            spec["topologySpreadConstraints"] = list(constraints.values())
            self.classes.append("topologySpread")

    def _selector(self, chance: random.Random, spec: Json) -> None:
        if chance.random() < 0.2:
            spec["nodeSelector"][chance.choice(KEYS)] = chance.choice(VALUES)
            self.classes.append("nodeSelector")

    def _affinity(self, chance: random.Random, spec: Json) -> None:
        if chance.random() > 0.4:
            return
        terms = []
        for _ in range(chance.randint(1, 3)):
            term: Json = {}
            if chance.random() < 0.9:
                term["matchExpressions"] = [_expression(chance) for _ in range(chance.randint(1, 2))]
            if chance.random() < 0.2:
                operator = chance.choice(("In", "NotIn"))
                names = [f"{self.name}-n{chance.randint(0, 2)}"]
                term["matchFields"] = [{"key": "metadata.name", "operator": operator, "values": names}]
            terms.append(term)
        spec["affinity"] = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": terms}}}
        self.classes.append("nodeAffinity")

    def _tolerations(self, chance: random.Random, spec: Json) -> None:
        found: list[Json] = []
        for key in TAINTS:
            if chance.random() < 0.4:
                found.append({"key": key, "operator": "Exists"} | _effect(chance))
            elif chance.random() < 0.3:
                found.append({"key": key, "value": chance.choice(("x", "y"))} | _effect(chance))
        # Who tolerates everything may go to a cordoned node; no GPU is moved there, whoever asks.
        cordoned = any(node["spec"].get("unschedulable") for node in self.nodes)
        if chance.random() < 0.1 and not cordoned:
            found = [{"operator": "Exists"}]
        if found:
            spec["tolerations"] = found
            self.classes.append("tolerations")

    def _containers(self, chance: random.Random, spec: Json) -> None:
        spec["containers"] = [
            _container(chance, index, port=chance.random() < 0.2) for index in range(chance.randint(1, 2))
        ]
        if chance.random() < 0.3:
            spec["initContainers"] = [
                _container(chance, 10 + index, port=False)
                | ({"restartPolicy": "Always"} if chance.random() < 0.4 else {})
                for index in range(chance.randint(1, 3))
            ]
            self.classes.append("initContainers")
        if chance.random() < 0.15:
            limits = {"cpu": chance.choice(("500m", "3")), "memory": chance.choice(("1Gi", "5Gi"))}
            fitting = all(_within(c, limits) for c in (*spec["containers"], *spec.get("initContainers", ())))
            if fitting:
                spec["resources"] = {"requests": limits, "limits": limits}
                self.classes.append("podResources")


def _within(container: Json, limits: Json) -> bool:
    """Whether a container without requests of its own, which the API server lets be part of a pod with requests."""
    return not {"cpu", "memory"} & container["resources"]["requests"].keys()


def _container(chance: random.Random, index: int, *, port: bool) -> Json:
    requests: Json = {}
    if chance.random() < 0.8:
        requests["cpu"] = chance.choice(("100m", "1", "1500m", "2"))
    if chance.random() < 0.8:
        requests["memory"] = chance.choice(("64Mi", "1Gi", "2000M", "3Gi"))
    if chance.random() < 0.2:
        requests["ephemeral-storage"] = chance.choice(("1Gi", "8Gi"))
    limits: Json = {}
    if chance.random() < 0.25:
        limits[EXTENDED] = requests[EXTENDED] = chance.choice(("1", "2"))
    container: Json = {
        "name": f"c{index}",
        "image": "none",
        "resources": {"requests": requests, "limits": limits},
    }
    if port:
        address = chance.choice(({}, {}, {"hostIP": "10.0.0.1"}, {"hostIP": "127.0.0.1"}))
        number = chance.choice((8080, 8081)) + 10 * index
        protocol = chance.choice(("TCP", "UDP"))
        container["ports"] = [{"containerPort": number, "hostPort": number, "protocol": protocol, **address}]
    return container


def _expression(chance: random.Random) -> Json:
    operator = chance.choice(("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"))
    expression: Json = {"key": chance.choice(KEYS), "operator": operator}
    if operator in ("In", "NotIn"):
        expression["values"] = chance.sample(VALUES, chance.randint(1, 3))
    elif operator in ("Gt", "Lt"):
        expression["values"] = [chance.choice(("7", "10", "0"))]
    return expression


def _effect(chance: random.Random) -> Json:
    effect = chance.choice(("", *EFFECTS))
    return {"effect": effect} if effect else {}


def _pod_object(name: str, spec: Json, labels: dict[str, str], *, launcher: bool) -> Json:
    metadata: Json = {"name": name, "namespace": NAMESPACE, "labels": labels}
    if launcher:
        owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": name, "uid": name}
        metadata["labels"] = {"kubevirt.io": "virt-launcher", **labels}
        metadata["ownerReferences"] = [owner | {"controller": True}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _as(document: Json, kind: type[Any]) -> Any:
    return msgspec.json.decode(msgspec.json.encode(document), type=kind)


def _facts(pod: Json) -> PodFacts | None:
    return facts_of(_as(pod, wire.Pod), HamiConfig(), frozenset({"default-scheduler"}))
