"""The contract's fourth part: which GPUs a pod gets, asked as kube-scheduler asks the extender."""

import json

import pytest

from e2e.controlplane.client import Json
from e2e.controlplane.hami import Hami, settle_allocation
from e2e.hami.contract import shows
from e2e.hami.lab import Lab, ask, container

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
LAST = "no available node"
USE, NOUSE = "nvidia.com/use-gpuuuid", "nvidia.com/nouse-gpuuuid"


def share(uuid: str, memory: int, cores: int) -> str:
    return f"{uuid},NVIDIA,{memory},{cores}:"


def reasons(lab: Lab, pod: str) -> str:
    return " ".join(message for reason, message in lab.events_of(pod) if reason == "FilteringFailed")


def refused(lab: Lab, name: str, node: str, *containers: Json, **annotations: str) -> str:
    """Asks for a placement that is not to be had; answers the reasons."""
    pod = lab.pod(name, *containers, annotations=annotations)
    filtered = lab.filter(pod, node)
    assert filtered.nodes == []
    # One event for each reason, then this one.
    return str(
        lab.until("the reasons", lambda: (reported := reasons(lab, name)) and LAST in reported and reported)
    )


@shows(50)
def test_filter_writes_the_assignment(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    pod = lab.pod("asks", container(limits=ask(1, gpumem=3000, gpucores=30)))
    assert lab.filter(pod, node).nodes == [node]
    found = lab.get_pod("asks")
    annotations = found["metadata"]["annotations"]
    assert (annotations["hami.io/vgpu-node"], found["metadata"]["labels"]["hami.io/vgpu-node"]) == (
        node,
        node,
    )
    assert annotations["hami.io/vgpu-time"].isdigit()
    assert annotations["hami.io/vgpu-devices-to-allocate"] == f"{share(lab.uuid('a'), 3000, 30)};"
    assert annotations["hami.io/vgpu-devices-allocated"] == f"{share(lab.uuid('a'), 3000, 30)};"
    assert "hami.io/bind-phase" not in annotations


@shows(51)
def test_an_unknown_node_is_refused(lab: Lab) -> None:
    node, unknown = lab.node(lab.gpu("a")), lab.bare_node(None, slices=0)
    assert lab.filter(lab.pod("asks"), unknown).failed == {unknown: "node unregistered"}
    assert lab.filter(lab.pod("asks-two"), unknown, node).nodes == [node]


@shows(52)
def test_gpus_are_chosen_by_uuid(lab: Lab) -> None:
    gpus = [lab.gpu(name, index=index) for index, name in enumerate("abc")]
    node = lab.node(*gpus)
    a, b, c = (gpu["id"] for gpu in gpus)
    for number in range(3):
        assert lab.place(f"use-{number}", node, annotations={USE: b}).startswith(b)
        assert lab.place(f"no-{number}", node, annotations={NOUSE: f"{a},{b}"}).startswith(c)
    assert "CardUuidMismatch" in refused(lab, "half", node, **{USE: a[:-1]})


@shows(53)
def test_2_10_heeds_both_lists(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    both = {USE: lab.uuid("a"), NOUSE: lab.uuid("a")}
    assert "CardUuidMismatch" in refused(lab, "both", node, **both)


@shows(54)
def test_2_8_heeds_the_first_list_only(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    both = {USE: lab.uuid("a"), NOUSE: lab.uuid("a")}
    assert lab.place("both", node, annotations=both).startswith(lab.uuid("a"))


@shows(55)
def test_gpus_are_chosen_by_model(lab: Lab) -> None:
    node = lab.node(lab.gpu("a", type="NVIDIA A10"), lab.gpu("b", type="NVIDIA L40S", index=1))
    a, b = lab.uuid("a"), lab.uuid("b")
    assert lab.place("use", node, annotations={"nvidia.com/use-gputype": "l40,H100"}).startswith(b)
    assert lab.place("no", node, annotations={"nvidia.com/nouse-gputype": "l40"}).startswith(a)
    assert "CardTypeMismatch" in refused(lab, "h100", node, **{"nvidia.com/use-gputype": "h100"})


@shows(56)
def test_gpus_are_chosen_by_mode(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    assert lab.place("core", node, annotations={"nvidia.com/vgpu-mode": "hami-core"})
    assert "CardTypeMismatch" in refused(lab, "mig", node, **{"nvidia.com/vgpu-mode": "mig"})


@shows(57)
def test_memory_by_percentage(lab: Lab) -> None:
    node = lab.node(lab.gpu("a", devmem=20_000, count=3))
    assert lab.place("quarter", node, container(limits=ask(1, gpumem_percentage=25))) == (
        f"{share(lab.uuid('a'), 5000, 0)};"
    )
    assert "CardInsufficientMemory" in refused(lab, "all", node, container(limits=ask(1, gpucores=10)))


@shows(58)
def test_cores_are_shared_out(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"), lab.gpu("b", index=1))
    lab.place(
        "some", node, container(limits=ask(1, gpumem=100, gpucores=60)), annotations={USE: lab.uuid("a")}
    )
    whole = container(limits=ask(1, gpumem=100, gpucores=100))
    assert lab.place("whole", node, whole).startswith(lab.uuid("b"))
    reported = refused(lab, "whole-2", node, whole)
    assert "CardInsufficientCore" in reported
    none = container(limits=ask(1, gpumem=100, gpucores=0))
    reported = refused(lab, "none", node, none, **{USE: lab.uuid("b")})
    assert "CardComputeUnitsExhausted" in reported
    assert lab.place("none-2", node, none).startswith(lab.uuid("a"))


@shows(59)
def test_a_gpu_has_so_many_slots(lab: Lab) -> None:
    node = lab.node(lab.gpu("a", count=2))
    small = container(limits=ask(1, gpumem=1, gpucores=1))
    lab.place("one", node, small)
    lab.place("two", node, small)
    assert "CardTimeSlicingExhausted" in refused(lab, "three", node, small)


@shows(60)
def test_a_refused_pod_learns_why(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"), lab.gpu("b", index=1))
    reported = refused(lab, "greedy", node, container(limits=ask(1, gpumem=99_000)))
    assert f"1 nodes CardInsufficientMemory({node})" in reported
    assert "no available node, 1 nodes do not meet" in reported
    assert "hami.io/vgpu-node" not in lab.annotations_of("greedy")


@shows(61)
def test_2_10_tells_the_scheduler_why(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    filtered = lab.filter(lab.pod("greedy", container(limits=ask(1, gpumem=99_000))), node)
    assert filtered.failed == {node: "1/1 CardInsufficientMemory"}


@shows(62)
def test_2_8_tells_the_scheduler_nothing(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    filtered = lab.filter(lab.pod("greedy", container(limits=ask(1, gpumem=99_000))), node)
    assert filtered.failed == {node: "NodeUnfitPod"}


@shows(63, 64, 65)
def test_2_10_cordons_gpus_once_it_has_taken_the_node_in_anew(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"), lab.gpu("b", index=1))
    a = lab.uuid("a")
    lab.place("early", node, annotations={USE: a})
    lab.annotate_node(node, device_cordon=f"{a}, {lab.uuid('x')}")
    lab.look()
    lab.place("slips-in", node, annotations={USE: a})
    lab.annotate_node(node, node_handshake=None)
    lab.look()
    assert "CardCordoned" in refused(lab, "late", node, **{USE: a})
    assert lab.place("elsewhere", node).startswith(lab.uuid("b"))
    assert lab.annotations_of("early")["hami.io/vgpu-devices-allocated"].startswith(a)
    lab.annotate_node(node, device_cordon=None)
    lab.look()
    assert "CardCordoned" in refused(lab, "still", node, **{USE: a})
    lab.annotate_node(node, node_handshake=None)
    lab.look()
    assert lab.place("again", node, annotations={USE: a})


@shows(79)
def test_2_10_gives_out_nothing_of_a_node_whose_gpus_are_all_cordoned(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"), lab.gpu("b", index=1))
    a, b = lab.uuid("a"), lab.uuid("b")
    lab.annotate_node(node, device_cordon=f"{a},{b}", node_handshake=None)
    lab.look()
    assert "CardCordoned" in refused(lab, "closed", node)
    lab.set_slices(node, 0)
    lab.look()
    assert lab.filter(lab.pod("forgotten"), node).nodes == []
    lab.until("the phantoms", lambda: lab.look() or lab.knows("a", "b"))
    assert "CardCordoned" in refused(lab, "phantom", node)
    lab.annotate_node(node, node_nvidia_register=json.dumps([lab.gpu("b")]))
    lab.set_slices(node, 10)
    lab.look()
    assert "CardCordoned" in refused(lab, "back", node)
    lab.annotate_node(node, device_cordon=None, node_handshake=None)
    lab.look()
    assert lab.place("open", node).startswith(b)


@shows(66)
def test_2_8_knows_no_cordon(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"), annotations={"hami.io/device-cordon": lab.uuid("a")})
    assert lab.place("asks", node)


def three(first: int, last: int) -> list[Json]:
    """Containers of which only the first and the last ask for a GPU."""
    return [
        container("one", ask(1, gpumem=first, gpucores=10)),
        container("two"),
        container("three", ask(1, gpumem=last, gpucores=20)),
    ]


@shows(67)
def test_2_8_keeps_a_slot_for_each_container(lab: Lab) -> None:
    node, a = lab.node(lab.gpu("a")), lab.uuid("a")
    assert lab.place("three", node, *three(1000, 2000)) == f"{share(a, 1000, 10)};;{share(a, 2000, 20)};"
    last = lab.place("last", node, container("none"), container("main", ask(1, gpumem=500, gpucores=5)))
    assert last == f";{share(a, 500, 5)};"
    reported = refused(lab, "rest", node, container(limits=ask(1, gpumem=24_576 - 3499)))
    assert "CardInsufficientMemory" in reported


@shows(68)
def test_2_10_moves_shares_up(lab: Lab) -> None:
    node, a = lab.node(lab.gpu("a")), lab.uuid("a")
    assert lab.place("three", node, *three(1000, 2000)) == f"{share(a, 1000, 10)};{share(a, 2000, 20)};"
    last = lab.place("last", node, container("none"), container("main", ask(1, gpumem=500, gpucores=5)))
    assert last == f"{share(a, 500, 5)};"
    reported = refused(lab, "rest", node, container(limits=ask(1, gpumem=24_576 - 3499)))
    assert "CardInsufficientMemory" in reported


@shows(69)
def test_2_10_counts_the_larger_of_init_and_other_containers(lab: Lab) -> None:
    node, a = lab.node(lab.gpu("a", devmem=10_000)), lab.uuid("a")
    init = container("prepares", ask(1, gpumem=6000, gpucores=10))
    main = container("main", ask(1, gpumem=2000, gpucores=20))
    assert (
        lab.place("pod", node, main, initContainers=[init]) == f"{share(a, 6000, 10)};{share(a, 2000, 20)};"
    )
    assert lab.place("beside", node, container(limits=ask(1, gpumem=4000, gpucores=1)))
    assert "CardInsufficientMemory" in refused(
        lab, "third", node, container(limits=ask(1, gpumem=1, gpucores=1))
    )


@shows(70)
def test_2_8_does_not_see_init_containers(lab: Lab) -> None:
    node, a = lab.node(lab.gpu("a", devmem=10_000)), lab.uuid("a")
    init = container("prepares", ask(1, gpumem=6000, gpucores=10))
    main = container("main", ask(1, gpumem=2000, gpucores=20))
    assert lab.place("pod", node, main, initContainers=[init]) == f"{share(a, 2000, 20)};"


@shows(71)
def test_what_a_pod_holds_is_free_when_it_has_ended(lab: Lab) -> None:
    node = lab.node(lab.gpu("a", devmem=1000))
    whole = container(limits=ask(1, gpumem=1000, gpucores=1))

    def place_after(pod: str, end: str) -> None:
        """The next pod fits as soon as the one before has ended."""
        lab.until(f"{pod} to fit after {end}", lambda: _fits(lab, pod, node, whole))

    lab.place("one", node, whole)
    assert "CardInsufficientMemory" in refused(lab, "early", node, whole)
    lab.set_phase("one", "Succeeded")
    place_after("two", "Succeeded")
    lab.set_phase("two", "Failed")
    place_after("three", "Failed")
    # Kubernetes' PodGC looks every 20 s and ends each pod that is being deleted and has no node.
    lab.assign("three", node)
    lab.api.patch(lab.pod_path("three"), {"metadata": {"finalizers": ["example.com/stays"]}})
    lab.api.delete(lab.pod_path("three"), gracePeriodSeconds=0)
    lab.look()
    assert "CardInsufficientMemory" in refused(lab, "while-ending", node, whole)
    lab.api.patch(lab.pod_path("three"), {"metadata": {"finalizers": []}})
    place_after("four", "its deletion")


def _fits(lab: Lab, name: str, node: str, *containers: Json) -> bool:
    if not lab.api.exists(lab.pod_path(name)):
        lab.pod(name, *containers)
    return lab.filter(lab.get_pod(name), node).nodes == [node]


@shows(72)
def test_a_pod_on_a_vanished_gpu_hinders_nobody(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"), lab.gpu("b", index=1))
    lab.place("left-behind", node, annotations={USE: lab.uuid("a")})
    lab.annotate_node(node, node_nvidia_register=json.dumps([lab.gpu("b")]))
    lab.set_slices(node, 10)
    lab.look()
    assert not lab.knows("a") or '"left-behind"' in lab.hami.metrics()
    assert lab.place("next", node).startswith(lab.uuid("b"))


@shows(73)
def test_policies_choose_node_and_gpu(lab: Lab) -> None:
    one = lab.node(lab.gpu("a"), lab.gpu("b", index=1))
    two = lab.node(lab.gpu("c"), lab.gpu("d", index=1))
    lab.place("first", one, annotations={USE: lab.uuid("a")})

    def goes_to(name: str, **annotations: str) -> tuple[str, str]:
        keys = {f"hami.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
        (node,) = lab.filter(lab.pod(name, annotations=keys), one, two).nodes
        return node, lab.annotations_of(name)["hami.io/vgpu-devices-allocated"].partition(",")[0]

    assert goes_to("default") == (one, lab.uuid("b"))
    assert goes_to("packed", gpu_scheduler_policy="binpack")[0] == one
    assert goes_to("spread", node_scheduler_policy="spread")[0] == two
    for number in range(3):
        lab.place(f"more-{number}", one, annotations={USE: lab.uuid("a")})
    packed = goes_to("packed-gpu", gpu_scheduler_policy="binpack", node_scheduler_policy="binpack")
    assert packed == (one, lab.uuid("a"))


@shows(74)
def test_2_10_simulates_with_whole_nodes(lab: Lab) -> None:
    node = lab.node(lab.gpu("a", devmem=1000))
    whole = container(limits=ask(1, gpumem=1000, gpucores=1))
    lab.place("holds-all", node, whole)
    pod = lab.pod("asks", whole)
    nodes = {"items": [lab.api.get(f"/api/v1/nodes/{node}")]}
    answer = {key.lower(): value for key, value in lab.post("/filter", {"Pod": pod, "Nodes": nodes}).items()}
    assert [item["metadata"]["name"] for item in answer["nodes"]["items"]] == [node]
    assert "hami.io/vgpu-node" not in lab.annotations_of("asks")


@shows(75)
def test_2_10_reserves_mig_instances(lab: Lab) -> None:
    places = [{"start": start, "size": 2} for start in (0, 2)]
    profile = {"name": "2g.12gb", "memoryMB": 12_288, "core": 50, "sliceCount": 2, "placements": places}
    node = lab.node(lab.gpu("a", mode="mig", count=2, migProfiles=[profile]))
    assert lab.place("one", node) == f"{share(lab.uuid('a'), 12_288, 50)};"
    reserved = lab.annotations_of("one")["hami.io/vgpu-mig-allocations"]
    assert reserved == (
        f'[{{"containerIndex":0,"deviceIndex":0,"gpuUUID":"{lab.uuid("a")}","profile":"2g.12gb",'
        '"placement":{"start":0,"size":2}}]'
    )
    lab.place("two", node)
    assert '"placement":{"start":2,"size":2}' in lab.annotations_of("two")["hami.io/vgpu-mig-allocations"]


@shows(78)
def test_2_8_names_the_cut_of_a_mig_gpu(lab: Lab) -> None:
    node = lab.node(lab.gpu("a", mode="mig", type="NVIDIA A30", count=4))
    asks = container(limits=ask(1, gpumem=6000, gpucores=10))
    assert lab.place("one", node, asks) == f"{share(lab.uuid('a') + '[0-0]', 6144, 25)};"
    assert lab.place("two", node, asks) == f"{share(lab.uuid('a') + '[0-1]', 6144, 25)};"


@shows(76)
def test_quantities_are_quantities(lab: Lab) -> None:
    node = lab.node(lab.gpu("a"))
    for number, text in enumerate(("3000", "3k")):
        placed = lab.place(f"asks-{number}", node, container(limits=ask(1, gpumem=text, gpucores=1)))
        assert placed == f"{share(lab.uuid('a'), 3000, 1)};"


@shows(77)
def test_2_10_loses_count_of_pods_with_an_init_container(lab: Lab) -> None:
    node = lab.node(lab.gpu("a", devmem=1000))
    whole = container(limits=ask(1, gpumem=1000, gpucores=1))
    lab.place("counted", node, whole, initContainers=[container("prepares")])
    assert "CardInsufficientMemory" in refused(lab, "early", node, whole)
    ended = {"name": "prepares", "image": "none", "imageID": "", "ready": True, "restartCount": 0}
    ended |= {"state": {"terminated": {"exitCode": 0}}}
    lab.set_phase("counted", "Running", initContainerStatuses=[ended])
    lab.until("a second pod to get the same memory", lambda: _fits(lab, "late", node, whole))


@pytest.mark.hami("2.10.0")
def test_the_whole_way_through_kube_scheduler(hami: Hami) -> None:
    """No statement of its own: that the tests above ask the extender as kube-scheduler does."""
    with Lab(hami) as lab:
        name = f"contract-{lab.number}-whole"
        gpu = lab.gpu("a")
        hami.plane.add_fake_node(
            name,
            annotations={"hami.io/node-nvidia-register": json.dumps([gpu])},
            resources={"nvidia.com/gpu": "10"},
        )
        try:
            hami.wait_until_known(gpu["id"])
            lab.api.create(
                f"/api/v1/namespaces/{lab.namespace}/pods",
                lab.body("asks", nodeSelector={"kubernetes.io/hostname": name}),
            )
            lab.until("it to be bound", lambda: lab.get_pod("asks")["spec"].get("nodeName") == name)
            settle_allocation(hami.plane, lab.namespace, "asks")
        finally:
            lab.delete_node(name)
