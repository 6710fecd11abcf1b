"""Verbs about GPUs and nodes: what they print, what they write, and that a dry run writes nothing."""

import json
from dataclasses import replace

import pytest

from tests.unit.cli.daily.cluster import Cluster, heartbeat, working_day
from tests.unit.cluster import builders as build

GPUNODE = "/apis/poolmgr.io/v1alpha1/gpunodes/gpu-1"
VM_GPU, SHARED_GPU = "gpu-1/0000:3b:00.0", "gpu-1/0000:5e:00.0"


def annotations(cluster: Cluster) -> dict[str, str]:
    found: dict[str, str] = cluster.api.get(GPUNODE)["metadata"].get("annotations", {})
    return {name: text for name, text in found.items() if name.startswith("poolmgr.io/")}


def test_quarantine_says_who_has_the_gpu_and_release_gives_it_back(cluster: Cluster) -> None:
    working_day(cluster)
    words = ("gpu", "quarantine", VM_GPU, SHARED_GPU, "--reason", "fan fails")
    wanted = (
        f"{VM_GPU}: {{}}; in use by VM desktops/ada, and out of use after that; no new workload gets it\n"
        f"{SHARED_GPU}: {{}}; in use by pod ml/train, and out of use after that; no new workload gets it\n"
    )
    assert cluster.answers(*words, "--dry-run") == wanted.format(*["would be quarantined"] * 2)
    assert annotations(cluster) == {}
    assert cluster.answers(*words) == wanted.format(*["quarantined"] * 2)
    found = annotations(cluster)
    assert found["poolmgr.io/quarantined-gpus"] == "0000:3b:00.0,0000:5e:00.0"
    note = json.loads(found["poolmgr.io/operator-notes"])["quarantine:0000:3b:00.0"]
    assert note == {"reason": "fan fails", "by": "alice", "at": "2026-11-22T11:00:00Z"}
    assert "quarantined already" in cluster.answers(*words)
    reported = cluster.answers("explain", "gpu", SHARED_GPU)
    assert "GpuQuarantined" in reported and "fan fails" in reported and "`poolmgr gpu release" in reported
    assert cluster.answers("gpu", "release", "gpu-1").startswith("gpu-1, all GPUs: released\n")
    assert annotations(cluster) == {}
    assert "was not quarantined" in cluster.answers("gpu", "release", "gpu-1")


def test_an_unused_gpu_that_is_quarantined_is_withdrawn_and_serves_nobody(cluster: Cluster) -> None:
    cluster.put(
        build.pool("desktops"),
        build.node("gpu-1"),
        build.adopted("gpu-1", [build.device("0000:3b:00.0")]),
        build.vmi("bob"),
        build.launcher("bob"),
        heartbeat("gpu-1"),
    )
    assert "quarantined; no workload gets it from now on" in cluster.answers("gpu", "quarantine", VM_GPU)
    assert cluster.json("get", "gpus")["items"][0]["state"] == "Withdrawn"
    assert "NoCandidate" in cluster.answers("explain", "vm", "bob")


def test_only_a_gpu_that_is_gone_is_forgotten(cluster: Cluster) -> None:
    gone = build.device("0000:3b:00.0", phase="Quarantined", reason="DeviceGone", mode="", driver="")
    cluster.put(build.node("gpu-1"), build.gpu_node("gpu-1", [gone, build.device("0000:5e:00.0")]))
    result = cluster.run("gpu", "forget", SHARED_GPU)
    assert result.exit_code == 1 and "is on its bus" in result.stderr and "(StillThere)" in result.stderr
    assert "would be forgotten" in cluster.answers("gpu", "forget", VM_GPU, "--dry-run")
    assert annotations(cluster) == {}
    assert "forgotten" in cluster.answers("gpu", "forget", VM_GPU)
    assert annotations(cluster) == {"poolmgr.io/forgotten-gpus": "0000:3b:00.0"}


def test_a_drain_is_told_gpu_by_gpu_and_undone(cluster: Cluster) -> None:
    working_day(cluster)
    reported = (
        "gpu-1, all GPUs: {}\n"
        "  0000:3b:00.0   Passthrough   InUse   in use by VM desktops/ada; it moves after that, and no new workload gets it\n"
        "  0000:5e:00.0   Shared        InUse   it is in Shared, and stays there\n"
        "1 of 2 GPU(s) are Shared\n"
    )
    assert cluster.answers("node", "drain", "gpu-1", "--dry-run") == reported.format(
        "would be drained to Shared"
    )
    assert annotations(cluster) == {}
    assert cluster.answers("node", "drain", "gpu-1") == reported.format("drained to Shared")
    assert annotations(cluster)["poolmgr.io/drain-to"] == "Shared"
    answer = cluster.json("node", "drain", "gpu-1")["items"][0]
    assert (answer["changed"], answer["directives"][0]["to"]) == (False, "Shared")
    assert "drained no longer" in cluster.answers("node", "undrain", "gpu-1")
    assert annotations(cluster) == {}


def test_a_drain_that_is_waited_for_ends_once_every_gpu_is_there(cluster: Cluster) -> None:
    cluster.put(
        build.pool("desktops"),
        build.node("gpu-1"),
        build.gpu_node(
            "gpu-1", [build.device("0000:3b:00.0", mode="Passthrough", driver="vfio-pci", uuid="GPU-a")]
        ),
        heartbeat("gpu-1"),
    )
    looks = 0

    def moved(_: float) -> None:
        nonlocal looks
        looks += 1
        node = cluster.api.get(GPUNODE)
        node["status"]["devices"][0] |= {"mode": "Shared", "driver": "nvidia"}
        cluster.put({**node, "kind": "GPUNode"})

    cluster.around = replace(cluster.around, pause=moved)
    said = cluster.answers("node", "drain", "gpu-1", "--wait")
    assert looks == 1
    assert "0 of 1 GPU(s) are Shared" in said and said.endswith("1 of 1 GPU(s) are Shared\n")


@pytest.mark.parametrize(
    ("what", "wanted"),
    [
        (
            "nodes",
            "NODE    STATUS     GPUS   GIVEN AWAY   OF ALL   IN USE   IDLE   WITHDRAWN\n"
            "gpu-1   Ready      2      1.2          62%      2        0      0\n"
            "gpu-2   NotReady   1      ?            ?        0        0      0\n",
        ),
        (
            "gpus",
            "GPU                  MODE          STATE     GIVEN AWAY   USED BY\n"
            "gpu-1/0000:3b:00.0   Passthrough   InUse     100%         VM desktops/ada\n"
            "gpu-1/0000:5e:00.0   Shared        InUse     25%          pod ml/train\n"
            "gpu-2/0000:3b:00.0   Shared        Unknown   ?            -\n",
        ),
        (
            "namespaces",
            "NAMESPACE   GIVEN AWAY   VMS   PODS\n"
            "desktops    1.0          1     0\n"
            "ml          0.2          0     1\n",
        ),
    ],
)
def test_top_says_who_has_how_much(cluster: Cluster, what: str, wanted: str) -> None:
    assert working_day(cluster).answers("top", what) == wanted
    assert len(cluster.json("top", what)["items"]) == len(wanted.splitlines()) - 1


@pytest.mark.parametrize(
    "words",
    [
        ("gpu", "quarantine"),
        ("gpu", "release"),
        ("gpu", "forget"),
        ("node", "drain"),
        ("node", "undrain"),
        ("top",),
    ],
)
def test_help_has_examples_that_name_the_command(cluster: Cluster, words: tuple[str, ...]) -> None:
    said = cluster.run(*words, "--help", COLUMNS="200").stdout
    assert "Examples:" in said and f"poolmgr {' '.join(words)}" in said
