"""Services and drivers of the GPU operator, from the cluster's objects to what the controller sees."""

from typing import Any

from poolmgr.cluster.observe.assembly import Assembly
from poolmgr.cluster.observe.pods import facts_of
from poolmgr.domain.fleet import Node
from poolmgr.domain.reasons import Reason
from poolmgr.domain.usage import users_of
from poolmgr.wire import DaemonSet, GpuNode, Pod
from poolmgr.wire import Node as WireNode
from poolmgr.wire.gpu_operator import DEPLOY
from poolmgr.wire.hami.config import HamiConfig
from tests.unit.cluster.builders import CREATED_AT, as_wire, device, gpu_node, node, plugin, pod

EXPORTER = DEPLOY + "dcgm-exporter"
LABELS = {"gpu": "on", DEPLOY + "driver": "true", EXPORTER: "true"}


def exporter(**over: Any) -> dict[str, Any]:
    made = pod(
        "dcgm-exporter-x",
        "gpu-operator",
        node="n1",
        owner={"kind": "DaemonSet", "name": "dcgm-exporter", "uid": "uid-ds", "controller": True},
        limits={},
    )
    made["metadata"]["uid"] = "uid-exporter"
    made["spec"]["nodeSelector"] = {EXPORTER: "true"}
    made["metadata"] |= over
    return made


class Seen:
    def __init__(self, labels: dict[str, str] | None = None) -> None:
        self.assembly = Assembly()
        held = {"pid": 7, "command": "dcgm-exporter", "podUid": "uid-exporter", "path": "/dev/nvidia0"}
        self.put_node(LABELS if labels is None else labels)
        self.assembly.apply_gpu_node("n1", as_wire(gpu_node("n1", [device(holders=[held])]), GpuNode))

    def put_node(self, labels: dict[str, str]) -> None:
        self.assembly.apply_node("n1", as_wire(node("n1", labels=labels), WireNode))

    def put_pod(self, document: dict[str, Any]) -> None:
        facts = facts_of(as_wire(document, Pod), HamiConfig(), frozenset({"hami-scheduler"}))
        self.assembly.apply_pod(document["metadata"]["name"], facts)

    def node(self) -> Node:
        return self.assembly.snapshot(CREATED_AT, synced=True).nodes[0]

    def users(self) -> list[str]:
        return [user.name for user in users_of(self.node().gpus[0], (), None)]


def test_a_holder_is_a_service_once_its_pod_is_seen_and_no_longer_when_it_is_gone() -> None:
    seen = Seen()
    assert seen.users() == ["process dcgm-exporter (pid 7)"]
    seen.put_pod(exporter())
    assert seen.users() == []
    (service,) = seen.node().neighbours.services
    assert (service.label, service.paused, service.pods) == (EXPORTER, False, ("uid-exporter",))
    seen.assembly.apply_pod("dcgm-exporter-x", None)
    assert seen.node().neighbours.services[0].pods == ()
    assert seen.users() == ["process dcgm-exporter (pid 7)"]


def test_a_label_that_changes_is_seen_at_once() -> None:
    seen = Seen()
    seen.put_pod(exporter())
    seen.put_node({**LABELS, EXPORTER: "paused-for-poolmgr"})
    assert seen.node().neighbours.services[0].paused
    seen.put_node({**LABELS, EXPORTER: "false"})
    assert seen.node().neighbours.services == ()
    assert seen.users() == ["process dcgm-exporter (pid 7)"], "somebody else's word: it may stay for ever"


def test_a_terminating_pod_still_counts_as_one_that_has_to_end() -> None:
    seen = Seen()
    seen.put_pod(exporter(deletionTimestamp="2026-11-22T10:00:00Z"))
    assert seen.node().neighbours.services[0].pods == ("uid-exporter",)


def test_the_label_that_starts_hamis_plugin_is_the_executors_lever_and_no_service() -> None:
    client = DEPLOY + "client"
    seen = Seen({**LABELS, client: "true"})
    assert client in {service.label for service in seen.node().neighbours.services}
    seen.assembly.apply_plugin("hami/plugin", as_wire(plugin(node_selector={client: "true"}), DaemonSet))
    assert client not in {service.label for service in seen.node().neighbours.services}


def test_a_driver_on_its_way_out_stops_moves_on_its_node() -> None:
    seen = Seen()
    driver = pod(
        "nvidia-driver-x",
        "gpu-operator",
        node="n1",
        labels={"app.kubernetes.io/component": "nvidia-driver"},
        limits={},
    )
    driver["status"]["conditions"] = [{"type": "Initialized", "status": "True"}]
    seen.put_pod(driver)
    assert seen.node().neighbours.verdict
    driver["metadata"]["deletionTimestamp"] = "2026-11-22T10:00:00Z"
    seen.put_pod(driver)
    found = seen.node().neighbours
    assert found.verdict.reason is Reason.DRIVER_CHANGING
    assert found.driver_restarts == "gpu-operator/nvidia-driver-x ends"


def test_a_node_object_that_is_gone_says_nothing() -> None:
    seen = Seen()
    seen.assembly.apply_node("n1", None)
    assert seen.node().neighbours.services == () and seen.node().neighbours.verdict
