"""Builders of domain values and files: sensible defaults, every field can be overridden."""

import platform
from dataclasses import replace
from typing import Any

from poolmgr.domain.backoff import Backoff
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
from poolmgr.domain.plan import Move
from poolmgr.domain.reasons import Reason
from poolmgr.domain.sharing import RegisteredGpu, SharingState
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.kit.elf import MACHINES

A10 = "NVIDIA A10"
A10_RESOURCE = "nvidia.com/GA102GL_A10"
NOW = 1_800_000_000.0


def gpu(index: int = 0, node: str = "n1", mode: Mode | None = Mode.SHARED, **overrides: Any) -> Gpu:
    """GPU `index` of `node`, at PCI address 0000:00:0<index>.0, settled in `mode`."""
    defaults: dict[str, Any] = {
        "node": NodeName(node),
        "pci_address": PciAddress(f"0000:00:{index:02x}.0"),
        "model": A10,
        "memory_mib": 23028,
        "observed_mode": mode,
        "desired_mode": mode,
        "uuid": GpuUuid(f"GPU-{node}-{index}"),
        "resource_name": A10_RESOURCE,
        "pool": PoolName("a10"),
        "advertised": mode is Mode.PASSTHROUGH,
        "iommu_group": index + 1,
    }
    return Gpu(**{**defaults, **overrides})


def registered(gpu_: Gpu, **overrides: Any) -> RegisteredGpu:
    return replace(RegisteredGpu(gpu_.uuid, 10, gpu_.memory_mib, 100, gpu_.model, healthy=True), **overrides)


def sharing(*gpus: Gpu, **overrides: Any) -> SharingState:
    """HAMi 2.10 running with `gpus` registered."""
    defaults: dict[str, Any] = {
        "version": (2, 10),
        "plugin_wanted": True,
        "plugin_pods": 1,
        "plugin_ready": True,
        "allocatable": 10 * len(gpus),
        "registered": tuple(registered(g) for g in gpus),
        "handshake": "Requesting_2026-11-22 10:00:00",
        "asked_for": "plan1",
        "asked_at": NOW,
    }
    defaults["closing"] = overrides.get("fenced", frozenset())
    return SharingState(**{**defaults, **overrides})


def node(*gpus: Gpu, name: str = "n1", **overrides: Any) -> Node:
    """A Ready node; HAMi has its shared GPUs unless `sharing` says otherwise."""
    defaults: dict[str, Any] = {
        "name": NodeName(name),
        "gpus": gpus,
        "sharing": sharing(*(g for g in gpus if g.observed_mode is Mode.SHARED)),
        "revision": "1",
    }
    return Node(**{**defaults, **overrides})


def transition(
    *gpus: Gpu, to: Mode = Mode.PASSTHROUGH, step: Step = Step.FENCE, **overrides: Any
) -> Transition:
    defaults: dict[str, Any] = {
        "node": gpus[0].node,
        "plan_id": PlanId("plan1"),
        "epoch": LeaseEpoch(1),
        "to_mode": to,
        "devices": tuple(g.pci_address for g in gpus),
        "step": step,
        "started_at": NOW,
        "step_started_at": NOW,
        "reason": Reason.VM_WAITING.value,
    }
    return Transition(**{**defaults, **overrides})


def paused(address: PciAddress, seconds: float = 600.0, **overrides: Any) -> Backoff:
    """The GPU at `address`, or the node with WHOLE_NODE, rests for so long from NOW on."""
    defaults = {"failures": 1, "failed_at": NOW - 60, "until": NOW + seconds}
    return Backoff(
        address, Reason.BIND_FAILED.value, "the driver did not take it", **{**defaults, **overrides}
    )


def pool(name: str = "a10", **overrides: Any) -> Pool:
    return Pool(**{"name": PoolName(name), "models": (A10,), **overrides})


def pod(name: str = "p1", on: Gpu | None = None, **overrides: Any) -> SharedPod:
    """A vGPU pod, running on a slice of `on` or waiting."""
    defaults: dict[str, Any] = {
        "uid": WorkloadUid(f"uid-{name}"),
        "namespace": "ml",
        "name": name,
        "memory_mib": 3000,
        "cores_percent": 30,
        "created_at": NOW - 60,
        "node": on.node if on else None,
        "slices": (Slice(on.uuid, 3000, 30),) if on else (),
        "waiting_since": None if on else NOW - 60,
    }
    return SharedPod(**{**defaults, **overrides})


def vm(name: str = "vm1", on: tuple[Gpu, ...] = (), gpus: int = 1, **overrides: Any) -> Vm:
    """A VM that has the GPUs `on`, or waits for `gpus` of them."""
    defaults: dict[str, Any] = {
        "uid": WorkloadUid(f"uid-{name}"),
        "namespace": "desktops",
        "name": name,
        "claims": (DeviceClaim(A10_RESOURCE, len(on) or gpus),),
        "node": on[0].node if on else None,
        "devices": tuple((g.node, g.pci_address) for g in on),
        "created_at": NOW - 30,
        "waiting_since": None if on else NOW - 30,
        "launcher_uid": f"launcher-{name}",
    }
    return Vm(**{**defaults, **overrides})


def move(gpu_: Gpu, to: Mode | None = None, **overrides: Any) -> Move:
    defaults: dict[str, Any] = {
        "node": gpu_.node,
        "pci_address": gpu_.pci_address,
        "uuid": gpu_.uuid,
        "pool": gpu_.pool or PoolName("a10"),
        "model": gpu_.model,
        "to_mode": to or (gpu_.observed_mode or Mode.SHARED).other,
        "reason": Reason.VM_WAITING,
        "message": "for a waiting VM",
    }
    return Move(**{**defaults, **overrides})


def snapshot(*nodes: Node, **overrides: Any) -> ClusterSnapshot:
    defaults: dict[str, Any] = {
        "generation": Generation(1),
        "taken_at": NOW,
        "synced": True,
        "nodes": nodes,
        "pools": (pool(),),
    }
    return ClusterSnapshot(**{**defaults, **overrides})


def library(machine: int = MACHINES[platform.machine()]) -> bytes:
    """As much of a shared library as tells which machine it is for; `machine` is ELF's number, this one's by default."""
    return b"\x7fELF".ljust(18, b"\0") + machine.to_bytes(2, "little")
