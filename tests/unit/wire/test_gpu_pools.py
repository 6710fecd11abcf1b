"""GPUPool to the domain."""

from typing import Any

import msgspec
import pytest

from poolmgr.domain.fleet import (
    EvictionRule,
    Granularity,
    IdleVmAction,
    Pool,
    Quota,
    RebalanceMode,
    SideLimits,
)
from poolmgr.wire.gpu_pools import GpuPool, pool_from


def read(**spec: Any) -> Pool:
    meta = {"name": "p", "generation": 3, "creationTimestamp": "2026-11-22T10:00:00Z"}
    return pool_from(msgspec.convert({"metadata": meta, "spec": spec}, GpuPool))


def test_absent_fields_are_the_crds_defaults() -> None:
    assert read() == Pool(name=read().name, generation=3, created_at=1_795_341_600.0)


def test_every_field_is_read() -> None:
    found = read(
        models=["NVIDIA A10"],
        nodeSelector={"matchLabels": {"zone": "b", "rack": "1"}},
        passthrough={"min": 1, "max": 4, "headroom": 2},
        shared={"max": 8},
        rebalance={
            "mode": "Recommend",
            "granularity": "Node",
            "cooldownSeconds": 5,
            "maxInFlight": 7,
            "eviction": "BestEffort",
            "drainTimeoutSeconds": 60,
        },
        idleVM={"action": "Notify", "idleAfterSeconds": 1, "noticeSeconds": 2},
        quotas=[{"namespace": "ml", "maxGPUs": 2, "weight": 3}, {"namespace": "cad"}],
    )
    assert found.node_labels == (("rack", "1"), ("zone", "b"))
    assert (found.passthrough, found.shared) == (SideLimits(1, 4, 2), SideLimits(max=8))
    assert (found.rebalance, found.granularity) == (RebalanceMode.RECOMMEND, Granularity.NODE)
    assert (found.cooldown_seconds, found.max_in_flight, found.drain_timeout_seconds) == (5, 7, 60)
    assert (found.eviction, found.idle_vm.action) == (EvictionRule.BEST_EFFORT, IdleVmAction.NOTIFY)
    assert found.quotas == (Quota("ml", 2.0, 3.0), Quota("cad"))


@pytest.mark.parametrize(
    ("spec", "least"),
    [
        ({"rebalance": {"mode": "Scheduled"}}, ("rebalance", RebalanceMode.OFF)),
        ({"rebalance": {"granularity": "Rack"}}, ("rebalance", RebalanceMode.OFF)),
        ({"rebalance": {"eviction": "Anybody"}}, ("eviction", EvictionRule.NEVER)),
    ],
)
def test_value_of_a_newer_release_is_the_choice_that_does_least(spec: Any, least: tuple[str, object]) -> None:
    assert getattr(read(**spec), least[0]) is least[1]
    assert read(idleVM={"action": "Migrate"}).idle_vm.action is IdleVmAction.IGNORE


@pytest.mark.parametrize(("field", "word"), [("mode", "Scheduled"), ("granularity", "Rack")])
def test_a_pool_that_moves_nothing_because_of_a_newer_word_says_so(field: str, word: str) -> None:
    found = read(rebalance={field: word})
    assert found.complaint == (
        f"rebalance.{field} is '{word}', which this release does not know: no GPU of this pool moves until poolmgr is updated"
    )
    assert found.off_text == f"rebalancing of pool p is Off: {found.complaint}"
    assert read(rebalance={"mode": "Off", "granularity": "Node"}).complaint == ""
