"""Census, planner and guard tell one story about every GPU."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from poolmgr.controller import guard
from poolmgr.domain.backoff import WHOLE_NODE, Backoff
from poolmgr.domain.census import GpuUse, take_census
from poolmgr.domain.demand import SharedPod, Vm
from poolmgr.domain.denials import gpu_denial
from poolmgr.domain.fleet import REBINDABLE, Gpu, Holder, Node, Pool, RebalanceMode
from poolmgr.domain.identifiers import GpuUuid, NodeName, PoolName, WorkloadUid
from poolmgr.domain.liveness import AgentSign
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.neighbours import Neighbours
from poolmgr.domain.plan import Move, Plan, SubjectKind, Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.sharing import SharingState
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.domain.usage import GpuState, in_use, moves_by_itself, unlisted, users_of
from poolmgr.planner.inventory.usage import usage_of
from poolmgr.planner.plan import PoolPlanner
from tests.unit.planner.builders import A10, NOW, gpu, moving, node, pod, pool, snapshot, vm

XORG = Holder(4242, "Xorg", path="/dev/nvidia0")
DAEMON = Holder(300, "nvidia-device-p", "plugin", "/dev/nvidia0")

NO_EVIDENCE = Verdict(False, Reason.CANNOT_TELL, "its UUID is not known")
TROUBLED: list[dict[str, Any]] = [
    {"agent": AgentSign(heard=False, silent=True)},
    {"ready": False},
    {"reported": False},
    {"reported": False, "complaint": "says 'Leased'"},
    {"neighbours": Neighbours(Verdict(False, Reason.GPUS_OF_OTHERS, "the GPU operator has them"))},
    {"cordoned": True},
    {"backoffs": (Backoff(WHOLE_NODE, "BindFailed", "it failed", 1, NOW - 60, NOW + 60),)},
]


@st.composite
def fleets(draw: st.DrawFn) -> ClusterSnapshot:
    """Up to four nodes; each GPU with any of the witnesses of its use, alone and together. Some pods with a slice of it are
    bound to another node, and some of its UUIDs another node reports as well.

    Left out is what makes one GPU speak for another: bundles, and VMs whose GPU no agent has reported yet.
    """
    nodes, vms, pods = [], [], []
    for n in range(draw(st.integers(1, 4))):
        name, cards = f"n{n}", []
        for g in range(draw(st.integers(1, 4))):
            mode = draw(st.sampled_from(list(Mode)))
            holders: list[Holder] = draw(st.sampled_from([[], [], [DAEMON], [XORG]]))
            if draw(st.sampled_from([False, False, True])):
                there = pod(f"r{n}{g}", (name, g), best_effort=draw(st.booleans()), evictable=True)
                bound_to = draw(st.sampled_from([name, name, None, "n0", "elsewhere"]))
                pods.append(replace(there, node=NodeName(bound_to) if bound_to is not None else None))
                holders = [*holders, *draw(st.sampled_from([[], [Holder(5, "python", there.uid)]]))]
            if draw(st.sampled_from([False, False, False, True])):
                vms.append(vm(f"r{n}{g}", on=(name, g)))
            cards.append(
                gpu(
                    name,
                    g,
                    mode,
                    uuid=GpuUuid(f"GPU-{draw(st.sampled_from([name] * 5 + ['n0']))}-{g}"),
                    desired_mode=draw(st.sampled_from([mode] * 5 + [mode.other, None])),
                    iommu_group=draw(st.sampled_from([g] * 6 + [0, None])),
                    rebind=draw(st.sampled_from([REBINDABLE] * 7 + [NO_EVIDENCE])),
                    pool=draw(st.sampled_from([PoolName("p")] * 7 + [None])),
                    phase=draw(st.sampled_from([DevicePhase.READY] * 6 + list(DevicePhase))),
                    holders=tuple(holders),
                    allocated_to=draw(st.sampled_from(["", "", "", "", "a-launcher"])),
                )
            )
        move = draw(st.sampled_from([None, None, None, moving(name, 0)]))
        about = draw(st.sampled_from([{}] * 6 + TROUBLED))
        nodes.append(node(name, "", gpus=tuple(cards), transition=move, **about))
    vms += [vm(f"w{n}") for n in range(draw(st.integers(0, 3)))]
    pods += [pod(f"w{n}", cores=100) for n in range(draw(st.integers(0, 3)))]
    rebalance = draw(st.sampled_from([RebalanceMode.AUTOMATIC] * 4 + [RebalanceMode.OFF]))
    pools = (pool(max_in_flight=16, rebalance=rebalance),)
    return snapshot(*nodes, vms=tuple(vms), pods=tuple(pods), pools=pools)


def reasons_of(plan: Plan) -> dict[tuple[str, str], Reason]:
    return {
        (r.subject.namespace, r.subject.name): r.reason
        for r in plan.refusals
        if r.subject.kind is SubjectKind.GPU
    }


def guarded(card: Gpu, view: ClusterSnapshot) -> Reason | None:
    """What the guard says of a plan that moves this GPU and names nobody who leaves."""
    assert card.observed_mode is not None
    move = Move(
        card.node,
        card.pci_address,
        card.uuid,
        PoolName("p"),
        A10,
        card.observed_mode.other,
        Reason.VM_WAITING,
        "-",
    )
    _, refused = guard.validate((move,), view)
    return refused[0].reason if refused else None


@given(fleets())
def test_no_gpu_is_idle_in_one_and_busy_in_another(view: ClusterSnapshot) -> None:
    plan = PoolPlanner().decide(view, None).plan
    reported, moved = reasons_of(plan), {(m.node, m.pci_address): m for m in plan.moves}
    nodes, [limits] = {one.name: one for one in view.nodes}, view.pools
    for use in take_census(view).uses:
        key = (use.gpu.node, use.gpu.pci_address)
        by_planner, by_guard = reported.get(key), guarded(use.gpu, view)
        in_pool = limits if use.gpu.pool is not None else None
        if denial := gpu_denial(use.gpu, nodes[use.gpu.node], in_pool, view.taken_at):
            assert by_planner is by_guard is denial[0]
            continue
        if use.state is GpuState.IDLE:
            assert by_planner is not Reason.GPU_BUSY
            assert by_guard is not Reason.GPU_BUSY
        if use.state is GpuState.IN_USE:
            assert by_planner in (Reason.GPU_BUSY, None)
            assert by_guard is Reason.GPU_BUSY
        if by_planner is Reason.GPU_BUSY or by_guard is Reason.GPU_BUSY:
            assert use.state is GpuState.IN_USE
        if move := moved.get(key):
            assert everybody_is_named(use, move)
            assert guard.validate((move,), view)[0] == (move,)


def everybody_is_named(use: GpuUse, move: Move) -> bool:
    return {user.pod for user in use.users} <= {*move.evict, *move.wait_for}


@given(fleets())
def test_who_uses_a_gpu_is_known_by_name_or_it_is_not_in_use(view: ClusterSnapshot) -> None:
    for use in take_census(view).uses:
        assert bool(use.users) == in_use(use.gpu, use.pods, use.vm)
        assert (use.state is GpuState.IN_USE) <= bool(use.users)


@given(fleets())
def test_who_is_on_a_gpu_and_what_they_take_of_it_is_the_same_for_census_and_planner(
    view: ClusterSnapshot,
) -> None:
    usage = usage_of(view)
    for use in take_census(view).uses:
        assert tuple(usage.pods_on(use.gpu)) == use.pods
        taken = [part for pod in use.pods for part in pod.slices if part.uuid == use.gpu.uuid]
        assert usage.load_on(use.gpu)[2] == sum(part.slots for part in taken)


def one_use(card: Gpu, *pods: SharedPod, vms: tuple[Vm, ...] = ()) -> GpuUse:
    view = snapshot(node("a", "", gpus=(card,)), vms=vms, pods=pods)
    [use] = take_census(view).uses
    return use


def test_gpu_that_a_process_of_the_host_has_open_is_in_use_on_either_side() -> None:
    for mode in Mode:
        use = one_use(gpu("a", 0, mode, holders=(XORG,)))
        assert (use.state, [user.name for user in use.users]) == (
            GpuState.IN_USE,
            ["process Xorg (pid 4242)"],
        )


def test_hamis_own_daemons_use_no_shared_gpu_but_any_process_uses_one_in_passthrough() -> None:
    assert one_use(gpu("a", 0, holders=(DAEMON,))).state is GpuState.IDLE
    assert one_use(gpu("a", 0, Mode.PASSTHROUGH, holders=(DAEMON,))).state is GpuState.IN_USE


def test_a_process_speaks_for_itself_only_where_no_workload_accounts_for_it() -> None:
    there = pod("x", ("a", 0))
    own = Holder(5, "python", there.uid)
    assert users_of(gpu("a", 0, holders=(own,)), (there,), None) == (("pod notebooks/x", there.uid),)
    both = users_of(gpu("a", 0, holders=(own, XORG)), (there,), None)
    assert [user.pod for user in both] == [there.uid, WorkloadUid("")]


def test_gpu_whose_process_no_pod_accounts_for_is_not_waited_for() -> None:
    crowd = tuple(gpu("a", n, holders=(XORG,)) for n in range(2))
    pods = tuple(pod(f"x{n}", ("a", n), best_effort=True, evictable=True, started_at=0.0) for n in range(2))
    view = snapshot(node("a", "", gpus=crowd), vms=(vm("v"),), pods=pods)
    plan = PoolPlanner().decide(view, None).plan
    assert plan.empty
    assert set(reasons_of(plan).values()) == {Reason.GPU_BUSY}


def test_gpu_on_the_wrong_side_after_a_reboot_is_moving_and_not_idle() -> None:
    assert one_use(gpu("a", 0, desired_mode=Mode.PASSTHROUGH)).state is GpuState.MOVING


def test_only_automatic_pools_move_by_themselves() -> None:
    pools = tuple(Pool(PoolName(mode.value), rebalance=mode) for mode in RebalanceMode)
    assert [pool.name for pool in pools if moves_by_itself(pool)] == ["Automatic"]


MISSING = gpu("n1", 0)
EMPTY = SharingState((2, 10), True, 1, True, 0, ())
NEIGHBOUR = gpu("n1", 1)


def beside(found: Gpu = MISSING, **overrides: Any) -> Node:
    """A node of two shared GPUs, of which HAMi lists the other one."""
    listed = node("n1", "", gpus=(NEIGHBOUR,)).sharing
    assert listed is not None
    over = {
        key: overrides.pop(key) for key in ("plugin_wanted", "plugin_ready", "registered") if key in overrides
    }
    return node("n1", "", gpus=(found, NEIGHBOUR), sharing=replace(listed, **over), **overrides)


def test_a_gpu_that_hami_does_not_list_is_no_capacity_and_says_what_to_do() -> None:
    found = beside()
    census = take_census(snapshot(found))
    states = [use.state for use in census.uses]
    assert states == [GpuState.TROUBLE, GpuState.IDLE]
    count = census.pool(PoolName("p"))
    assert (count.shared, count.trouble) == (1, 1)
    (use,) = census.trouble
    assert use.trouble[0] == Reason.NOT_LISTED
    assert use.trouble[1].startswith(
        "HAMi does not list it, so no pod can get a slice of it; see the log of HAMi's device plugin on n1"
    )
    assert use.trouble[1].endswith("then delete its pod: it looks for GPUs when it starts")
    off = unlisted(MISSING, beside(plugin_wanted=False))
    assert off is not None and "give the node the label that the plugin's DaemonSet selects" in off.message
    assert found.sharing is not None
    ill = tuple(replace(found.sharing.registered[0], uuid=g.uuid, healthy=False) for g in found.gpus)
    said = unlisted(MISSING, beside(registered=ill))
    assert said is not None and said.message.startswith("HAMi lists it as unhealthy, so no pod")


def test_only_a_gpu_that_is_to_be_hamis_and_that_no_move_keeps_from_it_is_missing_there() -> None:
    with_pod = snapshot(beside(), pods=(pod("x", ("n1", 0)),))
    assert [use.state for use in take_census(with_pod).uses] == [GpuState.IN_USE, GpuState.IDLE]
    others = [
        beside(replace(MISSING, observed_mode=Mode.PASSTHROUGH, desired_mode=Mode.PASSTHROUGH)),
        beside(replace(MISSING, desired_mode=Mode.PASSTHROUGH)),
        beside(replace(MISSING, phase=DevicePhase.QUARANTINED)),
        beside(replace(MISSING, uuid=GpuUuid(""))),
        beside(transition=moving("n1", 1)),
        replace(beside(), sharing=None),
    ]
    assert [unlisted(found.gpus[0], found) for found in others] == [None] * len(others)
    withdrawn = replace(MISSING, closed=Verdict(False, Reason.GPU_QUARANTINED, "taken out of use by anna"))
    assert next(take_census(snapshot(beside(withdrawn))).uses).state is GpuState.WITHDRAWN


def test_a_parked_move_that_has_given_hami_back_hides_no_gpu_that_is_missing_there() -> None:
    move = replace(moving("n1", 1), step=Step.ATTACH, step_started_at=NOW - 60)
    rest = Backoff(WHOLE_NODE, Reason.MOVE_PARKED, "-", 1, NOW - 60, NOW + 60)
    parked = beside(transition=move, backoffs=(rest,))
    assert unlisted(MISSING, parked) is not None
    assert unlisted(MISSING, beside(transition=move, backoffs=(rest,), plugin_ready=False)) is None


def test_pods_are_not_left_to_wait_for_a_gpu_that_hami_does_not_list() -> None:
    """It is not on its way either: an idle GPU comes over in its place."""
    view = snapshot(
        node("n1", "", gpus=(MISSING,), sharing=EMPTY),
        node("n2", "p"),
        pods=(pod("x"),),
        pools=(pool(cooldown_seconds=0),),
    )
    plan = PoolPlanner().decide(view, None).plan
    assert [(m.node, m.to_mode) for m in plan.moves] == [("n2", Mode.SHARED)]
