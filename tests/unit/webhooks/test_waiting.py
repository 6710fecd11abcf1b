"""What whoever waits is told of the end of it: a conversion only where poolmgr would make it."""

from typing import Any

import pytest

from poolmgr.domain.reasons import Reason
from poolmgr.wire.hami.config import HamiConfig
from tests.unit.webhooks.objects import (
    A10_RESOURCE,
    T4,
    T4_RESOURCE,
    container,
    device,
    fleet,
    gpu_node,
    gpu_pool,
    node,
    pod,
    request,
    vmi,
)
from webhooks.fleet_view import FleetView
from webhooks.pod import decide_pod
from webhooks.review import WARNING_LIMIT
from webhooks.virtual_machine import UnknownResources, decide_virtual_machine

PROMISES = ("poolmgr will convert", "poolmgr moves them", "until poolmgr can convert", "is being converted")
T4_DEVICE = {"model": T4, "resourceName": T4_RESOURCE}


def warning_to_pod(view: FleetView) -> str:
    (warning,) = decide_pod(request(pod(container(gpu=1))), view, HamiConfig()).warnings
    assert len(warning) <= WARNING_LIMIT
    return warning


def warning_to_machine(view: FleetView, *resources: str) -> str:
    asked = request(vmi(*resources))
    warning, _ = decide_virtual_machine(asked, view, HamiConfig(), UnknownResources.REFUSE).warnings
    return warning


def of_machines(*indexes: int, node_name: str = "n1", **more: Any) -> list[dict[str, Any]]:
    return [device(i, node_name, "Passthrough", allocatedTo=f"uid-{i}", **more) for i in indexes]


def promises(text: str) -> bool:
    return any(words in text for words in PROMISES)


@pytest.mark.parametrize("mode", ["Automatic", "Recommend", "Off"])
def test_conversions_are_promised_by_automatic_pools_alone(mode: str) -> None:
    pools = (gpu_pool(rebalance={"mode": mode}),)
    given = fleet(gpu_node("n1", *of_machines(0, 1)), pools=pools)
    shared = fleet(gpu_node("n1", device(0), device(1, **T4_DEVICE)), pools=pools)
    for said in (
        warning_to_pod(given),
        warning_to_machine(shared, A10_RESOURCE),
        warning_to_machine(shared, A10_RESOURCE, T4_RESOURCE),
    ):
        assert promises(said) == (mode == "Automatic"), said
        assert (f"may not convert one on its own (GPUPool a10: rebalance.mode {mode})" in said) == (
            mode != "Automatic"
        )


def test_a_pool_that_moves_by_itself_promises_nothing_of_another_pools_gpus() -> None:
    nodes = (node("n1", {"zone": "a"}), node("n2", {"zone": "b"}))
    pools = (
        gpu_pool("a", nodeSelector={"matchLabels": {"zone": "a"}}),
        gpu_pool("b", nodeSelector={"matchLabels": {"zone": "b"}}, rebalance={"mode": "Recommend"}),
    )
    view = fleet(gpu_node("n1", *of_machines(0)), gpu_node("n2", device(0, "n2")), nodes=nodes, pools=pools)
    said = warning_to_machine(view, A10_RESOURCE)
    assert "may not convert one on its own (GPUPool b: rebalance.mode Recommend)" in said


def test_gpus_of_no_pool_are_promised_to_nobody() -> None:
    given = fleet(gpu_node("n1", *of_machines(0)))
    shared = fleet(gpu_node("n1", device(0), device(1, **T4_DEVICE)))
    for said in (warning_to_pod(given), warning_to_machine(shared, A10_RESOURCE, T4_RESOURCE)):
        assert "they belong to no GPUPool" in said


def test_kinds_that_no_single_node_can_have_are_not_promised() -> None:
    stays = {"possible": False, "reason": "CannotTell"}
    view = fleet(
        gpu_node("n1", device(0, mode="Passthrough"), device(1, rebind=stays, **T4_DEVICE)),
        gpu_node("n2", device(0, "n2", rebind=stays), device(1, "n2", "Passthrough", **T4_DEVICE)),
        pools=(gpu_pool(),),
    )
    said = warning_to_machine(view, A10_RESOURCE, T4_RESOURCE)
    assert "stay where they are for now: it cannot be told whether they are in use" in said


def test_a_kind_that_is_free_is_no_obstacle() -> None:
    devices = (device(0, mode="Passthrough"), device(1, **T4_DEVICE))
    view = fleet(gpu_node("n1", *devices), pools=(gpu_pool(),))
    assert promises(warning_to_machine(view, A10_RESOURCE, T4_RESOURCE))


def test_only_what_could_be_converted_where_the_machine_may_run_is_promised() -> None:
    view = fleet(
        gpu_node("n1", *of_machines(0)),
        gpu_node("n2", device(0, "n2")),
        nodes=(node("n1", {"zone": "a"}), node("n2", {"zone": "b"})),
        pools=(gpu_pool(),),
    )
    machine = vmi(A10_RESOURCE)
    machine["spec"]["nodeSelector"] = {"zone": "a"}
    answer = decide_virtual_machine(request(machine), view, HamiConfig(), UnknownResources.REFUSE)
    assert "no node where it may run has as many that could be converted" in answer.warnings[0]


def test_a_pod_is_told_of_a_gpu_that_comes_to_containers() -> None:
    view = fleet(gpu_node("n1", device(0, mode="Passthrough"), moving={0: "Shared"}), pools=(gpu_pool(),))
    assert warning_to_pod(view).endswith("one is being converted: the pod will wait for it")


def test_a_pod_is_told_where_no_gpu_can_be_used() -> None:
    view = fleet(gpu_node("n1", device(0, phase="Quarantined")), pools=(gpu_pool(),))
    assert "none of the 1 GPU(s) of its kind can be used" in warning_to_pod(view)


@pytest.mark.parametrize(
    ("groups", "why"),
    [((None, 2), "they have no IOMMU group"), ((1, 1), "they share an IOMMU group with other GPUs")],
    ids=["in none", "shared"],
)
def test_no_gpu_is_promised_that_its_iommu_group_keeps(
    groups: tuple[int | None, int | None], why: str
) -> None:
    gpus = [device(index, mode="Shared", iommuGroup=group) for index, group in enumerate(groups)]
    said = warning_to_machine(fleet(gpu_node("n1", *gpus), pools=(gpu_pool(),)), *[A10_RESOURCE] * 2)
    assert not promises(said) and why in said


@pytest.mark.parametrize("field", ["mode", "granularity"])
def test_whoever_waits_for_a_pool_whose_spec_is_not_understood_is_told_so(field: str) -> None:
    pools = (gpu_pool(rebalance={"mode": "Automatic", field: "Newest"}),)
    why = f"GPUPool a10: rebalance.{field} is 'Newest', which this release does not know"
    said = warning_to_machine(fleet(gpu_node("n1", device(0)), pools=pools), A10_RESOURCE)
    assert why in said and "it starts when another VM stops" in said
    assert "administrator moves" not in said and "mode Off" not in said
    said = warning_to_pod(fleet(gpu_node("n1", *of_machines(0)), pools=pools))
    assert why in said and "administrator moves" not in said and "mode Off" not in said


def test_every_reason_of_an_agent_is_told_in_words() -> None:
    for reason in Reason:
        rebind = {"possible": False, "reason": reason.value}
        view = fleet(gpu_node("n1", *of_machines(0, rebind=rebind)), pools=(gpu_pool(),))
        said = warning_to_pod(view)
        assert not promises(said)
        assert reason.value not in said
