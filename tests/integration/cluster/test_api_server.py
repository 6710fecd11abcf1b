"""The manager's side of the cluster, on a real API server, controller manager and KWOK."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.controlplane.plane import ControlPlane
from e2e.fixtures import running_control_plane
from poolmgr.cluster.lease_settings import LeaseSettings
from poolmgr.controller.interfaces import PoolStatus
from poolmgr.domain.errors import Stale
from poolmgr.domain.fleet import Transition
from poolmgr.domain.identifiers import LeaseEpoch, NodeName, PciAddress, PlanId, WorkloadUid
from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.node_spec import NodeIntent
from poolmgr.domain.plan import Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from tests.integration.cluster.real_cluster import (
    GPU_NODES,
    GPU_POOLS,
    connected_cluster,
    device,
    ensure_crds,
    eventually,
    evictor_of,
    fleet_of,
    node_of,
    report_gpus,
    reporter_of,
    seen,
)

pytestmark = pytest.mark.integration

A10 = "nvidia.com/GA102GL_A10"
CHART = Path(__file__).parents[3] / "helm/poolmgr"


@pytest.fixture(scope="module")
def plane(artifacts: Path) -> Iterator[ControlPlane]:
    """A control plane of our own: it loses its API server and gains KubeVirt's CRDs on the way."""
    for started in running_control_plane(artifacts / "cluster"):
        started.ensure_kwok()
        ensure_crds(started)
        yield started


def move(node: str, step: Step, epoch: int, **over: object) -> Transition:
    fields = {
        "node": NodeName(node),
        "plan_id": PlanId("ab12"),
        "epoch": LeaseEpoch(epoch),
        "to_mode": Mode.PASSTHROUGH,
        "devices": (PciAddress("0000:00:04.0"),),
        "step": step,
        "started_at": 1_800_000_000.0,
        "step_started_at": 1_800_000_000.0,
        **over,
    }
    return Transition(**fields)  # type: ignore[arg-type]


WANTED = ((PciAddress("0000:00:04.0"), Mode.PASSTHROUGH, PlanId("ab12")),)


async def test_view_joins_nodes_pools_and_reports_and_follows_changes(plane: ControlPlane) -> None:
    await asyncio.to_thread(plane.add_fake_node, "view-1", labels={"zone": "a"})
    plane.apply(
        {
            "apiVersion": "poolmgr.io/v1alpha1",
            "kind": "GPUPool",
            "metadata": {"name": "view"},
            "spec": {"nodeSelector": {"matchLabels": {"zone": "a"}}, "shared": {"min": 1}},
        }
    )
    report_gpus(plane, "view-1", [device()])
    async with connected_cluster(plane) as cluster:
        snapshot = await seen(cluster, "a synced view", lambda s: s.synced and node_of(s, "view-1"))
        found = node_of(snapshot, "view-1")
        assert found is not None
        assert found.ready
        assert found.reported
        assert (found.gpus[0].pool, found.gpus[0].model) == ("view", "NVIDIA A10")
        assert (found.cpu_milli, found.memory_mib) == (32_000, 256 * 1024)
        assert snapshot.pools[0].shared.min == 1
        report_gpus(plane, "view-1", [device(mode="", phase="Unbound", reason="Recovered")])
        await seen(
            cluster,
            "the unbound GPU",
            lambda s: (n := node_of(s, "view-1")) and n.gpus[0].phase.value == "Unbound",
        )


async def test_view_without_kubevirt_is_whole_and_picks_it_up_when_it_appears(
    plane: ControlPlane, kubevirt_crds: Path
) -> None:
    async with connected_cluster(plane) as cluster:
        snapshot = await seen(cluster, "a synced view", lambda s: s.synced)
        assert snapshot.vms == ()
        await asyncio.to_thread(plane.apply, kubevirt_crds)
        await asyncio.to_thread(plane.ensure_namespace, "desktops")
        machine = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {"name": "jane", "namespace": "desktops"},
            "spec": {"domain": {"devices": {"gpus": [{"name": "g", "deviceName": A10}]}}},
        }

        def created() -> bool:
            plane.apply(machine)
            return True

        await eventually(
            "KubeVirt's kinds to be served", lambda: plane.kubectl("get", "vmis", "-A") and created()
        )
        snapshot = await seen(cluster, "the waiting VM", lambda s: s.vms)
        assert (snapshot.vms[0].name, snapshot.vms[0].waiting) == ("jane", True)
        assert snapshot.vms[0].claims[0].resource_name == A10


async def test_outage_is_noticed_survived_and_caught_up(plane: ControlPlane) -> None:
    await asyncio.to_thread(plane.add_fake_node, "outage-1")
    report_gpus(plane, "outage-1", [device()])
    async with connected_cluster(plane) as cluster:
        await seen(cluster, "a synced view", lambda s: s.synced and node_of(s, "outage-1"))
        outage = plane.outage(killed=True)
        await asyncio.to_thread(outage.__enter__)
        try:
            await eventually("every watch to be old", lambda: min(cluster.view.ages().values()) >= 5)
            snapshot = await cluster.view.snapshot()
            assert node_of(snapshot, "outage-1") is not None
        finally:
            await asyncio.to_thread(outage.__exit__, None, None, None)
        report_gpus(plane, "outage-1", [device(phase="Moving")])
        await seen(
            cluster,
            "the change made after the outage",
            lambda s: s.synced and (n := node_of(s, "outage-1")) and n.gpus[0].phase.value == "Moving",
        )


async def test_intent_is_written_by_compare_and_swap_and_read_back(plane: ControlPlane) -> None:
    await asyncio.to_thread(plane.add_fake_node, "cas-1")
    report_gpus(plane, "cas-1", [device()])
    async with connected_cluster(plane) as cluster:
        snapshot = await seen(cluster, "the node", lambda s: s.synced and node_of(s, "cas-1"))
        found = node_of(snapshot, "cas-1")
        assert found is not None
        fleet = fleet_of(cluster, 3)
        first = NodeIntent(WANTED, move("cas-1", Step.INTEND, 3, reason="VmWaiting", message="for jane"))
        revision = await fleet.write_intent(found.name, first, found.revision)
        with pytest.raises(Stale) as lost:
            await fleet.write_intent(found.name, NodeIntent((), None), found.revision)
        assert lost.value.reason is Reason.STALE_GENERATION
        snapshot = await seen(
            cluster, "our own write", lambda s: (n := node_of(s, "cas-1")) and n.revision == revision
        )
        written = node_of(snapshot, "cas-1")
        assert written is not None
        assert written.transition == first.transition
        assert (written.gpus[0].desired_mode, written.gpus[0].desired_plan_id) == (Mode.PASSTHROUGH, "ab12")
        assert not written.reported
        # The next step says less: nothing of the last one may stay behind.
        revision = await fleet.write_intent(
            found.name, NodeIntent(WANTED, move("cas-1", Step.FENCE, 3)), revision
        )
        stored = plane.api.get(f"{GPU_NODES}/cas-1")
        assert stored["spec"]["transition"].get("message", "") == ""
        assert stored["metadata"]["annotations"]["poolmgr.io/epoch"] == "3"
        await fleet.write_intent(found.name, NodeIntent(WANTED, None), revision)
        assert "transition" not in plane.api.get(f"{GPU_NODES}/cas-1")["spec"]


async def test_leader_of_the_past_cannot_write(plane: ControlPlane) -> None:
    await asyncio.to_thread(plane.add_fake_node, "past-1")
    report_gpus(plane, "past-1", [device()])
    async with connected_cluster(plane) as cluster:
        snapshot = await seen(cluster, "the node", lambda s: s.synced and node_of(s, "past-1"))
        found = node_of(snapshot, "past-1")
        assert found is not None
        intent = NodeIntent(WANTED, move("past-1", Step.INTEND, 5))
        revision = await fleet_of(cluster, 5).write_intent(found.name, intent, found.revision)
        older = NodeIntent(WANTED, move("past-1", Step.FENCE, 4))
        with pytest.raises(Stale) as refused:
            await fleet_of(cluster, 4).write_intent(found.name, older, revision)
        assert refused.value.reason is Reason.STALE_EPOCH
        with pytest.raises(Stale) as not_leading:
            await fleet_of(cluster, None).write_intent(found.name, intent, revision)
        assert not_leading.value.reason is Reason.NOT_LEADER
        await eventually("the epoch to be seen", lambda: (cluster.view.highest_epoch() or 0) >= 5)


async def test_second_manager_takes_over_at_once_when_the_first_stops(plane: ControlPlane) -> None:
    async with (
        connected_cluster(plane, identity="one") as one,
        connected_cluster(plane, identity="two") as two,
    ):
        led: list[int] = []

        async def lead(epoch: LeaseEpoch) -> None:
            led.append(epoch)
            await asyncio.Event().wait()

        first = asyncio.ensure_future(one.elector.run(lead))
        await eventually("the first to lead", lambda: one.elector.epoch)
        second = asyncio.ensure_future(two.elector.run(lead))
        await eventually("the second to see who leads", lambda: two.elector.holder.startswith("one_"))
        assert two.elector.epoch is None
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await eventually("the second to lead", lambda: two.elector.epoch, timeout_seconds=8)
        assert led == sorted(set(led))
        assert len(led) == 2
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        lease = plane.api.get("/apis/coordination.k8s.io/v1/namespaces/default/leases/poolmgr-test")
        assert lease["spec"]["leaseTransitions"] == led[-1]
        assert lease["spec"].get("holderIdentity", "") == ""


async def test_eviction_keeps_to_the_disruption_budget(plane: ControlPlane) -> None:
    await asyncio.to_thread(plane.add_fake_node, "evict-1")
    await asyncio.to_thread(plane.ensure_namespace, "evict")
    base = "/api/v1/namespaces/evict/pods"
    for name in ("kept", "free"):
        plane.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "evict", "labels": {"app": name}},
                "spec": {"nodeName": "evict-1", "containers": [{"name": "main", "image": "none"}]},
            }
        )
    plane.apply(
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "kept", "namespace": "evict"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "kept"}}},
        }
    )
    budget = "/apis/policy/v1/namespaces/evict/poddisruptionbudgets/kept"

    def settled() -> bool:
        pods = [plane.api.get(f"{base}/{name}")["status"]["phase"] for name in ("kept", "free")]
        return (
            pods == ["Running"] * 2 and plane.api.get(budget).get("status", {}).get("observedGeneration") == 1
        )

    await eventually("running pods under a budget", settled)
    uids = {name: plane.api.get(f"{base}/{name}")["metadata"]["uid"] for name in ("kept", "free")}
    async with connected_cluster(plane) as cluster:
        evictor = evictor_of(cluster)
        denied = await evictor.evict(WorkloadUid(uids["kept"]), "evict", "kept")
        assert (denied.ok, denied.reason) == (False, Reason.EVICTION_DENIED)
        assert "disruption budget" in denied.message
        namesake = await evictor.evict(WorkloadUid("another-uid"), "evict", "free")
        assert namesake.ok
        assert "deletionTimestamp" not in plane.api.get(f"{base}/free")["metadata"]
        assert await evictor.evict(WorkloadUid(uids["free"]), "evict", "free")
        await eventually("the evicted pod to go", lambda: not plane.api.exists(f"{base}/free"))
        again = await evictor.evict(WorkloadUid(uids["free"]), "evict", "free")
        assert again.ok
        assert "gone already" in again.message


async def test_events_show_in_kubectl_describe_and_equal_ones_count_up(plane: ControlPlane) -> None:
    await asyncio.to_thread(plane.add_fake_node, "event-1")
    report_gpus(plane, "event-1", [device()])
    async with connected_cluster(plane) as cluster:
        await seen(cluster, "the node", lambda s: s.synced and node_of(s, "event-1"))
        subject = Subject(SubjectKind.NODE, "", "event-1")
        for _ in range(3):
            await cluster.recorder.event(subject, Reason.STEP_TIMED_OUT, "Drain took too long", warning=True)
        for what in ("gpunode", "node"):
            described = await eventually(
                f"the Event on the {what}",
                lambda what=what: (
                    text if "x3 over" in (text := plane.kubectl("describe", what, "event-1")) else ""
                ),
            )
            assert "Drain took too long" in described
            assert "StepTimedOut" in described
        assert cluster.recorder.dropped == 0


async def test_pool_status_is_written_once_and_shown_by_kubectl(plane: ControlPlane) -> None:
    plane.apply(
        {"apiVersion": "poolmgr.io/v1alpha1", "kind": "GPUPool", "metadata": {"name": "told"}, "spec": {}}
    )
    status = PoolStatus(
        observed_generation=1,
        gpus=8,
        passthrough=3,
        passthrough_used=2,
        shared=5,
        shared_used=1,
        moving=1,
        trouble=0,
        waiting_vms=2,
        waiting_pods=4,
        reason=Reason.NO_CANDIDATE,
        message="2 VM(s) and 4 pod(s) wait",
    )
    async with connected_cluster(plane) as cluster:
        snapshot = await seen(
            cluster, "the pool", lambda s: s.synced and any(p.name == "told" for p in s.pools)
        )
        pool = next(p for p in snapshot.pools if p.name == "told")
        reporter = reporter_of(cluster)
        await reporter.report(pool, status)
        stored = plane.api.get(f"{GPU_POOLS}/told")
        assert (stored["status"]["waitingVMs"], stored["status"]["passthroughUsed"]) == (2, 2)
        (ready,) = stored["status"]["conditions"]
        assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "True", "NoCandidate")
        for _ in range(3):
            await reporter.report(pool, status)
            await asyncio.sleep(0.5)
        assert (
            plane.api.get(f"{GPU_POOLS}/told")["metadata"]["resourceVersion"]
            == stored["metadata"]["resourceVersion"]
        )
        assert "told" in plane.kubectl("get", "gpupools")


async def test_charts_rights_are_enough_to_see_lead_and_write(plane: ControlPlane) -> None:
    rights = await asyncio.to_thread(
        plane.helm,
        "template",
        "poolmgr",
        str(CHART),
        "-n",
        "poolmgr-system",
        "-s",
        "templates/serviceaccounts.yaml",
        "-s",
        "templates/manager-rbac.yaml",
    )
    await asyncio.to_thread(plane.ensure_namespace, "poolmgr-system")
    plane.apply(rights)
    await asyncio.to_thread(plane.add_fake_node, "rights-1")
    report_gpus(plane, "rights-1", [device()])
    account = plane.service_account_kubeconfig("poolmgr-system", "poolmgr-manager")
    async with connected_cluster(plane, kubeconfig=str(account), lease=LeaseSettings()) as cluster:
        leading = asyncio.ensure_future(cluster.elector.run(lambda _: asyncio.sleep(3600)))
        try:
            await eventually("the lease in the chart's namespace", lambda: cluster.elector.epoch)
            snapshot = await seen(cluster, "a synced view", lambda s: s.synced and node_of(s, "rights-1"))
            found = node_of(snapshot, "rights-1")
            assert found is not None
            await cluster.fleet.write_intent(found.name, NodeIntent(WANTED, None), found.revision)
            await cluster.sharing.ensure_cordoned(found.name, True)
            await cluster.sharing.ensure_cordoned(found.name, False)
            for on in (True, False):
                await cluster.sharing.ensure_best_effort_only(found.name, on)
                await seen(
                    cluster,
                    f"best_effort_only {on}",
                    lambda s, on=on: (n := node_of(s, "rights-1")) and n.best_effort_only is on,
                )
            await cluster.recorder.event(Subject(SubjectKind.NODE, "", "rights-1"), Reason.STEP_DONE, "told")
            gone = await cluster.evictor.evict(WorkloadUid("none"), "default", "none")
            assert gone.ok
            await eventually("the Event", lambda: "told" in plane.kubectl("describe", "gpunode", "rights-1"))
            assert cluster.recorder.dropped == 0
        finally:
            leading.cancel()
            await asyncio.gather(leading, return_exceptions=True)
