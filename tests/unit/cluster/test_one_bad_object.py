"""One object that cannot be read concerns itself: it is set aside and told, and every other one is read."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from poolmgr.cluster.kubevirt import vms
from poolmgr.cluster.observe import assembly
from poolmgr.cluster.reflector import Reflector
from poolmgr.domain.occupancy import occupancy_of
from poolmgr.domain.plan import Subject, SubjectKind
from poolmgr.domain.snapshot import ClusterSnapshot, Unread
from poolmgr.wire import kinds
from tests.hostile import exceptions, raised
from tests.unit.cluster.builders import (
    GPU_A,
    Json,
    device,
    gpu_node,
    launcher,
    node,
    pod,
    pool,
    register,
    reservation,
    vm,
    vmi,
)
from tests.unit.cluster.test_view import (
    GPU_NODES,
    GPU_POOLS,
    NODES,
    PODS,
    RESERVATIONS,
    VMIS,
    VMS,
    Bench,
)

PDBS = "/apis/policy/v1/poddisruptionbudgets"


def budget(name: str) -> Json:
    return {
        "metadata": {"name": name, "namespace": "ml"},
        "spec": {"selector": {"matchLabels": {}}},
        "status": {"disruptionsAllowed": 1},
    }


def claim(name: str) -> Json:
    return {"metadata": {"name": name, "namespace": "ml"}, "spec": {"volumeName": "v"}}


def of_cluster(name: str) -> Json:
    return {"metadata": {"name": name}}


KINDS: dict[str, tuple[str, Callable[[str], Json]]] = {
    "pods": (PODS, lambda name: pod(name, "ml", node="n1")),
    "nodes": (NODES, node),
    "gpunodes.poolmgr.io": (GPU_NODES, gpu_node),
    "gpureservations.poolmgr.io": (RESERVATIONS, lambda name: reservation(name, "ml")),
    "virtualmachines.kubevirt.io": (VMS, lambda name: vm(name, "ml")),
    "virtualmachineinstances.kubevirt.io": (VMIS, lambda name: vmi(name, "ml")),
    "poddisruptionbudgets.policy": (PDBS, budget),
    "persistentvolumeclaims": ("/api/v1/persistentvolumeclaims", claim),
    "persistentvolumes": ("/api/v1/persistentvolumes", of_cluster),
    "storageclasses.storage.k8s.io": ("/apis/storage.k8s.io/v1/storageclasses", of_cluster),
}
"""Everything that a tenant or a node writes, or that concerns a workload alone."""


def ready() -> Bench:
    bench = Bench()
    bench.api.put(NODES, node("n1"))
    bench.api.put(GPU_NODES, gpu_node("n1"))
    bench.api.put(GPU_POOLS, pool())
    return bench


def spoil(document: Json, place: tuple[str, ...], value: Any) -> Json:
    """The object with another value there."""
    inside = document
    for step in place[:-1]:
        inside = inside.setdefault(step, {})
    inside[place[-1]] = value
    return document


def doubts(snapshot: ClusterSnapshot, name: str = "n1") -> dict[str, str]:
    (found,) = [n for n in snapshot.nodes if n.name == name]
    return dict(occupancy_of(snapshot).doubts_on(found))


@pytest.mark.parametrize("kind", KINDS)
async def test_other_objects_are_read_beside_one_that_cannot_be_and_it_is_told(kind: str) -> None:
    collection, build = KINDS[kind]
    bench = ready()
    bench.api.put(collection, build("good"))
    async with bench.running():
        assert (await bench.look()).unread == ()
        bench.api.put(collection, spoil(build("bad"), ("metadata", "labels"), {"a": 7}))
        bench.api.put(collection, build("later"))
        seen = await bench.look()
        assert seen.synced
        assert [(one.kind, one.name) for one in seen.unread] == [(kind, "bad")]
        assert "Expected `str`" in seen.unread[0].why
        bench.api.put(collection, build("bad"))
        assert (await bench.look()).unread == ()
    async with ready_with(bench).running() as again:
        assert (await again.look()).synced, "it is so for a manager that starts, too"


def ready_with(bench: Bench) -> Bench:
    other = Bench()
    other.api.objects, other.api.version = bench.api.objects, bench.api.version
    other.api.kinds |= bench.api.kinds
    return other


@pytest.mark.parametrize("kind", KINDS)
async def test_list_that_begins_with_a_bad_object_is_read_and_forgets_it_once_it_is_gone(kind: str) -> None:
    collection, build = KINDS[kind]
    bench = ready()
    stored = bench.api.put(collection, spoil(build("a-bad"), ("metadata", "labels"), [1]))
    bench.api.put(collection, build("good"))
    async with bench.running():
        seen = await bench.look()
        assert seen.synced
        assert len(seen.unread) == 1
        path = next(path for path, found in bench.api.objects.items() if found is stored)
        bench.api.remove(path)
        assert (await bench.look()).unread == ()


async def test_pool_that_cannot_be_read_stops_moves_since_its_bounds_are_not_known() -> None:
    bench = ready()
    async with bench.running():
        bench.api.put(GPU_POOLS, spoil(pool("broken"), ("spec", "models"), 7))
        seen = await bench.look()
        assert not seen.synced
        [said] = bench.cluster.view.trouble()
        assert said.startswith("gpupools.poolmgr.io broken cannot be read")
        bench.api.remove(f"{GPU_POOLS}/broken")
        assert (await bench.look()).synced


async def test_unread_pod_on_a_node_may_have_any_of_its_gpus_until_the_agent_tells() -> None:
    bench = ready()
    free = device("0000:00:05.0", uuid="GPU-b", mode="Passthrough", driver="vfio-pci", iommuGroup=13)
    bench.api.put(GPU_NODES, gpu_node("n1", [device(), free]))
    bench.api.put(NODES, node("n2"))
    bench.api.put(GPU_NODES, gpu_node("n2"))
    async with bench.running():
        assert doubts(await bench.look()) == {}
        bench.api.put(PODS, spoil(pod("odd", "ml", node="n1"), ("metadata", "labels"), 7))
        seen = await bench.look()
        assert set(doubts(seen)) == {"0000:00:04.0", "0000:00:05.0"}
        assert "pods ml/odd may have GPUs of n1: it cannot be read" in doubts(seen)["0000:00:04.0"]
        assert doubts(seen, "n2") == {}, "nobody else's node is concerned"
        bench.api.put(GPU_NODES, gpu_node("n1", [device(allocatedTo="uid-ml-odd"), free]))
        assert doubts(await bench.look()) == {}, "the kubelet tells of all devices of a pod at once"


@pytest.mark.parametrize("over", [{"phase": "Succeeded"}, {"node": ""}])
async def test_unread_pod_that_is_over_or_placed_nowhere_keeps_nothing(over: Json) -> None:
    bench = ready()
    document = pod("odd", "ml", node=over.get("node", "n1"))
    document.setdefault("status", {})["phase"] = over.get("phase", "Pending")
    async with bench.running():
        bench.api.put(PODS, spoil(document, ("metadata", "labels"), 7))
        seen = await bench.look()
        assert len(seen.unread) == 1
        assert doubts(seen) == {}


async def test_unread_pod_that_hami_has_placed_and_not_bound_counts_for_that_node() -> None:
    bench = ready()
    document = pod("odd", "ml", annotations={"hami.io/vgpu-node": "n1"})
    async with bench.running():
        bench.api.put(PODS, spoil(document, ("metadata", "labels"), 7))
        assert set(doubts(await bench.look())) == {"0000:00:04.0"}


async def test_pod_of_which_not_even_the_node_can_be_read_stops_moves() -> None:
    bench = ready()
    async with bench.running():
        bench.api.put(PODS, spoil(pod("odd", "ml"), ("spec", "nodeName"), 7))
        seen = await bench.look()
        assert not seen.synced
        assert "where pods ml/odd runs cannot be read" in " ".join(bench.cluster.view.trouble())


async def test_node_that_cannot_be_read_keeps_its_gpus_where_they_are() -> None:
    bench = ready()
    async with bench.running():
        await bench.look()
        bench.api.put(GPU_NODES, spoil(gpu_node("n1"), ("status", "devices"), 7))
        (found,) = (await bench.look()).nodes
        assert [gpu.uuid for gpu in found.gpus] == [GPU_A], "nothing forgets them"
        assert found.complaint.startswith("gpunodes.poolmgr.io n1 cannot be read")
        assert not found.reported
        bench.api.put(GPU_NODES, gpu_node("n1"))
        (found,) = (await bench.look()).nodes
        assert (found.complaint, found.reported) == ("", True)


async def test_instance_that_becomes_unreadable_keeps_what_it_had() -> None:
    bench = ready()
    bench.api.put(VMIS, vmi("desk", "ml"))
    bench.api.put(PODS, launcher("desk", "ml", node="n1"))
    async with bench.running():
        (before,) = (await bench.look()).vms
        bench.api.put(VMIS, spoil(vmi("desk", "ml"), ("metadata", "annotations"), 7))
        seen = await bench.look()
        assert seen.vms == (before,)
        assert [one.name for one in seen.unread] == ["desk"]


async def test_instance_that_never_could_be_read_may_have_any_gpu_of_its_node() -> None:
    bench = ready()
    document = spoil(vmi("desk", "ml"), ("metadata", "annotations"), 7)
    document["status"] = {"nodeName": "n1"}
    bench.api.put(VMIS, document)
    async with bench.running():
        assert set(doubts(await bench.look())) == {"0000:00:04.0"}


async def test_budget_that_cannot_be_read_protects_the_pods_of_its_namespace() -> None:
    bench = ready()
    assigned = {"hami.io/vgpu-devices-allocated": f"{GPU_A},NVIDIA,3000,0:;"}
    for namespace in ("ml", "other"):
        bench.api.put(PODS, pod("train", namespace, node="n1", annotations=assigned))
    async with bench.running():
        assert all(one.evictable for one in (await bench.look()).pods)
        bench.api.put(PDBS, spoil(budget("b"), ("spec", "selector"), 7))
        evictable = {one.namespace: one.evictable for one in (await bench.look()).pods}
        assert evictable == {"ml": False, "other": True}


async def test_events_about_an_unread_object_find_it() -> None:
    bench = ready()
    async with bench.running():
        bench.api.put(PODS, spoil(pod("odd", "ml", node="n1"), ("metadata", "labels"), 7))
        await bench.look()
        [reference] = bench.cluster.view.references(Subject(SubjectKind.POD, "ml", "odd"))
        assert (reference.kind, reference.uid) == ("Pod", "uid-ml-odd")


class Meta(msgspec.Struct):
    name: str
    uid: str = ""


class Named(msgspec.Struct):
    metadata: Meta


class Sweep:
    """A mirror of three objects, of which the one called `bad` makes whatever looks at it raise."""

    PLACES = ("decode", "project", "apply")

    def __init__(self, at: str, error: Exception) -> None:
        self._at, self._error = at, error
        self.applied: dict[str, str] = {}
        self.unread: dict[str, Unread | None] = {}
        self.mirror: Reflector[Named, str] = Reflector(
            Bench().client,
            kinds.NODES,
            Named,
            project=self.project,
            apply=self.apply,
            apply_unread=self.unread.__setitem__,
        )
        if at == "decode":
            self.mirror._decoder = self  # type: ignore[assignment]

    def _fail(self, here: str, name: str) -> None:
        if (here, name) == (self._at, "bad"):
            raise self._error

    def decode(self, raw: bytes) -> Named:
        found = msgspec.json.decode(raw, type=Named)
        self._fail("decode", found.metadata.name)
        return found

    def project(self, found: Named) -> str:
        self._fail("project", found.metadata.name)
        return found.metadata.uid

    def apply(self, key: str, record: str | None) -> None:
        if record is None:
            self.applied.pop(key, None)
        else:
            self._fail("apply", key)
            self.applied[key] = record

    def read(self, document: Json) -> None:
        self.mirror._store(msgspec.Raw(json.dumps(document).encode()))


@pytest.mark.parametrize("kind", exceptions(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("at", Sweep.PLACES)
def test_whatever_is_raised_about_one_object_the_others_are_read(at: str, kind: type[Exception]) -> None:
    """At each place where something is made of it: its decoding, its reduction, its place among others."""
    sweep = Sweep(at, raised(kind))
    for name in ("good", "bad", "last"):
        sweep.read(node(name))
    assert set(sweep.applied) == set(sweep.mirror.records) == {"good", "last"}
    found = sweep.unread["bad"]
    assert found is not None
    assert found.why.startswith(kind.__name__)
    assert found.uid == "uid-bad"


@pytest.mark.parametrize("kind", exceptions(), ids=lambda kind: kind.__name__)
async def test_no_exception_in_what_a_mirror_does_ends_the_process(kind: type[Exception]) -> None:
    """Not even one that nobody can lay at an object's door: it is told, and tried again."""
    bench, failures = ready(), 3
    async with bench.running():
        mirror = next(r for r in bench.cluster.view._reflectors if r.kind is kinds.GPU_NODES)
        honest = mirror._identify

        def identify(raw: msgspec.Raw) -> Any:
            nonlocal failures
            if failures:
                failures -= 1
                raise raised(kind)
            return honest(raw)

        mirror._identify = identify  # type: ignore[method-assign]
        bench.api.put(GPU_NODES, gpu_node("n2"))
        assert not (await bench.look()).synced
        await bench.clock.advance(60)
        seen = await bench.look()
        assert seen.synced
        assert [found.name for found in seen.nodes] == ["n1", "n2"]
        assert failures == 0


@pytest.mark.parametrize("kind", exceptions(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("what", ["node_of", "sharing_state"])
async def test_exception_about_one_node_leaves_the_others_in_the_snapshot(
    what: str, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = getattr(assembly, what)

    def failing(one: Any, *rest: Any) -> Any:
        if one.metadata.name == "n2":
            raise raised(kind)
        return honest(one, *rest)

    monkeypatch.setattr(assembly, what, failing)
    bench = ready()
    annotations = {"hami.io/node-nvidia-register": register(GPU_A)}
    bench.api.put(NODES, node("n2", annotations=annotations))
    bench.api.put(GPU_NODES, gpu_node("n2"))
    async with bench.running():
        seen = await bench.look()
        assert seen.synced
        assert [(found.name, bool(found.complaint)) for found in seen.nodes] == [("n1", False), ("n2", True)]


async def test_machine_of_which_nothing_can_be_made_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(instance: Any, *rest: Any) -> Any:
        if instance.metadata.name == "odd":
            raise OverflowError("hostile")
        return honest(instance, *rest)

    honest = vms.vm_of_instance
    monkeypatch.setattr(vms, "vm_of_instance", failing)
    bench = ready()
    for name in ("desk", "odd"):
        bench.api.put(VMIS, vmi(name, "ml"))
        bench.api.put(PODS, launcher(name, "ml", node="n1" if name == "odd" else ""))
    async with bench.running():
        seen = await bench.look()
        assert [vm.name for vm in seen.vms] == ["desk"]
        assert [(one.name, one.node) for one in seen.unread] == [("odd", "n1")]
        assert set(doubts(seen)) == {"0000:00:04.0"}
