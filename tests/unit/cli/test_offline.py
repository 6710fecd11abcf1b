"""Plans and admission answers from files of objects, as support and a policy check in CI want them."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from bench.speed.planner import random_cluster
from poolmgr.cli.main import app
from poolmgr.sim.snapshots import encode_snapshot
from tests.unit.cluster import builders as build
from tests.unit.cluster.test_objects import with_kind

OURS = "poolmgr.io/v1alpha1"
RESOURCE = build.device()["resourceName"]
RESOURCE_OF_SLICES = "nvidia.com/gpu"


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A node with one shared GPU, in a pool that moves by itself."""
    path = tmp_path / "fleet.yaml"
    path.write_text(
        yaml.safe_dump_all(
            [
                with_kind("Node", build.node("n1")),
                with_kind("GPUNode", build.gpu_node("n1"), OURS),
                with_kind("GPUPool", build.pool("a10"), OURS),
                with_kind("Service", {"metadata": {"name": "s"}}),
            ]
        )
    )
    return path


def machine(gpus: int = 1, resource: str = RESOURCE) -> str:
    devices = {"gpus": [{"name": f"g{n}", "deviceName": resource} for n in range(gpus)]}
    spec = {"runStrategy": "Always", "template": {"spec": {"domain": {"devices": devices}}}}
    return yaml.safe_dump(
        {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachine",
            "metadata": {"name": "ada", "namespace": "desk"},
            "spec": spec,
        }
    )


def run(*arguments: str, stdin: str | None = None):
    return CliRunner().invoke(app, list(arguments), input=stdin, env={"COLUMNS": "200"})


def test_plan_is_made_from_objects_and_says_what_was_passed_over(fleet: Path) -> None:
    done = run("plan", "--from", str(fleet))
    assert done.exit_code == 0, done.output
    assert "GPU(s) to move" in done.output
    assert "passed over, because no decision looks at them: 1 Service" in done.output


def test_plan_of_a_cluster_that_no_manager_has_adopted_is_that_of_one_that_has(fleet: Path) -> None:
    waiting = build.vmi("desk", phase="Pending", node="")
    fleet.write_text(
        fleet.read_text()
        + "---\n"
        + yaml.safe_dump(with_kind("VirtualMachineInstance", waiting, "kubevirt.io/v1"))
    )
    done = run("plan", "--from", str(fleet), "--json")
    plan = json.loads(done.stdout)
    assert [move["reason"] for move in plan["moves"]] == ["VmWaiting"], plan
    assert "planned as if poolmgr had recorded the modes of 1 GPU(s)" in done.stderr


def test_plan_of_objects_with_a_node_cordoned_says_so(fleet: Path) -> None:
    gpu = f"n1/{build.device()['pciAddress']}"
    before = json.loads(run("plan", "--from", str(fleet), "--json", "--explain", gpu).stdout)
    after = json.loads(run("plan", "--from", str(fleet), "--cordon", "n1", "--json", "--explain", gpu).stdout)
    assert "cordoned" not in before["message"]
    assert "cordoned" in after["message"]


def test_added_object_takes_the_place_of_one_of_the_same_name(fleet: Path, tmp_path: Path) -> None:
    ready = build.pool("a10", passthrough={"headroom": 1})
    added = tmp_path / "ready.yaml"
    added.write_text(yaml.safe_dump(with_kind("GPUPool", ready, OURS)))
    assert "keeps 0 GPU(s) ready" in run("plan", "--from", str(fleet)).output
    assert "keeps 1 GPU(s) ready" in run("plan", "--from", str(fleet), "--add", str(added)).output


def test_field_that_is_set_changes_the_plan(fleet: Path) -> None:
    assert "keeps 0 GPU(s) ready" in run("plan", "--from", str(fleet)).output
    field = "gpupool/a10:spec.passthrough.headroom=1"
    assert "keeps 1 GPU(s) ready" in run("plan", "--from", str(fleet), "--set", field).output


def waiting_and_running(fleet: Path) -> Path:
    """Beside the fleet: a VM that waits, and a second node whose GPU has a pod on it."""
    card = build.device(uuid=build.GPU_B)
    taken = {
        "hami.io/vgpu-node": "n2",
        "hami.io/vgpu-devices-allocated": f"{build.GPU_B},NVIDIA,4096,25:;",
    }
    more = [
        with_kind("Node", build.node("n2")),
        with_kind("GPUNode", build.gpu_node("n2", [card]), OURS),
        with_kind("VirtualMachineInstance", build.vmi("ada", phase="Pending", node=""), "kubevirt.io/v1"),
        with_kind("Pod", build.pod("train", node="n2", annotations=taken)),
    ]
    fleet.write_text(fleet.read_text() + "---\n" + yaml.safe_dump_all(more))
    return fleet


def test_plan_of_everything_says_of_each_workload_and_gpu_why(fleet: Path) -> None:
    address = build.device()["pciAddress"]
    said = run("plan", "--from", str(waiting_and_running(fleet)), "--all").stdout
    assert "VirtualMachineInstance desktops/ada: " in said
    assert "Pod ml/train: it runs on n2 (Served)" in said
    assert f"n2/{address}: stays in Shared (GpuBusy): " in said
    assert said.count(f"n1/{address}") == 0, "it moves, and is said to move once"
    assert "→ Passthrough: " in said


def test_workload_of_a_file_is_explained_without_a_cluster(fleet: Path) -> None:
    waiting_and_running(fleet)
    waits = run("explain", "vm", "ada", "--from", str(fleet))
    assert waits.exit_code == 0, waits.output
    assert waits.stdout.startswith("VM desktops/ada\n")
    assert f"from the file {fleet} by the planner" in waits.stdout
    runs = json.loads(run("explain", "pod", "ml/train", "--from", str(fleet), "-o", "json").stdout)
    assert (runs["state"], runs["reason"], runs["node"]) == ("Running", "Served", "n2")


def test_gpu_of_a_file_is_explained_as_the_edits_leave_it(fleet: Path) -> None:
    gpu = f"n1/{build.device()['pciAddress']}"
    waiting_and_running(fleet)
    moves = json.loads(run("explain", "gpu", gpu, "--from", str(fleet), "-o", "json").stdout)
    assert moves["fate"] == "moves to Passthrough"
    closed = ["--set", "gpupool/a10:spec.passthrough.max=0"]
    stays = json.loads(run("explain", "gpu", gpu, "--from", str(fleet), *closed, "-o", "json").stdout)
    assert stays["fate"] == "stays"


def test_snapshot_explains_its_workloads_too(fleet: Path, tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    taken = random_cluster(nodes=2, gpus=4, pods=10, seed=1)
    path.write_bytes(encode_snapshot(taken))
    each = taken.pods[0]
    said = run("explain", "pod", f"{each.namespace}/{each.name}", "--from", str(path))
    assert said.exit_code == 0, said.output
    refused = run("explain", "pod", each.name, "--from", str(path), "--cordon", "node-00000")
    assert refused.exit_code == 2
    assert "it has a snapshot" in refused.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["vm", "eve", "--from", "FLEET"], 1, "`poolmgr plan --all --from FLEET` lists those that do"),
        (["vm", "ada", "--from", "FLEET", "--context", "lab"], 2, "give either a file with --from or a cluster"),
        (["vm", "ada", "--cordon", "n1"], 2, "a live cluster is only read"),
        (["gpu", "n1/x", "--from", "/nowhere"], 1, "there is no file /nowhere"),
    ],
)  # fmt: skip
def test_explanation_that_cannot_be_given_says_why(
    fleet: Path, arguments: list[str], code: int, said: str
) -> None:
    done = run("explain", *(word.replace("FLEET", str(fleet)) for word in arguments))
    assert done.exit_code == code
    assert said.replace("FLEET", str(fleet)) in done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--add", "x.yaml"], "--add, --cordon and --set change the objects of --from"),
        (
            ["--set", "gpupool/a10:spec.shared.min=1"],
            "--add, --cordon and --set change the objects of --from",
        ),
        (["--from", "FLEET", "--add", "/nowhere.yaml"], "there is no file /nowhere.yaml"),
        (["--from", "FLEET", "--cordon", "n9"], "there is no Node n9 in the objects; there are: n1"),
        (
            ["--from", "FLEET", "--set", "gpupool/x:spec.shared.min=1"],
            "none of the gpupools in the objects have",
        ),
        (["--from", "FLEET", "--set", "a10.min=1"], "is not KIND/[NAMESPACE/]NAME:PATH=VALUE"),
    ],
)
def test_edits_that_cannot_be_made_are_refused(fleet: Path, arguments: list[str], said: str) -> None:
    words = [str(fleet) if word == "FLEET" else word for word in arguments]
    if "--from" not in words:
        words += ["--kubeconfig", str(fleet)]
    done = run("plan", *words)
    assert done.exit_code != 0
    assert said in done.output


def test_review_admits_with_the_warning_that_kubectl_would_print(fleet: Path) -> None:
    done = run("webhook", "review", "--fleet", str(fleet), "-", stdin=machine())
    assert done.exit_code == 0, done.output
    assert done.output.startswith("admitted (")
    assert "warning: " in done.output
    assert "kubectl -n desk get vmi ada" in done.output


def test_review_of_a_pod_that_writes_a_half_as_a_number_sees_its_gpu(fleet: Path) -> None:
    limits = {RESOURCE_OF_SLICES: 9, "cpu": 0.5}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "nb", "namespace": "ml"},
        "spec": {"containers": [{"name": "c", "resources": {"limits": limits}}]},
    }
    done = run("webhook", "review", "--fleet", str(fleet), "-", stdin=yaml.safe_dump(pod))
    assert done.output.startswith("refused (MoreThanAnyNode)"), done.output


def test_review_refuses_with_a_sentence_and_exit_code_1(fleet: Path) -> None:
    done = run("webhook", "review", "--fleet", str(fleet), "-", stdin=machine(gpus=9))
    assert done.exit_code == 1
    assert done.output.startswith("refused (MoreThanAnyNode): The virtual machine requests 9 ")


def test_review_prints_the_answer_that_an_api_server_gets(fleet: Path) -> None:
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "operation": "CREATE",
            "namespace": "desk",
            "object": yaml.safe_load(machine(gpus=9)),
        },
    }
    done = run("webhook", "review", "--fleet", str(fleet), "-o", "json", "-", stdin=json.dumps(review))
    response = json.loads(done.output)["response"]
    assert (response["uid"], response["allowed"]) == ("u-1", False)


@pytest.mark.parametrize(
    ("request_text", "said"),
    [
        ("kind: AdmissionReview\n", "has no request with an object"),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n",
            "no webhook of poolmgr is asked about deployments",
        ),
        (machine() + "---\n" + machine(), "has 2 objects; a review is of one"),
        ("a: [", "is neither YAML nor JSON"),
    ],
)
def test_review_of_what_is_no_request_says_why(fleet: Path, request_text: str, said: str) -> None:
    done = run("webhook", "review", "--fleet", str(fleet), "-", stdin=request_text)
    assert done.exit_code == 1
    assert said in done.output
    assert "Traceback" not in done.output
