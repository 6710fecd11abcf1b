"""What the doctor finds: one thing broken at a time, with what to do about it."""

from dataclasses import fields, replace
from typing import Any

import pytest

from poolmgr import wire
from poolmgr.doctor.examine import examine
from poolmgr.doctor.facts import Facts, Seen
from poolmgr.doctor.findings import Finding, Grade, exit_code
from poolmgr.wire.gpu_operator import ClusterPolicy
from poolmgr.wire.kubevirt_config import HyperConverged, KubeVirt
from poolmgr.wire.lease import Lease
from tests.unit.cluster import builders as build
from tests.unit.doctor.cluster_facts import (
    ENTRY,
    daemon_set,
    deployment,
    gpu_node,
    hami_scheduler,
    heartbeat,
    kubevirt,
    lease,
    plugin,
    seen,
    webhooks,
    well,
)

ABSENT: Seen[Any] = Seen(absent=True)
BARE = seen(wire.Deployment, deployment("manager"), deployment("webhook"))


def bad(facts: Facts) -> list[Finding]:
    return [finding for finding in examine(facts) if finding.grade is not Grade.OK]


def test_a_cluster_in_order_is_fine() -> None:
    assert bad(well()) == []
    assert exit_code(examine(well())) == 0


def imitation() -> dict[str, Any]:
    found = plugin()
    found["metadata"]["namespace"] = "tenant"
    return found


def without_gpus() -> dict[str, Any]:
    found = gpu_node()
    found["status"]["devices"] = []
    return found


PROBLEMS: dict[str, tuple[Facts, str, str, str]] = {
    "no CRDs": (well(pools=ABSENT), "crds", "it is not installed", "kubectl apply --server-side"),
    "no pool": (well(pools=Seen()), "pools", "nothing may move", "make a GPUPool"),
    "no lease": (well(leases=Seen()), "manager", "no manager has ever led", "kubectl get pods"),
    "lease given back": (
        well(leases=seen(Lease, lease(holderIdentity=""))),
        "manager",
        "no manager has held it",
        "logs",
    ),
    "silent manager": (
        well(leases=seen(Lease, lease(renewTime="2026-11-22T10:50:00Z"))),
        "manager",
        "was last heard from at 2026-11-22T10:50:00Z",
        "logs",
    ),
    "no webhook": (well(mutating=Seen()), "webhook", "webhook is not configured", "webhook.enabled"),
    "no authority": (well(mutating=webhooks(bundle="")), "webhook", "no caBundle", "kubectl get pods"),
    "webhook order": (
        well(mutating=webhooks("poolmgr")),
        "webhook-order",
        "poolmgr is called after hami-webhook",
        "sorts before hami-webhook",
    ),
    "skew": (
        well(
            deployments=seen(
                wire.Deployment, deployment("manager", "0.2.0"), deployment("webhook"), hami_scheduler()
            )
        ),
        "versions",
        "0.2.0: manager",
        "helm upgrade",
    ),
    "node without agent": (
        well(
            nodes=seen(
                wire.Node,
                build.node("gpu-1"),
                build.node("gpu-2", labels={"feature.node.kubernetes.io/pci-10de.present": "true"}),
            )
        ),
        "agent",
        "no agent reports it",
        "agent.nodeSelector",
    ),
    "node not ready": (
        well(nodes=seen(wire.Node, build.node("gpu-1", ready=False))),
        "agent",
        "may be out of date",
        "kubectl describe node gpu-1",
    ),
    "silent agent": (
        well(heartbeats=seen(Lease, heartbeat("2026-11-22T10:30:00Z"))),
        "heartbeat",
        "was last heard from at 2026-11-22T10:30:00Z",
        "agent's log",
    ),
    "agent never heard": (well(heartbeats=Seen()), "heartbeat", "has not been heard from", "agent's log"),
    "no agent at all": (well(gpu_nodes=Seen()), "agent", "no node reports a GPU", "component=agent"),
    "agents on nodes without GPUs": (
        well(gpu_nodes=seen(wire.GpuNode, without_gpus())),
        "agent",
        "no node reports a GPU",
        "component=agent",
    ),
    "agent not ready": (
        well(gpu_nodes=seen(wire.GpuNode, gpu_node(conditions={"Ready": "False"}))),
        "ready",
        "Ready is False",
        "agent's log",
    ),
    "no IOMMU": (
        well(gpu_nodes=seen(wire.GpuNode, gpu_node(conditions={"IOMMU": "False"}))),
        "iommu",
        "IOMMU is False",
        "intel_iommu=on",
    ),
    "no NVML": (
        well(gpu_nodes=seen(wire.GpuNode, gpu_node(conditions={"NVML": "False"}))),
        "nvml",
        "NVML is False",
        "agent.runtimeClassName",
    ),
    "agent behind": (
        well(gpu_nodes=seen(wire.GpuNode, {**gpu_node(), "metadata": {"name": "gpu-1", "generation": 9}})),
        "agent",
        "has read generation 3 of 9",
        "agent's log",
    ),
    "quarantined": (
        well(gpu_nodes=seen(wire.GpuNode, gpu_node(phase="Quarantined", message="it hangs"))),
        "gpu",
        "Quarantined: it hangs",
        "gpu-in-trouble.md",
    ),
    "no UUID": (
        well(gpu_nodes=seen(wire.GpuNode, gpu_node(uuid=""))),
        "uuid",
        "UUID is unknown",
        "runtimeClassName",
    ),
    "cannot move": (
        well(
            gpu_nodes=seen(
                wire.GpuNode,
                gpu_node(
                    rebind={"possible": False, "reason": "MigEnabled", "message": "MIG is on: turn it off"}
                ),
            )
        ),
        "gpu",
        "MigEnabled: MIG is on: turn it off",
        "",
    ),
    "not permitted": (
        well(kubevirts=seen(KubeVirt, kubevirt())),
        "permitted-devices",
        f"no entry for {build.A10}",
        'kubectl -n kubevirt edit kubevirt kubevirt: add {pciVendorSelector: "10DE:2236"',
    ),
    "permitted by another name": (
        well(kubevirts=seen(KubeVirt, kubevirt({**ENTRY, "resourceName": "nvidia.com/A10"}))),
        "permitted-devices",
        "is permitted as nvidia.com/A10, another name",
        "add {",
    ),
    "KubeVirt offers it, too": (
        well(kubevirts=seen(KubeVirt, kubevirt({**ENTRY, "externalResourceProvider": False}))),
        "permitted-devices",
        "externalResourceProvider false",
        "externalResourceProvider: true",
    ),
    "wrong card": (
        well(kubevirts=seen(KubeVirt, kubevirt({**ENTRY, "pciVendorSelector": "10DE:2235"}))),
        "permitted-devices",
        "is permitted for 10DE:2235, but the GPUs are 10DE:2236",
        "make its entry",
    ),
    "HyperConverged": (
        well(
            kubevirts=seen(KubeVirt, kubevirt()),
            hyperconvergeds=seen(HyperConverged, {"metadata": {"name": "hco", "namespace": "cnv"}}),
        ),
        "permitted-devices",
        "no entry",
        "kubectl -n cnv edit hyperconverged hco",
    ),
    "old HAMi": (
        well(deployments=Seen((*BARE.items, build.as_wire(hami_scheduler("v2.6.1"), wire.Deployment)))),
        "hami",
        "release 2.6.1; poolmgr supports 2.8, 2.9, 2.10",
        "install one of",
    ),
    "HAMi everywhere": (
        well(daemon_sets=seen(wire.DaemonSet, plugin({"kubernetes.io/os": "linux"}))),
        "hami-lever",
        "every label that selects its nodes is put back",
        'gpu: "on"',
    ),
    "HAMi in two namespaces": (
        well(daemon_sets=seen(wire.DaemonSet, plugin(), imitation())),
        "hami",
        "objects of 2 namespaces look like HAMi's: hami, tenant",
        "set hami.namespace",
    ),
    "HAMi in half": (well(deployments=BARE), "hami", "its scheduler does not", "install all of HAMi's chart"),
    "HAMi's configuration": (
        well(
            hami_configs=seen(
                wire.ConfigMap, {"metadata": {"name": "c"}, "data": {"device-config.yaml": "- not a map"}}
            )
        ),
        "hami-config",
        "nothing moves until it can be read",
        "repair it",
    ),
    "second plugin": (
        well(
            daemon_sets=seen(
                wire.DaemonSet,
                plugin(),
                daemon_set("nvidia", "nvcr.io/nvidia/k8s-device-plugin:v0.17.1@sha256:0"),
            )
        ),
        "device-plugins",
        "beside HAMi",
        "nvidia.com/gpu.deploy.device-plugin=false",
    ),
    "KubeVirt's plugin": (
        well(
            daemon_sets=seen(
                wire.DaemonSet,
                plugin(),
                daemon_set("kdp", "nvcr.io/nvidia/kubevirt-gpu-device-plugin:v1.4.0"),
            )
        ),
        "device-plugins",
        "beside poolmgr's agent",
        "",
    ),
    "GPU operator": (
        well(cluster_policies=seen(ClusterPolicy, {"metadata": {"name": "cluster-policy"}})),
        "gpu-operator",
        "devicePlugin is on",
        "kubectl patch clusterpolicy cluster-policy --type merge",
    ),
    "an exporter that nobody can pause": (
        well(
            daemon_sets=seen(
                wire.DaemonSet, plugin(), daemon_set("dcgm", "nvcr.io/nvidia/k8s/dcgm-exporter:4.5")
            )
        ),
        "driver",
        "keeps GPUs open and cannot be paused for a move",
        'add nvidia.com/gpu.deploy.client: "true" to its nodeSelector',
    ),
    "a node that the operator runs for machines": (
        well(
            nodes=seen(
                wire.Node,
                {
                    "metadata": {
                        "name": "gpu-1",
                        "labels": {"nvidia.com/gpu.workload.config": "vm-passthrough"},
                    }
                },
            )
        ),
        "driver",
        "the GPU operator runs gpu-1 for virtual machines",
        "",
    ),
    "sandbox workloads": (
        well(
            cluster_policies=seen(
                ClusterPolicy,
                {
                    "metadata": {"name": "p"},
                    "spec": {"devicePlugin": {"enabled": False}, "sandboxWorkloads": {"enabled": True}},
                },
            )
        ),
        "gpu-operator",
        "sandboxWorkloads is on",
        '{"spec":{"sandboxWorkloads":{"enabled":false}}}',
    ),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_what_stands_in_the_way_is_a_problem_with_its_fix(case: str) -> None:
    facts, check, message, fix = PROBLEMS[case]
    found = [f for f in bad(facts) if f.check == check and f.grade is Grade.PROBLEM]
    assert any(message in f.message and fix in f.fix for f in found), bad(facts)
    assert exit_code(examine(facts)) == 1


NOTES: dict[str, tuple[Facts, str, str]] = {
    "no KubeVirt": (well(kubevirts=ABSENT), "kubevirt", "everything else works"),
    "no HAMi": (well(deployments=BARE, daemon_sets=Seen()), "hami", "everything else works"),
    "KubeVirt untried": (
        well(kubevirts=seen(KubeVirt, kubevirt(ENTRY, release="v1.9.0"))),
        "kubevirt",
        "was run with 1.8 alone",
    ),
    "no gate": (
        well(kubevirts=seen(KubeVirt, kubevirt(ENTRY, gates=()))),
        "feature-gates",
        "HostDevices is off",
    ),
    "process of the node": (
        well(gpu_nodes=seen(wire.GpuNode, gpu_node(holders=[{"pid": 7, "command": "Xorg"}]))),
        "holders",
        "Xorg",
    ),
    "nothing for NVML to show": (
        well(
            gpu_nodes=seen(
                wire.GpuNode, gpu_node(conditions={"NVML": "Unknown"}, mode="Passthrough", driver="vfio-pci")
            )
        ),
        "nvml",
        "NVML is Unknown",
    ),
    "other client": (well(client_version="0.9.0"), "versions", "this program is 0.9.0"),
}


@pytest.mark.parametrize("case", NOTES)
def test_what_works_but_should_be_known_is_a_note(case: str) -> None:
    facts, check, message = NOTES[case]
    assert [(f.check, f.grade) for f in bad(facts) if message in f.message] == [(check, Grade.NOTE)]
    assert exit_code(examine(facts)) == 0


def saying_nothing() -> dict[str, Any]:
    found = gpu_node()
    found["status"]["conditions"] = []
    return found


UNKNOWN: dict[str, tuple[Facts, str]] = {
    "agent says nothing of its IOMMU": (
        well(gpu_nodes=seen(wire.GpuNode, saying_nothing())),
        "iommu",
    ),
    "agent says Unknown": (
        well(gpu_nodes=seen(wire.GpuNode, gpu_node(conditions={"NVML": "Unknown"}))),
        "nvml",
    ),
    "old agent": (well(gpu_nodes=seen(wire.GpuNode, gpu_node(rebind=None))), "gpu"),
    "HAMi by digest": (
        well(deployments=Seen((*BARE.items, build.as_wire(hami_scheduler("latest"), wire.Deployment)))),
        "hami",
    ),
    "HAMi's configuration of another name": (well(hami_configs=Seen()), "hami-config"),
    "KubeVirt without a release": (well(kubevirts=seen(KubeVirt, kubevirt(ENTRY, release=""))), "kubevirt"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_nobody_says_is_unknown_and_never_ok(case: str) -> None:
    facts, check = UNKNOWN[case]
    assert check in {f.check for f in bad(facts) if f.grade is Grade.UNKNOWN}
    assert exit_code(examine(facts)) == 2


KINDS = [f.name for f in fields(Facts) if f.name not in ("now", "client_version", "hyperconvergeds")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_may_not_be_read_is_unknown(kind: str) -> None:
    facts = replace(well(), **{kind: Seen(unread=f"you may not list {kind}")})
    unknown = [f for f in bad(facts) if f.grade is Grade.UNKNOWN]
    assert any(f"you may not list {kind}" in f.message for f in unknown), bad(facts)
    assert exit_code(examine(facts)) == 2
