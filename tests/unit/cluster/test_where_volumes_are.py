"""GPUs move where the workload's volumes can be used."""

from typing import Any

import pytest

from poolmgr.cluster.observe.assembly import Assembly
from tests.unit.cluster.builders import Json, launcher, pod, vm, vmi
from tests.unit.cluster.planned import answer_to, host, moved, observed, plan_of

ZONE = "topology.kubernetes.io/zone"
A, B = {ZONE: "a"}, {ZONE: "b"}
USES_DISK: Json = {"volumes": [{"name": "root", "persistentVolumeClaim": {"claimName": "disk"}}]}


def claim(volume: str = "", storage: str = "", name: str = "disk", namespace: str = "desktops") -> Json:
    spec = {"volumeName": volume, "storageClassName": storage}
    return {"kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def volume(name: str = "pv1", node: str = "", labels: dict[str, str] | None = None) -> Json:
    spec: Json = {}
    if node:
        on = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [on]}]}}
    return {"kind": "PersistentVolume", "metadata": {"name": name, "labels": labels or {}}, "spec": spec}


def storage_class(name: str = "fast", **over: Any) -> Json:
    return {
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": "csi.example.com",
        "volumeBindingMode": "WaitForFirstConsumer",
        **over,
    }


VM = (vmi(), launcher(spec=USES_DISK))
HOSTS = (*host("n1", "s", labels=A), *host("n2", "s", labels=B))


def test_a_vm_with_a_local_disk_gets_a_gpu_of_the_node_with_the_disk() -> None:
    assert moved(plan_of(HOSTS, VM, claim("pv1"), volume(node="n2"))) == ["n2/00>p"]


def test_a_volume_of_a_zone_is_used_in_that_zone() -> None:
    assert moved(plan_of(HOSTS, VM, claim("pv1"), volume(labels={ZONE: "b"}))) == ["n2/00>p"]
    assert moved(plan_of(HOSTS, VM, claim("pv1"), volume(labels={ZONE: "b__c"}))) == ["n2/00>p"]


def test_a_node_without_a_zone_may_have_any_volume() -> None:
    assert moved(plan_of(host("n1"), VM, claim("pv1"), volume(labels={ZONE: "b"}))) == ["n1/00>p"]


def test_a_claim_that_waits_for_its_pod_is_bound_where_its_class_may() -> None:
    anywhere = storage_class()
    there = storage_class(allowedTopologies=[{"matchLabelExpressions": [{"key": ZONE, "values": ["b"]}]}])
    assert moved(plan_of(HOSTS, VM, claim(storage="fast"), anywhere)) == ["n1/00>p"]
    assert moved(plan_of(HOSTS, VM, claim(storage="fast"), there)) == ["n2/00>p"]


@pytest.mark.parametrize(
    ("objects", "why"),
    [
        ((), "its volume claim disk does not exist"),
        ((claim("pv1"),), "the volume pv1 of its claim disk does not exist"),
        ((claim(),), "its volume claim disk is not bound yet"),
        (
            (claim(storage="slow"), storage_class("slow", volumeBindingMode="Immediate")),
            "its volume claim disk is not bound yet",
        ),
        (
            (claim(storage="local"), storage_class("local", provisioner="kubernetes.io/no-provisioner")),
            "its volume claim disk is not bound yet, and it is not known which volume it will get",
        ),
    ],
)
def test_nothing_moves_while_it_cannot_be_told_where_the_volume_is(
    objects: tuple[Json, ...], why: str
) -> None:
    plan = plan_of(HOSTS, VM, *objects)
    assert moved(plan) == []
    assert answer_to(plan, "vm1") == ("PlacementUnknown", f"no GPU is moved for it: {why}")


def test_pods_have_volumes_too() -> None:
    hosts = (*host("n1", "p", labels=A), *host("n2", "p", labels=B))
    own = {"volumes": [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}}]}
    bound = claim("pv1", name="train-scratch", namespace="ml")
    assert moved(plan_of(hosts, pod("train", spec=own), bound, volume(node="n2"))) == ["n2/00>s"]
    assert moved(plan_of(hosts, pod("train", spec=own))) == []


def test_a_claim_that_is_bound_later_is_seen() -> None:
    cluster = Assembly()
    waiting = pod("train", spec={"volumes": USES_DISK["volumes"]})
    before = observed(HOSTS, VM, waiting, assembly=cluster)
    assert before.vms[0].placement.unknown
    after = observed(claim("pv1"), claim("pv1", namespace="ml"), volume(node="n2"), assembly=cluster)
    assert not after.vms[0].placement.unknown
    assert after.vms[0].placement.volumes
    assert after.pods[0].placement.volumes
    assert after.generation > before.generation


DISK: Json = {"volumes": [{"name": "root", "dataVolume": {"name": "disk"}}]}
APART: Json = {
    "affinity": {
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}
    }
}


@pytest.mark.parametrize("spec", [DISK, {"volumes": USES_DISK["volumes"]}, APART])
def test_before_there_is_a_launcher_nothing_moves_for_a_machine_with_disks_or_rules(spec: Json) -> None:
    early = vmi()
    early["spec"].update(spec)
    plan = plan_of(host("n1"), early)
    assert moved(plan) == []
    assert answer_to(plan, "vm1")[0] == "PlacementUnknown"


def test_but_a_free_gpu_is_kept_for_it() -> None:
    machine = vm()
    machine["spec"]["template"]["spec"].update(DISK)
    plan = plan_of(host("n1", "p"), machine, pod("train"))
    assert moved(plan) == []
    assert answer_to(plan, "vm1")[0] == "FreeCapacity"
