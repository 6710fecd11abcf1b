"""What one action does to the cluster, and that nothing is done without the lease."""

from dataclasses import dataclass, field

import pytest

from poolmgr.controller.executor.actions import (
    Advance,
    AskScheduler,
    Cordon,
    Evict,
    FenceGpus,
    Finish,
    HoldUpgrades,
    Park,
    PauseServices,
    Perform,
    Plugin,
    ResumeServices,
    Rollback,
    Shrink,
    Unregister,
    Wait,
)
from poolmgr.controller.executor.execute import Executor, Outcome
from poolmgr.domain.errors import Stale
from poolmgr.domain.identifiers import GpuUuid, LeaseEpoch, NodeName, PlanId, WorkloadUid
from poolmgr.domain.modes import Step
from poolmgr.domain.node_spec import NodeIntent
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from tests.builders import NOW, gpu, node, transition

G0 = gpu(0)
NODE = node(G0, transition=transition(G0))


@dataclass
class Cluster:
    """Notes every call; the lease is lost after `held_for` of them."""

    held_for: int = 99
    calls: list[str] = field(default_factory=list)
    denied: frozenset[str] = frozenset()
    written: list[NodeIntent] = field(default_factory=list)

    @property
    def epoch(self) -> LeaseEpoch | None:
        return LeaseEpoch(1) if len(self.calls) < self.held_for else None

    not_leading_message = "the lease is lost"

    async def ensure_gpus_fenced(self, node: NodeName, uuids: frozenset[GpuUuid]) -> None:
        self.calls.append("fence")

    async def ensure_cordoned(self, node: NodeName, cordoned: bool) -> None:
        self.calls.append("cordon")

    async def ensure_unregistered(self, node: NodeName) -> None:
        self.calls.append("unregister")

    async def ensure_plugin(self, node: NodeName, wanted: bool) -> None:
        self.calls.append(f"plugin {wanted}")

    async def ensure_scheduler_asked(self, node: NodeName, plan: PlanId, at: float) -> None:
        self.calls.append(f"ask for {plan}")

    async def ensure_paused(self, node: NodeName, labels: frozenset[str]) -> None:
        self.calls.append(f"pause {sorted(labels)}")

    async def ensure_resumed(self, node: NodeName, labels: frozenset[str]) -> None:
        self.calls.append(f"resume {sorted(labels)}")

    async def ensure_upgrades_held(self, node: NodeName, held: bool) -> None:
        self.calls.append(f"upgrades held {held}")

    async def write_intent(self, node: NodeName, intent: NodeIntent, revision: str) -> None:
        self.calls.append(f"write {revision}")
        self.written.append(intent)

    async def evict(self, pod: WorkloadUid, namespace: str, name: str) -> Verdict:
        self.calls.append(f"evict {name}")
        return Verdict(
            name not in self.denied, Reason.EVICTED if name not in self.denied else Reason.EVICTION_DENIED
        )


def performed(*effects) -> Perform:
    return Perform(effects, Reason.STEP_STARTED, "for a test")


def executor(cluster: Cluster) -> Executor:
    return Executor(cluster, cluster, cluster, cluster, cluster)  # type: ignore[arg-type]


THREE = performed(FenceGpus(frozenset()), Cordon(True), Unregister())


async def test_effects_are_brought_about_in_their_order() -> None:
    cluster = Cluster()
    outcome = await executor(cluster).carry_out(NODE, THREE, NOW)
    assert cluster.calls == ["fence", "cordon", "unregister"]
    assert outcome == Outcome(Reason.STEP_STARTED, "for a test", changed=True, action=THREE)
    assert (outcome.wrote_intent, outcome.finished) == (False, False)


async def test_every_effect_is_brought_about() -> None:
    cluster = Cluster()
    label = frozenset({"a"})
    others = (Plugin(False), AskScheduler(PlanId("plan1"), NOW), PauseServices(label), ResumeServices(label))
    await executor(cluster).carry_out(NODE, performed(*others, HoldUpgrades(True)), NOW)
    assert cluster.calls == [
        "plugin False",
        "ask for plan1",
        "pause ['a']",
        "resume ['a']",
        "upgrades held True",
    ]


@pytest.mark.parametrize("held_for", [0, 1, 2])
async def test_once_the_lease_is_lost_no_further_effect_is_brought_about(held_for: int) -> None:
    cluster = Cluster(held_for)
    with pytest.raises(Stale):
        await executor(cluster).carry_out(NODE, THREE, NOW)
    assert len(cluster.calls) == held_for


async def test_a_budget_that_says_no_is_the_outcome_and_keeps_no_other_pod() -> None:
    cluster = Cluster(denied=frozenset({"first"}))
    evictions = performed(Evict(WorkloadUid("1"), "ml", "first"), Evict(WorkloadUid("2"), "ml", "second"))
    outcome = await executor(cluster).carry_out(NODE, evictions, NOW)
    assert cluster.calls == ["evict first", "evict second"]
    assert (outcome.reason, outcome.changed) == (Reason.EVICTION_DENIED, True)
    nobody = Cluster(denied=frozenset({"first", "second"}))
    outcome = await executor(nobody).carry_out(NODE, evictions, NOW)
    assert (outcome.reason, outcome.changed) == (Reason.EVICTION_DENIED, False)


# -- what is written into the node's spec -------------------------------------------------------------------


async def test_waiting_changes_nothing() -> None:
    cluster = Cluster()
    outcome = await executor(cluster).carry_out(NODE, Wait(Reason.DRAIN_WAITING, "for ml/p"), NOW)
    assert cluster.calls == []
    assert outcome == Outcome(Reason.DRAIN_WAITING, "for ml/p", changed=False)


async def test_each_step_is_written_over_the_revision_that_was_seen() -> None:
    cluster = Cluster()
    step = Advance(Step.DRAIN, Reason.STEP_DONE, "closed")
    outcome = await executor(cluster).carry_out(NODE, step, NOW)
    assert outcome == Outcome(Reason.STEP_DONE, "closed", changed=True, wrote_intent=True, action=step)
    assert cluster.calls == ["write 1"]
    (written,) = cluster.written
    assert written.transition is not None and written.transition.step is Step.DRAIN


async def test_a_move_is_undone_with_the_reason_and_says_so() -> None:
    cluster = Cluster()
    outcome = await executor(cluster).carry_out(NODE, Rollback(Reason.STEP_TIMED_OUT, "took too long"), NOW)
    assert outcome.message.startswith("took too long; undoing the move; n1 is not moved before ")
    (written,) = cluster.written
    assert written.transition is not None and written.transition.rollback


async def test_a_move_is_parked_at_attach_and_its_node_rests() -> None:
    cluster = Cluster()
    outcome = await executor(cluster).carry_out(NODE, Park(Reason.MOVE_PARKED, "its agent is silent"), NOW)
    assert outcome.wrote_intent
    assert outcome.message.startswith("its agent is silent; n1 is not moved before ")
    (written,) = cluster.written
    assert written.transition is not None and written.transition.step is Step.ATTACH
    assert [rest.reason for rest in written.backoffs] == [Reason.MOVE_PARKED]


async def test_of_a_move_the_gpus_that_are_left_are_written_and_at_its_end_none() -> None:
    cluster = Cluster()
    both = node(G0, gpu(1), transition=transition(G0, gpu(1)))
    await executor(cluster).carry_out(both, Shrink((G0.pci_address,), Reason.STEP_DONE, "one is empty"), NOW)
    ended = await executor(cluster).carry_out(both, Finish(Reason.MOVE_COMPLETED, "it is there"), NOW)
    assert ended.finished and ended.wrote_intent
    shrunk, end = cluster.written
    assert shrunk.transition is not None and shrunk.transition.devices == (G0.pci_address,)
    assert end.transition is None


@pytest.mark.parametrize("late", [True, False])
async def test_what_a_move_lets_go_rests_only_if_it_was_late(late: bool) -> None:
    cluster = Cluster()
    both = node(G0, gpu(1), transition=transition(G0, gpu(1)))
    reason = Reason.STEP_TIMED_OUT if late else Reason.STEP_DONE
    outcome = await executor(cluster).carry_out(
        both, Shrink((G0.pci_address,), reason, "one is left out"), NOW
    )
    assert bool(cluster.written[0].backoffs) is late
    assert ("is not moved before " in outcome.message) is late
    assert outcome.refused == 0


async def test_a_move_of_an_earlier_leader_is_taken_over_under_the_own_epoch() -> None:
    cluster = Cluster()
    theirs = node(G0, transition=transition(G0, epoch=LeaseEpoch(0)))
    outcome = await executor(cluster).take_over(theirs)
    assert (outcome.changed, outcome.wrote_intent) == (True, True)
    (written,) = cluster.written
    assert written.transition is not None and written.transition.epoch == 1


async def test_nothing_is_written_without_the_lease() -> None:
    cluster = Cluster(held_for=0)
    intent = NodeIntent(NODE.name, (), None)
    with pytest.raises(Stale):
        await executor(cluster).write(NODE, intent)
    assert cluster.written == [] and executor(Cluster()).epoch() == 1
