"""Writes of intent and HAMi's levers: fenced, compare-and-swap, repeatable."""

from dataclasses import replace
from typing import Any

import pytest

from poolmgr import wire
from poolmgr.cluster.actuate import KubernetesFleet
from poolmgr.cluster.hami.actuate import KubernetesSharing
from poolmgr.cluster.node_writer import ATTEMPTS, NodeWriter
from poolmgr.cluster.transport import Response
from poolmgr.domain.errors import Stale, Unavailable
from poolmgr.domain.fleet import Transition
from poolmgr.domain.identifiers import GpuUuid, LeaseEpoch, NodeName, PciAddress, PlanId
from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.node_spec import NodeIntent
from poolmgr.domain.reasons import Reason
from tests.unit.cluster.api_bench import GPU_NODES, NODES, ApiBench, Held
from tests.unit.cluster.builders import GPU_A, as_wire, gpu_node, node, plugin, register

N1 = NodeName("n1")
INTENT = NodeIntent(((PciAddress("0000:00:04.0"), Mode.PASSTHROUGH, PlanId("ab12")),), None)


def move(epoch: int) -> Transition:
    return Transition(
        N1,
        PlanId("ab12"),
        LeaseEpoch(epoch),
        Mode.PASSTHROUGH,
        (PciAddress("0000:00:04.0"),),
        Step.INTEND,
        0.0,
        0.0,
    )


def fleet_of(cluster: ApiBench, epoch: int | None = 3) -> KubernetesFleet:
    return KubernetesFleet(cluster.client, Held(epoch), cluster.wrote)


def revision(cluster: ApiBench) -> str:
    found: str = cluster.api.get(f"{GPU_NODES}/n1")["metadata"]["resourceVersion"]
    return found


async def test_what_an_operator_asked_for_goes_with_the_write_that_does_it() -> None:
    cluster = ApiBench()
    asked = gpu_node()
    asked["metadata"]["annotations"] = {"poolmgr.io/retry": "all"}
    cluster.api.put(GPU_NODES, asked)
    fleet = fleet_of(cluster)
    await fleet.write_intent(N1, INTENT, revision(cluster))
    assert "poolmgr.io/retry" in cluster.api.get(f"{GPU_NODES}/n1")["metadata"]["annotations"]
    await fleet.write_intent(N1, replace(INTENT, retry_heeded=True), revision(cluster))
    assert cluster.api.get(f"{GPU_NODES}/n1")["metadata"]["annotations"] == {"poolmgr.io/epoch": "3"}


async def test_intent_is_written_with_the_epoch_and_answers_the_new_revision() -> None:
    cluster = ApiBench()
    cluster.api.put(GPU_NODES, gpu_node())
    old = revision(cluster)
    written = await fleet_of(cluster).write_intent(N1, INTENT, old)
    stored = cluster.api.get(f"{GPU_NODES}/n1")
    assert stored["metadata"]["resourceVersion"] == written
    assert cluster.written == [(old, written)]
    assert stored["metadata"]["annotations"] == {"poolmgr.io/epoch": "3"}
    assert stored["spec"] == {
        "devices": [{"pciAddress": "0000:00:04.0", "mode": "Passthrough", "planId": "ab12"}],
        "backoffs": [],
        "disturbances": [],
    }


async def test_intent_on_an_old_revision_is_stale_and_changes_nothing() -> None:
    cluster = ApiBench()
    cluster.api.put(GPU_NODES, gpu_node())
    old = revision(cluster)
    cluster.api.put(GPU_NODES, gpu_node(observed=2))
    with pytest.raises(Stale) as refused:
        await fleet_of(cluster).write_intent(N1, INTENT, old)
    assert refused.value.reason is Reason.STALE_GENERATION
    assert cluster.written == []
    assert cluster.api.get(f"{GPU_NODES}/n1")["spec"] == {}


@pytest.mark.parametrize(
    ("held", "epoch", "reason"), [(None, 3, Reason.NOT_LEADER), (3, 4, Reason.STALE_EPOCH)]
)
async def test_nothing_is_sent_without_the_lease_or_from_the_past(
    held: int | None, epoch: int, reason: Reason
) -> None:
    cluster = ApiBench()
    cluster.api.put(GPU_NODES, gpu_node())
    with pytest.raises(Stale) as refused:
        intent = NodeIntent(INTENT.desired, move(epoch))
        await fleet_of(cluster, held).write_intent(N1, intent, revision(cluster))
    assert refused.value.reason is reason
    assert cluster.api.requests == []


async def test_transition_of_an_earlier_leader_is_taken_over_in_our_epoch() -> None:
    cluster = ApiBench()
    cluster.api.put(GPU_NODES, gpu_node())
    await fleet_of(cluster, 9).write_intent(N1, NodeIntent((), move(3)), revision(cluster))
    assert cluster.api.get(f"{GPU_NODES}/n1")["spec"]["transition"]["epoch"] == 9


async def test_crds_own_word_against_an_older_epoch_is_stale() -> None:
    cluster = ApiBench()
    cluster.api.put(GPU_NODES, gpu_node())
    cluster.transport.answers.append(
        Response(422, b'{"message":"spec: transition.epoch must not go back: this"}')
    )
    with pytest.raises(Stale) as refused:
        await fleet_of(cluster).write_intent(N1, INTENT, revision(cluster))
    assert refused.value.reason is Reason.STALE_EPOCH


class Levers(ApiBench):
    def __init__(self, epoch: int | None = 3, version: tuple[int, int] | None = (2, 10), **over: Any) -> None:
        super().__init__()
        self.api.put(NODES, node(**over))
        self.lever = KubernetesSharing(
            NodeWriter(self.client, Held(epoch)),
            version=lambda _: version,
            plugin=lambda: as_wire(plugin(), wire.DaemonSet),
            plan_of=lambda _: "ab12",
        )

    @property
    def node(self) -> dict[str, Any]:
        return self.api.get(f"{NODES}/n1")

    @property
    def annotations(self) -> dict[str, str]:
        found: dict[str, str] = self.node["metadata"]["annotations"]
        return found


async def test_each_lever_moves_once_and_repeating_it_writes_nothing() -> None:
    levers = Levers(
        annotations={"hami.io/node-nvidia-register": register(GPU_A), "hami.io/node-handshake": "x"}
    )
    for _ in range(2):
        await levers.lever.ensure_gpus_fenced(N1, frozenset({GpuUuid(GPU_A)}))
        await levers.lever.ensure_cordoned(N1, True)
        await levers.lever.ensure_plugin(N1, False)
        await levers.lever.ensure_unregistered(N1)
        await levers.lever.ensure_scheduler_asked(N1, PlanId("ab12"), 1_800_000_000.0)
        assert levers.api.count("PATCH") == 5
    assert levers.annotations == {
        "hami.io/device-cordon": GPU_A,
        "poolmgr.io/fenced": GPU_A,
        "poolmgr.io/cordoned": "ab12",
        "poolmgr.io/asked": "ab12@1800000000",
        "poolmgr.io/plugin-labels": '{"gpu":"on"}',
        "poolmgr.io/epoch": "3",
    }
    for _ in range(2):
        await levers.lever.ensure_plugin(N1, True)
        await levers.lever.ensure_cordoned(N1, False)
        await levers.lever.ensure_gpus_fenced(N1, frozenset())
        assert levers.api.count("PATCH") == 8
    assert levers.annotations == {"poolmgr.io/epoch": "3"}
    assert levers.node["metadata"]["labels"]["gpu"] == "on"
    assert not levers.node["spec"].get("unschedulable")


async def test_node_is_lent_once_in_the_leaders_epoch_and_other_labels_stay() -> None:
    levers = Levers()
    for on, labels in ((True, {"gpu": "on", "poolmgr.io/best-effort-only": "true"}), (False, {"gpu": "on"})):
        before = levers.api.count("PATCH")
        for _ in range(2):
            await levers.lever.ensure_best_effort_only(N1, on)
        assert levers.api.count("PATCH") == before + 1
        found = levers.node["metadata"]["labels"]
        assert {key: value for key, value in found.items() if "hostname" not in key} == labels
        assert levers.annotations == {"poolmgr.io/epoch": "3"}


@pytest.mark.parametrize(
    ("epoch", "written", "reason"), [(None, "", Reason.NOT_LEADER), (3, "4", Reason.STALE_EPOCH)]
)
async def test_node_is_not_lent_by_a_manager_that_leads_no_more(
    epoch: int | None, written: str, reason: Reason
) -> None:
    levers = Levers(epoch=epoch, annotations={"poolmgr.io/epoch": written})
    with pytest.raises(Stale) as refused:
        await levers.lever.ensure_best_effort_only(N1, True)
    assert refused.value.reason is reason
    assert levers.api.count("PATCH") == 0


async def test_write_of_another_in_between_is_read_and_kept() -> None:
    levers = Levers()
    handle, meddled = levers.api.handle, 0

    def meddle(method: str, *rest: Any) -> Any:
        nonlocal meddled
        if method == "PATCH" and meddled < 2:
            meddled += 1
            levers.api.put(NODES, node(annotations={"hami.io/node-handshake": f"Requesting_{meddled}"}))
        return handle(method, *rest)

    levers.api.handle = meddle  # type: ignore[assignment,method-assign]
    await levers.do(levers.lever.ensure_cordoned(N1, True))
    assert levers.node["spec"]["unschedulable"] is True
    assert levers.annotations["hami.io/node-handshake"] == "Requesting_2"


async def test_endless_meddling_ends_as_stale() -> None:
    levers = Levers()
    levers.transport.answers.clear()
    handle = levers.api.handle

    def meddle(method: str, *rest: Any) -> Any:
        if method == "PATCH":
            return Response(409, b'{"message":"modified"}')
        return handle(method, *rest)

    levers.api.handle = meddle  # type: ignore[method-assign]
    with pytest.raises(Stale):
        await levers.do(levers.lever.ensure_cordoned(N1, True))
    assert levers.api.count("PATCH") == ATTEMPTS


async def test_levers_need_the_lease_only_where_there_is_something_to_write() -> None:
    levers = Levers(epoch=None)
    await levers.lever.ensure_cordoned(N1, False)
    with pytest.raises(Stale) as refused:
        await levers.lever.ensure_cordoned(N1, True)
    assert refused.value.reason is Reason.NOT_LEADER
    assert levers.api.count("PATCH") == 0


async def test_node_written_by_a_later_leader_is_left_alone() -> None:
    levers = Levers(epoch=3, annotations={"poolmgr.io/epoch": "4"})
    with pytest.raises(Stale) as refused:
        await levers.lever.ensure_cordoned(N1, True)
    assert refused.value.reason is Reason.STALE_EPOCH
    assert levers.api.count("PATCH") == 0


async def test_without_hami_there_is_nothing_to_fence() -> None:
    levers = Levers(version=None)
    await levers.lever.ensure_gpus_fenced(N1, frozenset({GpuUuid(GPU_A)}))
    assert levers.api.requests == []


async def test_unreachable_server_is_unavailable_and_nothing_is_half_done() -> None:
    levers = Levers()
    levers.transport.down = True
    with pytest.raises(Unavailable):
        await levers.do(levers.lever.ensure_plugin(N1, False))
    assert levers.node["metadata"]["labels"]["gpu"] == "on"
