"""A pool's status: numbers that agree with the census, and the most urgent sentence."""

from dataclasses import replace

import pytest

from poolmgr.controller.status import pool_statuses
from poolmgr.domain.census import take_census
from poolmgr.domain.identifiers import PlanId, PoolName
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.plan import Plan, QuotaUse, Refusal, Subject, SubjectKind
from poolmgr.domain.reasons import Reason
from tests.builders import NOW, gpu, node, pod, pool, sharing, snapshot, transition, vm

G0, G1 = gpu(0), gpu(1)
VFIO = gpu(2, mode=Mode.PASSTHROUGH)
POOL = PoolName("a10")


def status(snap, name="a10", plan=None):
    return pool_statuses(take_census(snap), plan)[name]


def test_counts_both_sides_and_what_is_used() -> None:
    snap = snapshot(node(G0, G1, VFIO), pods=(pod(on=G0),), vms=(vm(on=(VFIO,)),))
    said = status(snap)
    assert (said.gpus, said.shared, said.shared_used) == (3, 2, 1)
    assert (said.passthrough, said.passthrough_used) == (1, 1)
    assert said.reason is Reason.IN_PLACE


@pytest.mark.parametrize(
    ("snap", "reason", "words"),
    [
        (snapshot(), Reason.NOT_IN_POOL, "no GPU"),
        (
            snapshot(node(G0), vms=(vm(),), pools=(pool(complaint="rebalance.mode is 'Scheduled'"),)),
            Reason.INVALID_REQUEST,
            "Scheduled",
        ),
        (
            snapshot(node(replace(G0, phase=DevicePhase.QUARANTINED, message="unbind hangs"), G1)),
            Reason.GPU_UNHEALTHY,
            "unbind hangs",
        ),
        (snapshot(node(G0, G1, transition=transition(G0))), Reason.GPU_MOVING, "1 GPU(s)"),
        (snapshot(node(G0), vms=(vm(),)), Reason.NO_CANDIDATE, "1 VM(s)"),
    ],
)
def test_says_the_most_urgent_thing(snap, reason, words) -> None:
    said = status(snap)
    assert said.reason is reason
    assert words in said.message


def test_repeats_why_the_first_of_those_who_wait_does() -> None:
    refusal = Refusal(Subject(SubjectKind.VM, "desktops", "vm1"), Reason.GPU_BUSY, "in use by pod ml/p1")
    plan = Plan(PlanId("p"), 1, NOW, refusals=(refusal,))
    said = status(snapshot(node(G0), vms=(vm(),), pods=(pod(on=G0),)), plan=plan)
    assert said.reason is Reason.GPU_BUSY
    assert "desktops/vm1: in use by pod ml/p1" in said.message


def test_the_younger_of_two_pools_is_told_that_it_gets_nothing() -> None:
    older, younger = pool(created_at=1.0), pool("late", created_at=2.0)
    said = status(snapshot(node(G0, G1), pools=(older, younger)), name="late")
    assert said.reason is Reason.POOL_OVERLAP
    assert "older pool a10" in said.message


def test_shows_what_counts_against_each_quota_of_the_pool() -> None:
    use = QuotaUse(POOL, "ml", 2.0, 1.0, used=1.5, waiting=0.5)
    plan = Plan(PlanId("p"), 1, NOW, quota_uses=(use, replace(use, pool=PoolName("other"))))
    assert status(snapshot(node(G0)), plan=plan).quotas == (use,)
    assert status(snapshot(node(G0))).quotas == ()


def test_names_what_machines_ask_for_to_get_a_gpu_of_the_pool() -> None:
    other = gpu(3, resource_name="nvidia.com/T4", pool=PoolName("t4"))
    assert status(snapshot(node(G0, G1), node(other, name="n2"))).resource_names == (G0.resource_name,)


def test_a_gpu_that_hami_does_not_list_needs_attention() -> None:
    missing, listed = gpu(0), gpu(1)
    said = status(snapshot(node(missing, listed, sharing=sharing(listed))))
    assert (said.shared, said.trouble, said.reason) == (1, 1, Reason.GPU_UNHEALTHY)
    assert said.message.startswith(
        "1 GPU(s) need attention; first 0000:00:00.0 on n1: HAMi does not list it, so no pod can get a slice of it"
    )
