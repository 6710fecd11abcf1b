"""Verbs that read the cluster's objects: status, get, explain, events, version. Outputs as a user sees them in a pipe."""

import json
from dataclasses import replace

import pytest
import yaml

from tests.unit.cli.daily.cluster import Cluster, heartbeat, lease
from tests.unit.cluster import builders as build

STATUS = """\
Read      at 2026-11-22T11:00:00Z from the cluster's objects
Manager   poolmgr-manager-7c9d leads, last heard 3s ago
Nodes     1 of 2 ready
GPUs      3: 1 for VMs (1 used), 2 shared (1 used), 0 moving, 0 in trouble
Waiting   1 VM(s), 0 pod(s)

Needs a human:
  node gpu-2 or its agent is not ready, so the state of its 1 GPU(s) is unknown

NAME       REBALANCE   GPUS   VM GPUS   VM USED   SHARED   SHARED USED   MOVING   TROUBLE   WAITING
desktops   Automatic   3      1         1         2        1             0        0         1 VM
"""
GPUS = """\
GPU                  MODEL        POOL       MODE          STATE     FOR   USED BY
gpu-1/0000:3b:00.0   NVIDIA A10   desktops   Passthrough   InUse     60m   VM desktops/ada
gpu-1/0000:5e:00.0   NVIDIA A10   desktops   Shared        InUse     60m   pod ml/train
gpu-2/0000:3b:00.0   NVIDIA A10   desktops   Shared        Unknown   60m   -
"""
WORKLOADS = """\
KIND   NAMESPACE   NAME    GPUS                         STATE     FOR   NODE    REASON
vm     desktops    ada     1 x nvidia.com/GA102GL_A10   Running   60m   gpu-1   -
vm     desktops    bob     1 x nvidia.com/GA102GL_A10   Waiting   60m   -       NoCandidate
pod    ml          train   1 x 3000 MiB                 Running   60m   gpu-1   -
"""
NODES = """\
NAME    STATUS     GPUS   VM GPUS   SHARED   IN USE   IDLE   TROUBLE   MOVE   HEARD
gpu-1   Ready      2      1         1        2        0      0         -      10s
gpu-2   NotReady   1      0         1        0        1      0         -      10s
"""
RESERVATIONS = """\
NAMESPACE   NAME     GPUS   MODEL        MODE          PHASE     READY   USED   START                  END
desktops    course   1      NVIDIA A10   Passthrough   Active    1       1      2026-11-22T10:00:00Z   2026-11-22T14:00:00Z
uni         later    1      NVIDIA A10   Passthrough   Pending   0       0      2026-11-22T13:00:00Z   2026-11-22T14:00:00Z
"""
QUOTAS = """\
POOL       NAMESPACE   USED   LIMIT   WAITING   WEIGHT
desktops   desktops    2      3       0         2
desktops   ml          0.25   0.5     0         1
"""
BOB = """\
VM desktops/bob
  asks for   1 x nvidia.com/GA102GL_A10
  waits      NoCandidate: none of 3 GPU(s) can be moved now: 2 of them GpuBusy, for example GPU 0000:5e:00.0 on gpu-1 is in \
use by pod ml/train
  since      2026-11-22T10:00:00Z (60m)
  judged at 2026-11-22T11:00:00Z from the cluster's objects by the planner that the manager runs, without its forecast
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("status", STATUS),
        ("get gpus", GPUS),
        ("get workloads", WORKLOADS),
        ("get nodes", NODES),
        ("explain vm bob", BOB),
        ("explain vm desktops/bob", BOB),
    ],
)
def test_verb_answers_in_plain_aligned_text(day: Cluster, words: str, expected: str) -> None:
    assert day.answers(*words.split()) == expected


def test_nothing_is_cut_or_coloured_in_a_pipe(day: Cluster) -> None:
    wide = day.answers("get", "gpus", "-o", "wide")
    assert build.GPU_A in wide
    assert "\x1b" not in wide + day.answers("status")


def test_quotas_show_what_counts_against_them(day: Cluster) -> None:
    limits = [{"namespace": "desktops", "maxGPUs": 3, "weight": 2}, {"namespace": "ml", "maxGPUs": 0.5}]
    day.put(build.pool("desktops", quotas=limits))
    assert day.answers("get", "quotas") == QUOTAS
    [ml] = day.json("get", "quota", "-n", "ml")["items"]
    assert (ml["pool"], ml["maxGPUs"], ml["used"]) == ("desktops", 0.5, 0.25)


def test_reservations_show_where_they_stand(day: Cluster) -> None:
    open_now = build.reservation(namespace="desktops", gpus=1, start="2026-11-22T10:00:00Z")
    later = build.reservation("later", gpus=1, start="2026-11-22T13:00:00Z")
    day.put(open_now, later)
    assert day.answers("get", "reservations") == RESERVATIONS
    assert "all 1 GPU(s) are ready" in day.json("get", "gres", "course")["items"][0]["message"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("get pools", ["gpupool.poolmgr.io/desktops"]),
        ("get gnode", ["gpunode.poolmgr.io/gpu-1", "gpunode.poolmgr.io/gpu-2"]),
        ("get gpu gpu-1", ["gpu/gpu-1/0000:3b:00.0", "gpu/gpu-1/0000:5e:00.0"]),
        ("get gpus gpu-1/0000:5e:00.0", ["gpu/gpu-1/0000:5e:00.0"]),
        ("get workloads -n ml", ["pod/ml/train"]),
        ("explain pod train", ["pod/ml/train"]),
    ],
)
def test_names_can_be_given_to_other_programs(day: Cluster, words: str, names: list[str]) -> None:
    assert day.answers(*words.split(), "-o", "name").splitlines() == names


def test_json_and_yaml_say_the_same_and_when_it_was_read(day: Cluster) -> None:
    body = day.json("get", "gpus")
    assert body["readAt"] == "2026-11-22T11:00:00Z"
    assert yaml.safe_load(day.answers("get", "gpus", "-o", "yaml")) == body
    first = body["items"][0]
    assert (first["node"], first["mode"], first["users"]) == ("gpu-1", "Passthrough", ["VM desktops/ada"])


def test_claims_of_a_node_that_does_not_answer_are_withdrawn(day: Cluster) -> None:
    """Its agent once said that the GPU is idle; nobody knows whether it is."""
    states = {item["node"]: item["state"] for item in day.json("get", "gpus")["items"]}
    assert states["gpu-2"] == "Unknown"
    assert "cannot be confirmed" in day.answers("explain", "gpu", "gpu-2/0000:3b:00.0")


@pytest.mark.parametrize("beats", [[heartbeat("gpu-1", "2026-11-22T10:30:00Z")], []])
def test_claims_of_a_silent_agent_are_withdrawn(day: Cluster, beats: list[dict[str, object]]) -> None:
    """Its last word is that all is well, which it may not be for half an hour; or it has never been heard."""
    day.api.remove("/apis/coordination.k8s.io/v1/namespaces/poolmgr-system/leases/poolmgr-agent-gpu-1")
    day.put(*beats)
    assert "AgentSilent" in day.answers("get", "nodes", "gpu-1")
    assert {item["state"] for item in day.json("get", "gpus", "gpu-1")["items"]} == {"Unknown"}
    assert "the agent of gpu-1" in day.answers("status")
    said = day.answers("explain", "gpu", "gpu-1/0000:5e:00.0")
    assert "AgentSilent" in said
    assert "may be out of date" in said


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            lease("2026-11-22T10:40:00.000000Z"),
            "silent: poolmgr-manager-7c9d_0a1b2c3d last renewed its lease",
        ),
        (lease(holder=""), "no manager has led since 2026-11-22T10:59:57Z (3s); nothing moves"),
    ],
)
def test_a_manager_that_is_gone_is_not_called_a_leader(
    day: Cluster, document: dict[str, object], said: str
) -> None:
    assert said in day.put(document).answers("status")


def test_who_may_not_see_pods_is_told_so_and_no_gpu_is_called_idle(day: Cluster) -> None:
    day.put(build.node("gpu-2")).forbid("Pod")
    result = day.run("get", "gpus", "-o", "json")
    assert {u["kind"] for u in json.loads(result.stdout)["unseen"]} == {"pods"}
    assert "Idle" not in result.stdout
    assert "not seen: pods" in result.stderr
    assert "cannot tell   CannotTell: your rights do not let this be judged: pods" in day.answers(
        "explain", "gpu", "gpu-2/0000:3b:00.0"
    )


def test_a_cluster_without_poolmgr_is_not_taken_for_an_empty_one(cluster: Cluster) -> None:
    cluster.api.kinds.clear()
    result = cluster.run("get", "gpus")
    assert result.exit_code == 1
    assert "poolmgr is not installed there" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("get gpus gpu-9", 1, "there is no 'gpu-9'; there are gpu-1/0000:3b:00.0"),
        ("get cards", 2, "plans"),
        ("explain vm carl", 1, "no VM 'carl' asks for a GPU; `poolmgr get workloads` lists those that do"),
        ("explain gpu gpu-1/0000:5d:00.0", 1, "near it are gpu-1/0000:3b:00.0"),
    ],
)
def test_what_is_not_there_is_an_error_that_says_what_is(
    day: Cluster, words: str, code: int, said: str
) -> None:
    result = day.run(*words.split())
    assert result.exit_code == code
    assert said in result.stderr


def test_watch_writes_only_what_changed(day: Cluster) -> None:
    """Ages do not count: only gpu-2 is written again, and without the column names."""
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt
        day.put(build.node("gpu-2"))

    day.around = replace(day.around, pause=pause)
    lines = day.answers("get", "nodes", "--watch").splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["NAME", "STATUS"],
        ["gpu-1", "Ready"],
        ["gpu-2", "NotReady"],
        ["gpu-2", "Ready"],
    ]


def test_events_are_the_managers_own_oldest_first(day: Cluster) -> None:
    def event(name: str, at: str, component: str) -> dict[str, object]:
        return {
            "kind": "Event",
            "metadata": {"name": name, "namespace": "desktops"},
            "involvedObject": {"kind": "VirtualMachineInstance", "namespace": "desktops", "name": "bob"},
            "type": "Normal",
            "reason": "NoCandidate",
            "message": f"said at {at}",
            "lastTimestamp": at,
            "firstTimestamp": at,
            "reportingComponent": component,
        }

    day.put(
        event("b", "2026-11-22T10:58:00Z", "poolmgr-manager"),
        event("a", "2026-11-22T10:50:00Z", "poolmgr-manager"),
        event("c", "2026-11-22T10:59:00Z", "kubelet"),
    )
    assert day.answers("events") == (
        "LAST SEEN   TYPE     REASON        OBJECT                                MESSAGE\n"
        "10m         Normal   NoCandidate   VirtualMachineInstance/desktops/bob   said at 2026-11-22T10:50:00Z\n"
        "2m          Normal   NoCandidate   VirtualMachineInstance/desktops/bob   said at 2026-11-22T10:58:00Z\n"
    )


def test_version_counts_the_agents_and_needs_no_cluster(day: Cluster) -> None:
    assert day.json("version")["agents"] == {"unknown": 2}
    day.transport.down = True
    result = day.run("version", "--client")
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_gpu_that_rests_after_failures_says_until_when_and_how_to_end_it(day: Cluster) -> None:
    until = "2026-11-22T11:20:00Z"
    rests = {
        "pciAddress": "0000:3b:00.0",
        "reason": "BindFailed",
        "message": "refused",
        "failures": 2,
        "until": until,
    }
    day.put(build.node("gpu-2"), build.adopted("gpu-2", [device("GPU-c")], backoffs=[rests]))
    said = day.answers("explain", "gpu", "GPU-c")
    assert "stays   RecentlyFailed" in said
    assert f"until   {until}, or `poolmgr retry gpu-2`" in said


def device(uuid: str) -> dict[str, object]:
    return build.device("0000:3b:00.0", uuid=uuid)
