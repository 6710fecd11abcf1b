"""For any GPU of any snapshot, one sentence says why it is or is not moved."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolmgr.cli.plan import explain_gpu, sentence_of
from poolmgr.domain.errors import Rejected
from poolmgr.domain.fleet import Granularity, Holder, Node, RebalanceMode
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.plan import PoolPlanner
from poolmgr.planner.sizing.learning import LearningSizer
from tests.unit.planner.builders import gpu, moving, node, pod, pool, snapshot, vm

PHASES = st.sampled_from([*DevicePhase, *[DevicePhase.READY] * 12])


@st.composite
def strange_clusters(draw: st.DrawFn) -> ClusterSnapshot:
    """Everything that can be wrong or odd about a GPU, in any combination."""
    nodes: list[Node] = []
    vms, pods = [], []
    for n in range(draw(st.integers(1, 3))):
        name = f"n{n}"
        domain = draw(st.sampled_from(["", "", "nvs-0"]))
        cards = []
        for g in range(draw(st.integers(1, 4))):
            mode = draw(st.sampled_from([Mode.SHARED, Mode.PASSTHROUGH]))
            card = gpu(
                name,
                g,
                mode,
                phase=draw(PHASES),
                observed_mode=draw(st.sampled_from([mode, mode, mode, mode, None])),
                desired_mode=draw(st.sampled_from([mode, mode, mode, mode.other, None])),
                pool=draw(st.sampled_from(["p", "p", "p", "p", None, "gone"])),
                iommu_group=draw(st.sampled_from([g, g, g, g, 0, None])),
                nvswitch_domain=domain,
                advertised=draw(st.booleans()),
                mode_since=draw(st.sampled_from([0.0, 9_950.0])),
                reason=draw(st.sampled_from(["", "", "", Reason.SRIOV_ACTIVE.value, "Unheard"])),
                allocated_to=draw(st.sampled_from(["", "", "", "launcher-x"])),
                holders=draw(st.sampled_from([(), (), (Holder(7, "python"),)])),
                memory_mib=draw(st.sampled_from([24_000, 0])),
            )
            cards.append(card)
            busy = draw(st.sampled_from(["", "", "vm", "pod"]))
            if busy == "vm":
                vms.append(vm(f"r{n}{g}", on=(name, g)))
            elif busy == "pod":
                soft = draw(st.booleans())
                pods.append(pod(f"r{n}{g}", (name, g), best_effort=soft, evictable=soft))
        nodes.append(
            replace(
                node(name, "", gpus=tuple(cards)),
                ready=draw(st.sampled_from([True, True, True, False])),
                reported=draw(st.sampled_from([True, True, True, False])),
                cordoned=draw(st.sampled_from([False, False, True])),
                cordoned_by_us=draw(st.booleans()),
                transition=draw(st.sampled_from([None, None, None, moving(name, 0)])),
            )
        )
    vms += [vm(f"w{n}", gpus=draw(st.sampled_from([1, 2, 9]))) for n in range(draw(st.integers(0, 3)))]
    pods += [pod(f"w{n}", cores=100) for n in range(draw(st.integers(0, 3)))]
    limits = pool(
        rebalance=draw(st.sampled_from(list(RebalanceMode))),
        granularity=draw(st.sampled_from(list(Granularity))),
        max_in_flight=draw(st.integers(1, 4)),
    )
    return snapshot(
        *nodes,
        vms=tuple(vms),
        pods=tuple(pods),
        pools=(limits,),
        synced=draw(st.sampled_from([True, True, True, False])),
    )


@given(strange_clusters())
def test_every_gpu_has_one_sentence_about_itself_or_its_node(view: ClusterSnapshot) -> None:
    plan = PoolPlanner(LearningSizer()).decide(view, None).plan
    for host in view.nodes:
        for card in host.gpus:
            line = explain_gpu(view, plan, f"{card.node}/{card.pci_address}")
            said = sentence_of(line)
            assert "\n" not in said
            assert len(line["message"].split()) >= 4
            first, _, second = line["message"].partition(
                "; it moves only together with other GPUs of its node, and "
            )
            assert first != second
            if view.synced:
                assert card.pci_address in line["message"] or host.name in line["message"] or "pool" in said
            else:
                assert line["moves_to"] is None


def one(view: ClusterSnapshot, wanted: str = "a/0000:00:00.0") -> str:
    return sentence_of(explain_gpu(view, PoolPlanner(LearningSizer()).decide(view, None).plan, wanted))


def test_what_is_moved_says_for_whom() -> None:
    assert one(snapshot(node("a", "s"), vms=(vm("v"),))) == (
        "a/0000:00:00.0: moves to Passthrough (VmWaiting): GPU 0000:00:00.0 on a (idle) for VM "
        "desktops/v, which waits for 1 GPU(s)"
    )


def test_shared_card_says_by_whom_it_is_used() -> None:
    view = snapshot(node("a", "s"), pods=(pod("x", ("a", 0), cores=30),))
    assert one(view).startswith(
        "a/0000:00:00.0: stays in Shared (GpuBusy): GPU 0000:00:00.0 on a is in use by pod "
    )


def test_quarantined_card_says_what_the_agent_says() -> None:
    hurt = gpu("a", 0, phase=DevicePhase.QUARANTINED, message="the driver did not let go within 90 s")
    assert one(snapshot(node("a", "", gpus=(hurt,)))) == (
        "a/0000:00:00.0: stays in Shared (GpuUnhealthy): GPU 0000:00:00.0 on a is Quarantined: "
        "the driver did not let go within 90 s"
    )


def test_nvswitch_partner_that_is_busy_is_named() -> None:
    pair = tuple(gpu("a", g, nvswitch_domain="d") for g in (0, 1))
    view = snapshot(node("a", "", gpus=pair), pods=(pod("x", ("a", 1)),), vms=(vm("v"),))
    assert (
        "moves only together with other GPUs of its node, and GPU 0000:01:00.0 on a is in use by pod notebooks/x"
        in one(view)
    )


def test_unpooled_moving_and_unsynced() -> None:
    assert "stays in Shared (NotInPool): no GPUPool selects" in one(
        snapshot(node("a", "", gpus=(gpu("a", 0, pool=None),)))
    )
    assert "is moving already (GpuMoving): GPU 0000:00:00.0 on a is moving to Passthrough" in one(
        snapshot(node("a", "s", transition=moving("a", 0)))
    )
    assert "(NotSynced): the manager has not read the whole cluster yet" in one(
        snapshot(node("a", "s"), synced=False)
    )


@pytest.mark.parametrize(
    ("wanted", "near"),
    [
        ("b/0000:00:00.9", "near it are b/0000:00:00.0, b/0000:01:00.0"),
        ("b/01:00.0", "near it are b/0000:01:00.0, b/0000:00:00.0"),
        ("b", "near it are b/0000:00:00.0, b/0000:01:00.0"),
        ("01:00.0", "near it are a/0000:01:00.0, b/0000:01:00.0"),
        ("GPU-b-7", "near it are "),
        ("xyzzy", "e.g. a/0000:00:00.0"),
        ("", "e.g. a/0000:00:00.0"),
    ],
)
def test_a_name_that_is_not_there_lists_those_near_it(wanted: str, near: str) -> None:
    with pytest.raises(Rejected) as refused:
        one(snapshot(node("a", "ss"), node("b", "ss")), wanted)
    assert near in refused.value.message


def test_names_are_found_whatever_their_case() -> None:
    assert one(snapshot(node("a", "s")), "gpu-A-0").startswith("a/0000:00:00.0: ")


def test_what_is_only_recommended_is_not_said_to_move() -> None:
    view = snapshot(node("a", "s"), vms=(vm("v"),), pools=(pool(rebalance=RebalanceMode.RECOMMEND),))
    assert one(view).startswith(
        "a/0000:00:00.0: would move (recommended only) to Passthrough (VmWaiting): GPU"
    )
