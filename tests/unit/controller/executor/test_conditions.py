"""Questions about one node: which GPUs have to move, which HAMi keeps, and when HAMi is quiet."""

from dataclasses import replace

import pytest

from poolmgr.controller.executor import conditions
from poolmgr.controller.executor.actions import AskScheduler, FenceGpus, Perform, Plugin, Wait
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.usage import User
from tests.builders import NOW, gpu, node, pod, sharing, snapshot, transition

G0, G1 = gpu(0), gpu(1)
MOVED = gpu(0, mode=Mode.PASSTHROUGH)
MOVE = transition(G0, G1)


def test_what_is_to_be_rebound_is_what_has_not_arrived_and_all_while_the_agent_has_not_said() -> None:
    assert conditions.to_rebind(node(MOVED, G1), MOVE) == (G1,)
    assert conditions.to_rebind(node(MOVED, G1, reported=False), MOVE) == (MOVED, G1)


def test_a_gpu_has_strayed_if_its_agent_says_so_and_it_is_no_broken_one() -> None:
    assert conditions.strayed(node(MOVED, G1), MOVE) == (G1,)
    assert conditions.strayed(node(MOVED, G1, reported=False), MOVE) == ()
    broken = replace(G1, phase=DevicePhase.QUARANTINED)
    assert conditions.strayed(node(MOVED, broken), MOVE) == ()


@pytest.mark.parametrize(
    "gone",
    [
        replace(G1, desired_mode=Mode.PASSTHROUGH),
        replace(G1, observed_mode=Mode.PASSTHROUGH),
        replace(G1, phase=DevicePhase.QUARANTINED),
        replace(G1, uuid=""),
    ],
    ids=["wanted elsewhere", "elsewhere", "quarantined", "without a UUID"],
)
def test_hami_keeps_the_gpus_that_are_shared_and_stay_so(gone) -> None:
    assert conditions.remaining_shared(node(G0, gone)) == (G0,)


def test_a_gpu_on_no_driver_hides_no_doubt_about_another() -> None:
    nowhere = replace(G0, observed_mode=None)
    unsure = replace(G1, rebind=Verdict(False, Reason.CANNOT_TELL, "NVML does not answer"))
    found = node(nowhere, unsure)
    said = conditions.cannot_tell(found, snapshot(found), (nowhere, unsure))
    assert said == "NVIDIA A10 0000:00:01.0 of n1: NVML does not answer"


def test_pods_are_those_with_a_slice_of_one_of_the_gpus() -> None:
    on_both = pod("both", on=G0, slices=(*pod(on=G0).slices, *pod(on=G1).slices))
    view = snapshot(node(G0, G1), pods=(pod("here", on=G0), pod("there", on=G1), on_both))
    assert [p.name for p in conditions.pods_on(view, (G0,))] == ["here", "both"]


def test_sentences_name_three_and_count_the_others() -> None:
    pods = [pod(str(n)) for n in range(4)]
    assert conditions.pod_names(pods[:3]) == "ml/0, ml/1, ml/2"
    assert conditions.pod_names(pods) == "ml/0, ml/1, ml/2 and 1 more"
    users = {G0: tuple(User(p.name) for p in pods), G1: (User("0"),)}
    assert conditions.user_names(users) == "0, 1, 2 and 1 more"
    assert conditions.names((G0, G1)) == "NVIDIA A10 0000:00:00.0, NVIDIA A10 0000:00:01.0"
    assert conditions.names(()) == "no GPU"


# -- letting go ---------------------------------------------------------------------------------------------


def detached(**over):
    n = node(G0, cordoned=True, sharing=sharing(G0, **over))
    return conditions.detach_sharing(n, snapshot(n))


def test_hami_is_quiet_fifteen_seconds_after_its_last_placement() -> None:
    assert isinstance(detached(last_placement_at=NOW - 14.9), Wait)
    quiet = detached(last_placement_at=NOW - 15)
    assert isinstance(quiet, Perform) and quiet.effects == (Plugin(False),)


def test_whom_hami_places_is_counted_or_named() -> None:
    assert "HAMi is placing 2 pod(s) on n1" in detached(allocating=2, locked_by="ml/p").message
    assert "HAMi is placing ml/p on n1" in detached(locked_by="ml/p").message


# -- coming back --------------------------------------------------------------------------------------------


def attached(**over):
    n = node(G0, sharing=sharing(G0, **over), transition=transition(G0, to=Mode.SHARED))
    return conditions.attach_sharing(n, snapshot(n), frozenset())


def test_hami_is_back_once_the_kubelet_has_its_slices() -> None:
    assert isinstance(attached(allocatable=0), Wait)
    assert attached() is None


@pytest.mark.parametrize(
    ("older", "seconds"), [(True, 16), (False, 45)], ids=["a tick before 2.10", "three rounds since"]
)
def test_the_scheduler_is_waited_for_so_long(older: bool, seconds: float) -> None:
    release = {"version": (2, 9)} if older else {"handshake": ""}
    assert isinstance(attached(asked_at=NOW - seconds + 0.1, **release), Wait)
    assert attached(asked_at=NOW - seconds, **release) is None


def attached_but_for_g1(**over):
    """G0 goes back to HAMi; of G1 nobody knows where it is."""
    n = node(G0, sharing=sharing(G0, **over), transition=transition(G0, to=Mode.SHARED))
    return conditions.attach_sharing(n, snapshot(n), frozenset(), unsure=frozenset({G1.uuid}))


def test_a_gpu_that_may_be_anywhere_stays_closed_when_the_others_open() -> None:
    found = attached_but_for_g1()
    assert isinstance(found, Perform)
    assert found.effects == (FenceGpus(frozenset({G1.uuid})), AskScheduler(MOVE.plan_id, NOW))
    assert attached_but_for_g1(closing=frozenset({G1.uuid})) is None
    assert attached_but_for_g1(version=(2, 9), asked_at=NOW - 16) is None  # it has no cordon of GPUs


@pytest.mark.parametrize("release", [(2, 8), (2, 10)], ids=["hami-2.8", "hami-2.10"])
def test_the_scheduler_is_asked_once_also_where_a_gpu_stays_closed(release: tuple[int, int]) -> None:
    """Whatever was written of it before: 2.8 has no cordon with which it would be asked, and on 2.10 the cordon may be written
    and the question refused."""
    closed = {"version": release, "closing": frozenset({G1.uuid} if release >= (2, 10) else ())}
    asking = attached_but_for_g1(asked_for="", **closed)
    assert isinstance(asking, Perform) and asking.effects == (AskScheduler(MOVE.plan_id, NOW),)
    of_before = attached_but_for_g1(asked_for="", opened_at=NOW - 1, **closed)
    assert of_before == asking, "opened at the end of an earlier move"
    assert isinstance(attached_but_for_g1(handshake="", **closed), Wait)
    assert attached_but_for_g1(asked_for="", opened_at=NOW, **closed) is None


def test_a_step_that_began_ahead_of_this_managers_clock_is_asked_for_once_all_the_same() -> None:
    begun = replace(MOVE, step_started_at=NOW + 30.7)
    asking = conditions.scheduler_look(node(G0, transition=begun), sharing(G0, asked_for=""), NOW)
    assert isinstance(asking, Perform) and asking.effects == (AskScheduler(MOVE.plan_id, NOW + 30.7),)
    closed = sharing(G0, asked_for="", opened_at=NOW + 30, closing=frozenset({G1.uuid}))
    opened = node(G0, transition=begun, sharing=closed)
    assert conditions.attach_sharing(opened, snapshot(opened), frozenset(), frozenset({G1.uuid})) is None


@pytest.mark.parametrize(
    "other",
    [replace(G1, uuid=""), replace(G1, observed_mode=Mode.PASSTHROUGH)],
    ids=["without a UUID", "on the side of VMs"],
)
def test_hami_lacks_a_gpu_only_where_that_is_on_its_driver_and_has_a_uuid(other) -> None:
    there = node(G0, G1, other, sharing=sharing(G0))
    assert conditions.unlisted(there, there.gpus) == (G1,)
    assert conditions.unlisted(replace(there, sharing=None), there.gpus) == ()


WITHDRAWN = replace(G1, closed=Verdict(False, Reason.GPU_QUARANTINED, "taken out of use by anna"))


@pytest.mark.parametrize(
    "other",
    [G1, replace(WITHDRAWN, uuid=""), replace(WITHDRAWN, observed_mode=Mode.PASSTHROUGH)],
    ids=["open", "without a UUID", "on the side of VMs"],
)
def test_hami_is_told_of_withdrawn_gpus_that_it_has(other) -> None:
    assert conditions.withdrawn(node(G0, WITHDRAWN)) == {G1.uuid}
    assert conditions.withdrawn(node(G0, other)) == frozenset()


def test_at_rest_hamis_cordon_has_what_an_operator_withdraws_and_nothing_else_of_ours() -> None:
    closing = conditions.fence_at_rest(node(G0, WITHDRAWN))
    assert closing == Perform(
        (FenceGpus(frozenset({G1.uuid})),),
        Reason.GPU_QUARANTINED,
        f"{conditions.names([G1])} on n1: closed to new pods, as an operator asked",
    )
    fenced = sharing(G0, G1, closing=frozenset({G1.uuid}))
    assert conditions.fence_at_rest(node(G0, WITHDRAWN, sharing=fenced)) is None
    assert conditions.fence_at_rest(node(G0, G1, sharing=fenced)) == Perform(
        (FenceGpus(frozenset()),), Reason.STEP_DONE, f"{conditions.names([G1])} on n1: open to new pods again"
    )


def test_no_cordon_of_gpus_is_written_where_hami_has_none() -> None:
    assert conditions.fence_at_rest(node(G0, WITHDRAWN, sharing=None)) is None
    old = sharing(G0, G1, version=(2, 9))
    assert conditions.fence_at_rest(node(G0, WITHDRAWN, sharing=old)) is None
    newer = sharing(G0, G1, version=(2, 11))
    assert conditions.fence_at_rest(node(G0, WITHDRAWN, sharing=newer)) is not None


# -- closing and opening a whole node -----------------------------------------------------------------------


def test_hami_gives_out_what_is_shared_and_what_it_has_registered() -> None:
    nameless, taken = replace(gpu(2), uuid=""), replace(G1, observed_mode=Mode.PASSTHROUGH)
    assert conditions.given_out(node(G0, nameless, taken, sharing=sharing(G0))) == {G0.uuid}
    assert conditions.given_out(node(G0, taken, sharing=sharing(G0, G1))) == {G0.uuid, G1.uuid}
    assert conditions.given_out(node(G0, sharing=None)) == {G0.uuid}


def test_all_gpus_are_closed_where_hami_can_and_the_node_is_open() -> None:
    closing = conditions.close_all(node(G0, G1))
    assert isinstance(closing, Perform) and closing.effects == (FenceGpus(frozenset({G0.uuid, G1.uuid})),)
    assert conditions.close_all(node(G0, G1, cordoned=True)) is None
    assert conditions.close_all(node(G0, G1, sharing=None)) is None
    assert conditions.close_all(node(G0, G1, sharing=sharing(G0, G1, version=(2, 9)))) is None


def test_nothing_is_reopened_where_hami_is_away() -> None:
    assert conditions.reopened_but_for(node(G0, sharing=None), ()) is None
    away = sharing(G0, closing=frozenset({G0.uuid}), plugin_wanted=False)
    assert conditions.reopened_but_for(node(G0, sharing=away), ()) is None


NOTHING_LEFT = {"plugin_wanted": False, "plugin_pods": 0, "allocatable": 0, "registered": ()}


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        ({"plugin_pods": 1}, Reason.PLUGIN_STILL_RUNNING),
        ({"allocatable": 10}, Reason.PLUGIN_STILL_RUNNING),
        ({"plugin_wanted": True}, Reason.STEP_STARTED),
    ],
    ids=["a pod of the plugin", "slices at the kubelet", "the plugin's label"],
)
def test_an_older_scheduler_that_forgot_the_node_does_not_mean_that_all_is_gone(left, reason) -> None:
    of_before = {"version": (2, 9), "handshake": "Deleted_2026-11-22 10:00:00"}
    found = detached(**of_before, **{**NOTHING_LEFT, **left})
    assert found is not None and found.reason is reason
    assert detached(**of_before, **NOTHING_LEFT) is None
