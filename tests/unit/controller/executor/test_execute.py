"""What one action does to the cluster, and that nothing is done without the lease."""

from dataclasses import dataclass, field

import pytest

from poolmgr.controller.executor.actions import Cordon, Evict, FenceGpus, Perform, Unregister
from poolmgr.controller.executor.execute import Executor
from poolmgr.domain.errors import Stale
from poolmgr.domain.identifiers import GpuUuid, LeaseEpoch, NodeName, WorkloadUid
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

    async def evict(self, pod: WorkloadUid, namespace: str, name: str) -> Verdict:
        self.calls.append(f"evict {name}")
        return Verdict(
            name not in self.denied, Reason.EVICTED if name not in self.denied else Reason.EVICTION_DENIED
        )


def performed(*effects) -> Perform:
    return Perform(effects, Reason.STEP_STARTED, "for a test")


def executor(cluster: Cluster) -> Executor:
    return Executor(cluster, cluster, cluster, cluster)  # type: ignore[arg-type]


THREE = performed(FenceGpus(frozenset()), Cordon(True), Unregister())


async def test_effects_are_brought_about_in_their_order() -> None:
    cluster = Cluster()
    outcome = await executor(cluster).carry_out(NODE, THREE, NOW)
    assert cluster.calls == ["fence", "cordon", "unregister"]
    assert (outcome.changed, outcome.wrote_intent) == (True, False)


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
