"""Snapshots with defaults: a test names only what matters to it."""

from dataclasses import replace
from typing import Any

from poolmgr.domain.demand import DeviceClaim, SharedPod, Slice, Vm
from poolmgr.domain.fleet import Gpu, Node, Pool, Transition
from poolmgr.domain.identifiers import (
    Generation,
    GpuUuid,
    LeaseEpoch,
    NodeName,
    PciAddress,
    PlanId,
    PoolName,
    WorkloadUid,
)
from poolmgr.domain.modes import Mode, Step
from poolmgr.domain.sharing import RegisteredGpu, SharingState
from poolmgr.domain.snapshot import ClusterSnapshot

A10 = "NVIDIA A10"
RESOURCE = "nvidia.com/GA102GL_A10"
NOW = 10_000.0


def gpu(node: str, index: int, mode: Mode = Mode.SHARED, **overrides: Any) -> Gpu:
    base = Gpu(
        node=NodeName(node),
        pci_address=PciAddress(f"0000:{index:02x}:00.0"),
        model=A10,
        memory_mib=24_000,
        observed_mode=mode,
        uuid=GpuUuid(f"GPU-{node}-{index}"),
        resource_name=RESOURCE,
        desired_mode=mode,
        pool=PoolName("p"),
        iommu_group=index,
        advertised=mode is Mode.PASSTHROUGH,
    )
    return replace(base, **overrides)


def node(name: str, modes: str, **overrides: Any) -> Node:
    """`modes` has one letter a GPU: `s` shared, `p` passthrough. Shared ones are registered with HAMi."""
    gpus = overrides.pop("gpus", None) or tuple(
        gpu(name, n, Mode.SHARED if letter == "s" else Mode.PASSTHROUGH) for n, letter in enumerate(modes)
    )
    registered = tuple(
        RegisteredGpu(g.uuid, 10, g.memory_mib, 100, g.model, True)
        for g in gpus
        if g.observed_mode is Mode.SHARED
    )
    sharing = SharingState((2, 10), True, 1, True, 10 * len(registered), registered)
    return replace(Node(NodeName(name), gpus, sharing=sharing), **overrides)


def moving(name: str, *devices: int, to: Mode = Mode.PASSTHROUGH) -> Transition:
    addresses = tuple(PciAddress(f"0000:{n:02x}:00.0") for n in devices)
    return Transition(NodeName(name), PlanId("p0"), LeaseEpoch(1), to, addresses, Step.DRAIN, 0.0, 0.0)


def vm(name: str, gpus: int = 1, on: tuple[str, int] | None = None, **overrides: Any) -> Vm:
    """`on` = (node, index of its GPU) for one that runs."""
    devices = ((NodeName(on[0]), f"0000:{on[1]:02x}:00.0"),) if on else ()
    base = Vm(
        uid=WorkloadUid(f"vm-{name}"),
        namespace="desktops",
        name=name,
        claims=(DeviceClaim(RESOURCE, gpus),),
        node=NodeName(on[0]) if on else None,
        created_at=100.0,
        waiting_since=None if on else 100.0,
        launcher_uid=f"launcher-{name}",
        devices=devices,
    )
    return replace(base, **overrides)


def pod(name: str, on: tuple[str, int] | None = None, *, cores: int = 50, **overrides: Any) -> SharedPod:
    memory = 24_000 * cores // 100
    base = SharedPod(
        uid=WorkloadUid(f"pod-{name}"),
        namespace="notebooks",
        name=name,
        memory_mib=memory,
        cores_percent=cores,
        node=NodeName(on[0]) if on else None,
        slices=(Slice(GpuUuid(f"GPU-{on[0]}-{on[1]}"), memory, cores),) if on else (),
        created_at=200.0,
        started_at=300.0 if on else None,
        waiting_since=None if on else 200.0,
    )
    return replace(base, **overrides)


def pool(**overrides: Any) -> Pool:
    return replace(Pool(PoolName("p"), max_in_flight=100), **overrides)


def snapshot(*nodes: Node, **overrides: Any) -> ClusterSnapshot:
    """`vms`, `pods`, `pools` as keywords; one open pool by default."""
    base = ClusterSnapshot(Generation(7), NOW, True, nodes=nodes, pools=(pool(),))
    return replace(base, **overrides)
