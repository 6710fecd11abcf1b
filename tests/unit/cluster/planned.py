"""From objects of the API server to what the planner makes of them, on the way that the manager goes."""

from typing import Any

from poolmgr import wire
from poolmgr.cluster.observe.assembly import Assembly
from poolmgr.cluster.observe.pods import facts_of
from poolmgr.domain.modes import Mode
from poolmgr.domain.plan import Plan, SubjectKind
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.planner.plan import PoolPlanner
from tests.unit.cluster.builders import A10, CREATED_AT, Json, as_wire, device, gpu_node, node, pool, register

NOW = CREATED_AT + 3_600.0
SCHEDULERS = frozenset({"hami-scheduler", "default-scheduler"})


def host(name: str, modes: str = "s", **over: Any) -> tuple[Json, Json]:
    """A Node and its GPUNode; `modes` has a letter for each GPU: `s` shared, `p` free in passthrough, `v` with a VM.
    Device `i` is at PCI address 0000:00:0i.0 with UUID GPU-<name>-<i>."""
    devices = [
        device(
            f"0000:00:{index:02x}.0",
            **{
                "uuid": f"GPU-{name}-{index}",
                "mode": "Shared" if letter == "s" else "Passthrough",
                "driver": "nvidia" if letter == "s" else "vfio-pci",
                "advertised": letter != "s",
                "iommuGroup": index + 1,
                "allocatedTo": "uid-somebody" if letter == "v" else "",
                **over.get("devices", {}).get(index, {}),
            },
        )
        for index, letter in enumerate(modes)
    ]
    shared = [d["uuid"] for d in devices if d["mode"] == "Shared"]
    labels = {"kubernetes.io/hostname": name, "gpu": "on", **over.get("labels", {})}
    annotations = (
        {"hami.io/node-nvidia-register": over.get("register") or register(*shared)} if shared else {}
    )
    wanted = {
        "devices": [{"pciAddress": d["pciAddress"], "mode": d["mode"], "planId": "p0"} for d in devices]
    }
    found = node(name, labels=labels, annotations=annotations, allocatable=over.get("allocatable", {}))
    found["spec"].update(over.get("spec", {}))
    return found, gpu_node(name, devices, spec=wanted)


def observed(*documents: Json | tuple[Json, ...], **over: Any) -> ClusterSnapshot:
    """The snapshot of these objects, with an open pool of every model unless one is given."""
    flat = [d for group in documents for d in (group if isinstance(group, tuple) else (group,))]
    if not any(d["kind"] == "GPUPool" for d in flat):
        flat.append(pool(models=[], rebalance={"maxInFlight": 10}))
    cluster = over.get("assembly") or Assembly()
    for document in flat:
        apply_to(cluster, document)
    snapshot: ClusterSnapshot = cluster.snapshot(over.get("now", NOW), synced=True)
    return snapshot


def apply_to(cluster: Assembly, document: Json) -> None:
    """As the view does with an object that is new or has changed."""
    meta = document["metadata"]
    key = f"{meta['namespace']}/{meta['name']}" if "namespace" in meta else meta["name"]
    if document["kind"] == "Pod":
        cluster.apply_pod(key, facts_of(as_wire(document, wire.Pod), cluster.hami.config, SCHEDULERS))
        return
    kinds: dict[str, tuple[Any, Any]] = {
        "Node": (cluster.apply_node, wire.Node),
        "GPUNode": (cluster.apply_gpu_node, wire.GpuNode),
        "GPUPool": (cluster.apply_pool, wire.GpuPool),
        "VirtualMachine": (cluster.apply_machine, wire.VirtualMachine),
        "VirtualMachineInstance": (cluster.apply_instance, wire.VirtualMachineInstance),
        "PersistentVolumeClaim": (cluster.apply_claim, wire.PersistentVolumeClaim),
        "PersistentVolume": (cluster.apply_volume, wire.PersistentVolume),
        "StorageClass": (cluster.apply_storage_class, wire.StorageClass),
        "DaemonSet": (cluster.apply_plugin, wire.DaemonSet),
        "Deployment": (cluster.apply_scheduler, wire.Deployment),
    }
    apply, kind = kinds[document["kind"]]
    apply(key, as_wire(document, kind))


def plan_of(*documents: Json | tuple[Json, ...], **over: Any) -> Plan:
    return PoolPlanner().decide(observed(*documents, **over), None).plan


def moved(plan: Plan) -> list[str]:
    """`node/last two digits of the PCI slot` with `>p` or `>s`."""
    letters = {Mode.PASSTHROUGH: "p", Mode.SHARED: "s"}
    return sorted(f"{m.node}/{m.pci_address[8:10]}>{letters[m.to_mode]}" for m in plan.moves)


def answer_to(plan: Plan, name: str) -> tuple[str, str]:
    """Reason and sentence for a workload."""
    [said] = [
        (str(r.reason), r.message)
        for r in plan.refusals
        if r.subject.kind in (SubjectKind.VM, SubjectKind.POD) and r.subject.name == name
    ]
    return said


__all__ = ["A10", "NOW", "apply_to", "host", "moved", "observed", "plan_of", "answer_to"]
