"""The contract's third part: which GPUs the scheduler believes in. `lab.look()` makes it look at all nodes now."""

import json
import socket
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from e2e.controlplane.hami import NAMESPACE, Hami
from e2e.hami.contract import shows
from e2e.hami.lab import Lab
from e2e.processes import free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
TICK_SECONDS = 15
HANDSHAKE = "hami.io/node-handshake"


def stamp(seconds_ago: int) -> str:
    """A handshake of that age, in local time as HAMi writes it."""
    return f"Requesting_{datetime.now() - timedelta(seconds=seconds_ago):%Y-%m-%d %H:%M:%S}"


def handshake(lab: Lab, node: str) -> str:
    return lab.annotations_of_node(node).get(HANDSHAKE, "")


def register(lab: Lab, node: str, *names: str) -> None:
    """Writes the register annotation anew, with these GPUs."""
    lab.annotate_node(node, node_nvidia_register=json.dumps([lab.gpu(name) for name in names]))


@shows(30)
def test_what_is_left_out_is_zero_or_false(lab: Lab) -> None:
    node = lab.node(lab.gpu("well"), lab.gpu("ill", index=1, health=None))
    assert lab.place("takes", node).startswith(lab.uuid("well"))
    pod = lab.pod("wants-the-other", annotations={"nvidia.com/use-gpuuuid": lab.uuid("ill")})
    assert lab.filter(pod, node).nodes == []
    lab.until("the reason", lambda: "CardNotHealth" in str(lab.events_of("wants-the-other")))


@shows(31, 45)
def test_a_new_node_is_looked_at_and_a_changed_one_is_not(lab: Lab) -> None:
    before = lab.bare_node(None, slices=10)
    lab.look()
    register(lab, before, "later")
    lab.set_slices(before, 20)
    lab.api.patch(f"/api/v1/nodes/{before}", {"metadata": {"labels": {"changed": "yes"}}})
    # Not the tick, which may come at any moment, but a new node is what makes it look: both are known at once.
    lab.node(lab.gpu("new"))
    assert lab.knows("later")


@shows(32)
def test_another_number_of_slices_is_a_reason_to_read(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    register(lab, node, "a", "b")
    lab.set_slices(node, 20)
    lab.look()
    assert lab.knows("a", "b")


@shows(33)
def test_2_10_notices_another_annotation(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    register(lab, node, "b")
    lab.look()
    assert lab.knows("b")
    assert not lab.knows("a")


@shows(34)
def test_2_8_does_not_notice_another_annotation(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    register(lab, node, "b")
    lab.look()
    assert lab.knows("a")
    assert not lab.knows("b")


@shows(35)
def test_2_10_forgets_a_node_without_slices(lab: Lab) -> None:
    ours = stamp(30)
    node = lab.node(lab.gpu("a"), annotations={HANDSHAKE: ours})
    lab.set_slices(node, 0)
    lab.annotate_node(node, node_nvidia_register=None)
    lab.look()
    assert not lab.knows("a")
    lab.until("the handshake to be taken away, or stamped anew", lambda: handshake(lab, node) != ours)


@shows(36)
def test_2_8_forgets_a_node_without_slices(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    lab.set_slices(node, 0)
    lab.look()
    assert not lab.knows("a")
    day, _, time = handshake(lab, node).removeprefix("Deleted_").partition(" ")
    assert datetime.fromisoformat(f"{day}T{time}") > datetime.now() - timedelta(minutes=2)


@shows(37)
def test_gpus_stay_while_there_are_slices(lab: Lab) -> None:
    removed, emptied = lab.node(lab.gpu("a")), lab.node(lab.gpu("b"))
    lab.annotate_node(removed, node_nvidia_register=None)
    lab.annotate_node(emptied, node_nvidia_register="[]")
    lab.look()
    lab.look()
    assert lab.knows("a", "b")


def remove_registration_then_slices(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    lab.annotate_node(node, node_nvidia_register=None)
    lab.look()
    lab.set_slices(node, 0)
    lab.look()
    lab.look()


@shows(38)
def test_2_10_forgets_in_either_order(lab: Lab) -> None:
    remove_registration_then_slices(lab)
    assert not lab.knows("a")


@shows(39)
def test_2_8_never_forgets_once_the_annotation_is_gone(lab: Lab) -> None:
    remove_registration_then_slices(lab)
    assert lab.knows("a")


@shows(40)
def test_2_10_stamps_a_missing_handshake(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    found = lab.until("the stamp", lambda: handshake(lab, node))
    written_at = datetime.strptime(found, "Requesting_%Y-%m-%d %H:%M:%S")
    assert abs(datetime.now() - written_at) < timedelta(minutes=2)


@shows(41)
def test_2_8_does_not_look_at_handshakes(lab: Lab) -> None:
    plain = lab.node(lab.gpu("a"))
    old = lab.node(lab.gpu("b"), annotations={HANDSHAKE: stamp(3600)})
    lab.look()
    assert lab.knows("a", "b")
    assert handshake(lab, plain) == ""
    assert handshake(lab, old) == lab.annotations_of_node(old)[HANDSHAKE]


@shows(42)
def test_2_10_gives_up_an_old_handshake_without_slices_only(lab: Lab) -> None:
    with_slices = lab.node(lab.gpu("a"))
    phantom = lab.bare_node([lab.gpu("b")], slices=0)
    lab.look()
    assert lab.knows("a", "b")
    lab.annotate_node(with_slices, node_handshake=stamp(61))
    lab.annotate_node(phantom, node_nvidia_register=None, node_handshake=stamp(61))
    lab.look()
    assert lab.knows("a")
    assert not lab.knows("b")


@shows(43)
def test_2_10_believes_in_gpus_that_are_only_written_down(lab: Lab) -> None:
    node = lab.bare_node([lab.gpu("phantom")], slices=0)
    lab.look()
    assert lab.knows("phantom"), "no handshake: stamped, and taken in"

    def forgotten() -> bool:
        lab.annotate_node(node, node_handshake=stamp(61))
        lab.look()
        return not lab.knows("phantom")

    lab.until("it to be forgotten", forgotten)
    lab.until("it to be believed in again", lambda: lab.look() or lab.knows("phantom"))


@shows(44)
def test_2_8_does_not_believe_in_gpus_without_slices(lab: Lab) -> None:
    node = lab.bare_node([lab.gpu("phantom")], slices=0)
    lab.look()
    assert not lab.knows("phantom")
    lab.annotate_node(node, node_handshake="Deleted_2026-01-01 00:00:00")
    lab.look()
    assert not lab.knows("phantom")


@shows(29)
def test_2_8_keeps_what_it_said_of_an_earlier_time(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    lab.set_slices(node, 0)
    lab.look()
    said = handshake(lab, node)
    assert said.startswith("Deleted_")
    lab.set_slices(node, 10)
    lab.look()
    assert lab.knows("a")
    assert handshake(lab, node) == said


@shows(46)
def test_a_deleted_node_is_forgotten(lab: Lab) -> None:
    lab.delete_node(lab.node(lab.gpu("a")))
    lab.until("it to be forgotten", lambda: not lab.knows("a"))


@shows(47)
def test_2_10_has_the_new_names(lab: Lab, standing: Hami) -> None:
    lab.node(lab.gpu("a"))
    lines = [line for line in standing.metrics().splitlines() if lab.uuid("a") in line]
    names = {line.partition("{")[0] for line in lines}
    assert names >= {
        "hami_gpu_memory_limit_bytes",
        "hami_gpu_shared_count",
        "hami_gpu_memory_allocated_bytes",
    }
    assert all(name.startswith("hami_") for name in names)
    port = free_port()
    flags = {"--legacy-metrics": "true"}
    process = standing.add_extender("legacy-extender", flags=flags, metrics_port=port).start()
    page = f"http://127.0.0.1:{port}/metrics"
    lab.until("the old names", lambda: "nodeGPUOverview" in httpx.get(page, trust_env=False).text)
    process.stop()


@shows(48)
def test_2_8_has_the_old_names(lab: Lab, standing: Hami) -> None:
    lab.node(lab.gpu("a"))
    lines = [line for line in standing.metrics().splitlines() if lab.uuid("a") in line]
    names = {line.partition("{")[0] for line in lines}
    assert names >= {"GPUDeviceMemoryLimit", "GPUDeviceSharedNum", "nodeGPUOverview"}
    assert not any(name.startswith("hami_") for name in names)


@shows(49)
def test_only_the_leader_takes_nodes_in(lab: Lab, standing: Hami) -> None:
    lease = {"metadata": {"name": f"lease-{lab.number}"}, "spec": {"leaseDurationSeconds": 3600}}
    lease["spec"]["holderIdentity"] = "somebody-else"
    lease["spec"]["renewTime"] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
    lab.api.create(leases, lease)
    port, metrics_port = free_port(), free_port()
    flags = {
        "--leader-elect": "true",
        "--leader-elect-resource-name": lease["metadata"]["name"],
        "--leader-elect-resource-namespace": NAMESPACE,
    }
    follower = standing.add_extender("follower", flags=flags, port=port, metrics_port=metrics_port)
    follower.start(lambda: standing.plane.healthy(port))

    def known() -> bool:
        return lab.uuid("a") in httpx.get(f"http://127.0.0.1:{metrics_port}/metrics", trust_env=False).text

    lab.node(lab.gpu("a"))
    lab.look()
    assert not known()
    lease["spec"] |= {"holderIdentity": f"{socket.gethostname()}_1"}
    lease["spec"]["renewTime"] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    lab.api.patch(f"{leases}/{lease['metadata']['name']}", {"spec": lease["spec"]})
    lab.until("the new leader to look", lambda: lab.look() or known())
    follower.stop()
    lab.api.delete(f"{leases}/{lease['metadata']['name']}")
