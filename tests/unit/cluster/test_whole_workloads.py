"""Workloads of several parts: one node serves them whole, or nothing moves."""

from typing import Any

import pytest

from poolmgr.domain.demand import CardAsk, SharedPod
from tests.unit.cluster.builders import Json, launcher, pod, register, vm, vmi
from tests.unit.cluster.planned import A10, answer_to, host, moved, observed, plan_of

T4 = "nvidia.com/TU104GL_TESLA_T4"
T4_CARD: Json = {"model": "Tesla T4", "memoryMiB": 15360, "resourceName": T4}


def slices(**asks: Any) -> Json:
    limits = {f"nvidia.com/{name.replace('_', '-')}": str(value) for name, value in asks.items()}
    return {"name": "main", "resources": {"limits": limits, "requests": limits}}


def pod_of(*containers: Json, init: tuple[Json, ...] = (), name: str = "train", **over: Any) -> Json:
    return pod(name, containers=list(containers), spec={"initContainers": list(init)}, **over)


def shared(*documents: Any) -> SharedPod:
    [found] = [p for p in observed(*documents).pods if p.name == "train"]
    return found


TWO_CARDS = pod_of(slices(gpu=2, gpumem=3000))


def test_a_pod_of_two_cards_moves_nothing_where_no_node_can_have_both() -> None:
    plan = plan_of(host("n1", "pv"), host("n2", "pv"), TWO_CARDS)
    assert moved(plan) == []
    assert answer_to(plan, "train")[0] == "NoCandidate"


def test_nor_where_no_node_has_two() -> None:
    plan = plan_of(host("n1", "p"), host("n2", "p"), TWO_CARDS)
    assert moved(plan) == []
    assert answer_to(plan, "train")[0] == "MoreThanAnyNode"


def test_it_gets_the_one_card_that_completes_it() -> None:
    plan = plan_of(host("n1", "pv"), host("n2", "ps"), host("n3", "pp"), TWO_CARDS)
    assert moved(plan) == ["n2/00>s"]
    assert answer_to(plan, "train")[0] == "MoveUnderWay"


def test_both_move_where_a_node_has_two_idle_ones() -> None:
    assert moved(plan_of(host("n1", "pv"), host("n2", "pp"), TWO_CARDS)) == ["n2/00>s", "n2/01>s"]


def test_none_moves_where_only_one_may() -> None:
    from tests.unit.cluster.builders import pool

    tight = pool(models=[], rebalance={"maxInFlight": 1})
    assert moved(plan_of(tight, host("n2", "pp"), TWO_CARDS)) == []


def test_several_pods_are_completed_on_several_nodes() -> None:
    second = pod_of(slices(gpu=2, gpumem=20000), name="second")
    first = pod_of(slices(gpu=2, gpumem=20000))
    plan = plan_of(host("n1", "ps"), host("n2", "pp"), first, second)
    assert moved(plan) == ["n1/00>s", "n2/00>s", "n2/01>s"]


def test_two_containers_may_be_on_two_cards() -> None:
    demand = pod_of(slices(gpu=1, gpumem=20000), slices(gpu=1, gpumem=20000))
    assert answer_to(plan_of(host("n1", "ss"), demand), "train")[0] == "FreeCapacity"
    assert moved(plan_of(host("n1", "pp"), demand)) == ["n1/00>s", "n1/01>s"]
    assert moved(plan_of(host("n1", "p"), demand)) == []


def test_init_containers_have_what_the_others_have_after_them() -> None:
    """Three of 10 GB before one of 10 GB fit a T4 of 15 GB: HAMi counts the largest, not the sum."""
    demand = pod_of(slices(gpu=1, gpumem=10240), init=tuple(slices(gpu=1, gpumem=10240) for _ in range(3)))
    card = host("n1", "s", devices={0: T4_CARD}, register=_registered("GPU-n1-0", 15360, "NVIDIA-Tesla T4"))
    assert answer_to(plan_of(card, demand), "train")[0] == "FreeCapacity"
    assert shared(card, demand).containers == ()


def test_a_larger_init_container_decides() -> None:
    demand = pod_of(slices(gpu=1, gpumem=3000), init=(slices(gpu=2, gpumem=3000),))
    assert answer_to(plan_of(host("n1", "s"), demand), "train")[0] == "MoreThanAnyNode"
    assert answer_to(plan_of(host("n1", "ss"), demand), "train")[0] == "FreeCapacity"


def test_a_sidecar_keeps_what_it_has() -> None:
    sidecar = slices(gpu=1, gpumem=10240) | {"restartPolicy": "Always"}
    demand = pod_of(slices(gpu=1, gpumem=10240), init=(sidecar,))
    assert shared(demand).containers == (CardAsk(1, 10240), CardAsk(1, 10240))
    card = host("n1", "s", devices={0: T4_CARD}, register=_registered("GPU-n1-0", 15360, "NVIDIA-Tesla T4"))
    assert answer_to(plan_of(card, demand), "train")[0] == "MoreThanAnyNode"


def test_what_an_init_container_had_is_not_counted_beside_what_the_container_has() -> None:
    both = {
        "hami.io/vgpu-node": "n1",
        "hami.io/vgpu-devices-allocated": "GPU-n1-0,NVIDIA,10000,0:;GPU-n1-0,NVIDIA,10000,0:;",
    }
    run = pod_of(
        slices(gpu=1, gpumem=10000),
        init=(slices(gpu=1, gpumem=10000),),
        name="run",
        node="n1",
        annotations=both,
    )
    plan = plan_of(host("n1"), run, pod_of(slices(gpu=1, gpumem=12000)))
    assert answer_to(plan, "train")[0] == "FreeCapacity"


@pytest.mark.parametrize("taken", [20000, 0])
def test_cards_are_as_large_as_hami_registers_them(taken: int) -> None:
    """deviceMemoryScaling 2: 46056 MiB for a card of 23028."""
    big = host("n1", register=_registered("GPU-n1-0", 46056, "NVIDIA A10"))
    others: list[Json] = []
    if taken:
        held = {
            "hami.io/vgpu-node": "n1",
            "hami.io/vgpu-devices-allocated": f"GPU-n1-0,NVIDIA,{taken},0:;",
        }
        others = [pod_of(slices(gpu=1, gpumem=taken), name="run", node="n1", annotations=held)]
    demand = pod_of(slices(gpu=1, gpumem=20000 if taken else 30000))
    assert answer_to(plan_of(big, *others, demand), "train")[0] == "FreeCapacity"


def test_a_card_that_is_named_is_the_one_that_moves() -> None:
    named = pod("train", annotations={"nvidia.com/use-gpuuuid": "GPU-n1-1"})
    assert moved(plan_of(host("n1", "pp"), named)) == ["n1/01>s"]
    excluded = pod("train", annotations={"nvidia.com/nouse-gpuuuid": "GPU-n1-0"})
    assert moved(plan_of(host("n1", "pp"), excluded)) == ["n1/01>s"]


def test_a_whole_card_is_an_empty_one() -> None:
    held = {"hami.io/vgpu-node": "n1", "hami.io/vgpu-devices-allocated": "GPU-n1-0,NVIDIA,1000,10:;"}
    run = pod_of(slices(gpu=1, gpumem=1000, gpucores=10), name="run", node="n1", annotations=held)
    exclusive = pod_of(slices(gpu=1, gpumem=1000, gpucores=100))
    assert moved(plan_of(host("n1", "sp"), run, exclusive)) == ["n1/01>s"]


def test_a_card_whose_compute_is_used_up_takes_nobody() -> None:
    """HAMi: CardComputeUnitsExhausted, also for a pod that reserves none."""
    held = {"hami.io/vgpu-node": "n1", "hami.io/vgpu-devices-allocated": "GPU-n1-0,NVIDIA,1000,100:;"}
    run = pod_of(slices(gpu=1, gpumem=1000, gpucores=100), name="run", node="n1", annotations=held)
    assert moved(plan_of(host("n1", "sp"), run, pod_of(slices(gpu=1, gpumem=1000)))) == ["n1/01>s"]


def test_a_part_in_percent_is_one_of_the_card() -> None:
    demand = pod_of(slices(gpu=2, gpumem_percentage=60))
    assert answer_to(plan_of(host("n1", "ss"), demand), "train")[0] == "FreeCapacity"
    assert moved(plan_of(host("n1", "sp"), demand)) == ["n1/01>s"]


def _registered(uuid: str, mib: int, model: str) -> str:
    return register(uuid).replace('"devmem": 23028', f'"devmem": {mib}').replace("NVIDIA A10", model)


def vm_of(*resources: str, **over: Any) -> tuple[Json, Json]:
    containers = [{"name": "compute", "resources": {"requests": dict.fromkeys(resources, "1")}}]
    return vmi(gpus=list(resources), **over), launcher(containers=containers)


def test_a_vm_of_two_kinds_gets_both_on_one_node() -> None:
    mixed = host("n2", "ss", devices={1: T4_CARD})
    plan = plan_of(host("n1", "s"), mixed, host("n3", "s", devices={0: T4_CARD}), vm_of(A10, T4))
    assert moved(plan) == ["n2/00>p", "n2/01>p"]
    assert answer_to(plan, "vm1") == ("MoveUnderWay", "this plan moves 2 GPU(s) on n2 to passthrough for it")


def test_a_vm_of_two_kinds_moves_nothing_where_no_node_has_both() -> None:
    plan = plan_of(host("n1", "s"), host("n3", "s", devices={0: T4_CARD}), vm_of(A10, T4))
    assert moved(plan) == []
    assert answer_to(plan, "vm1") == (
        "MoreThanAnyNode",
        f"it asks for {A10} and {T4} together; no node has both",
    )


def test_nor_where_one_of_the_two_is_in_use() -> None:
    plan = plan_of(host("n1", "sv", devices={1: T4_CARD}), vm_of(A10, T4))
    assert moved(plan) == []
    assert answer_to(plan, "vm1")[0] == "NoCandidate"


def test_a_device_of_another_plugin_has_to_be_there_too() -> None:
    vgpu = "nvidia.com/GRID_P40-1Q"
    plan = plan_of(host("n1", "s"), host("n2", "s", allocatable={vgpu: "4"}), vm_of(A10, vgpu))
    assert moved(plan) == ["n2/00>p"]
    used_up = plan_of(host("n2", "s", allocatable={vgpu: "0"}), vm_of(A10, vgpu))
    assert moved(used_up) == []
    assert answer_to(plan_of(host("n1", "s"), vm_of(A10, vgpu)), "vm1")[0] == "UnknownResource"


def test_a_machine_is_counted_whole_before_it_has_an_instance() -> None:
    machine = vm(gpus=[A10, T4])
    assert moved(plan_of(host("n1", "ss", devices={1: T4_CARD}), machine)) == ["n1/00>p", "n1/01>p"]
