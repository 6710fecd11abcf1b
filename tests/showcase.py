"""A small fleet to show: two nodes, both modes, one move under way, one GPU in trouble, people who wait."""

from typing import Any

from poolmgr.domain.demand import DeviceClaim, SharedPod, Slice, Vm
from poolmgr.domain.fleet import Gpu, Node, Pool, SideLimits, Transition
from poolmgr.domain.identifiers import Generation, GpuUuid, LeaseEpoch, NodeName, PciAddress, PlanId, PoolName
from poolmgr.domain.identifiers import WorkloadUid as Uid
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.plan import Move, Plan, Refusal, Subject, SubjectKind, Target
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot

A10 = "NVIDIA A10"
A10_RESOURCE = "nvidia.com/GA102GL_A10"
NOW = 1_800_000_000.0


def gpu(node: str, slot: int, mode: Mode | None = Mode.SHARED, **changes: Any) -> Gpu:
    """GPU number `slot` of `node`, ready and idle in `mode`."""
    fields: dict[str, Any] = {
        "node": NodeName(node),
        "pci_address": PciAddress(f"0000:{slot:02x}:00.0"),
        "model": A10,
        "memory_mib": 24_576,
        "observed_mode": mode,
        "desired_mode": mode,
        "uuid": GpuUuid(f"GPU-{node}-{slot}"),
        "resource_name": A10_RESOURCE,
        "pool": PoolName("desktops"),
        "mode_since": NOW - 3_600,
        "advertised": mode is Mode.PASSTHROUGH,
    }
    return Gpu(**(fields | changes))


def pool(name: str = "desktops", **changes: Any) -> Pool:
    fields: dict[str, Any] = {
        "models": (A10,),
        "passthrough": SideLimits(min=0, max=6),
        "shared": SideLimits(min=1),
        "generation": 3,
    }
    return Pool(PoolName(name), **(fields | changes))


def vm(name: str, **changes: Any) -> Vm:
    fields: dict[str, Any] = {
        "uid": Uid(f"uid-{name}"),
        "namespace": "cad",
        "name": name,
        "claims": (DeviceClaim(A10_RESOURCE, 1),),
        "created_at": NOW - 300,
    }
    return Vm(**(fields | changes))


def pod(name: str, *, on: Gpu | None = None, **changes: Any) -> SharedPod:
    """A pod with 6 GiB and 25 % of `on`, or one that waits."""
    fields: dict[str, Any] = {
        "uid": Uid(f"uid-{name}"),
        "namespace": "ml",
        "name": name,
        "memory_mib": 6_144,
        "cores_percent": 25,
        "node": on.node if on else None,
        "slices": (Slice(on.uuid, 6_144, 25),) if on else (),
        "waiting_since": None if on else NOW - 90,
    }
    return SharedPod(**(fields | changes))


def fleet(**changes: Any) -> ClusterSnapshot:
    """Eight GPUs: 2 in VMs, 2 shared and used, 1 shared idle, 1 passthrough idle, 1 moving, 1 in trouble."""
    passthrough = Mode.PASSTHROUGH
    in_vm = [gpu("rack-1", 1, passthrough, allocated_to="l1"), gpu("rack-1", 2, passthrough)]
    shared = [gpu("rack-1", 3), gpu("rack-2", 1)]
    moving = gpu("rack-2", 2, desired_mode=passthrough, phase=DevicePhase.READY)
    broken = gpu(
        "rack-2",
        3,
        None,
        desired_mode=Mode.SHARED,
        phase=DevicePhase.QUARANTINED,
        reason=Reason.UNBIND_TIMED_OUT.value,
        message="the driver did not let go within 60 s; look at the node's kernel log",
    )
    transition = Transition(
        node=NodeName("rack-2"),
        plan_id=PlanId("ab12cd34"),
        epoch=LeaseEpoch(3),
        to_mode=passthrough,
        devices=(moving.pci_address,),
        step=Step.DRAIN,
        started_at=NOW - 40,
        step_started_at=NOW - 20,
        reason=Reason.VM_WAITING.value,
        message="for VM cad/ada-workstation, which waits for an A10",
    )
    fields: dict[str, Any] = {
        "generation": Generation(41),
        "taken_at": NOW,
        "synced": True,
        "nodes": (
            Node(NodeName("rack-1"), (*in_vm, shared[0], gpu("rack-1", 4))),
            Node(
                NodeName("rack-2"),
                (shared[1], moving, broken, gpu("rack-2", 4, passthrough)),
                transition=transition,
            ),
        ),
        "pools": (pool(),),
        "vms": (
            vm("grace", node=NodeName("rack-1"), launcher_uid="l1"),
            vm("linus", node=NodeName("rack-1"), devices=((NodeName("rack-1"), in_vm[1].pci_address),)),
            vm("ada-workstation", waiting_since=NOW - 45),
        ),
        "pods": (pod("notebook-1", on=shared[0]), pod("notebook-2", on=shared[1]), pod("training-7")),
    }
    return ClusterSnapshot(**(fields | changes))


def plan(**changes: Any) -> Plan:
    """One move, one VM that waits, one GPU left alone."""
    fields: dict[str, Any] = {
        "plan_id": PlanId("ab12cd34"),
        "snapshot_generation": Generation(41),
        "made_at": NOW,
        "moves": (
            Move(
                node=NodeName("rack-2"),
                pci_address=PciAddress("0000:02:00.0"),
                uuid=GpuUuid("GPU-rack-2-2"),
                pool=PoolName("desktops"),
                model=A10,
                to_mode=Mode.PASSTHROUGH,
                reason=Reason.VM_WAITING,
                message="VM cad/ada-workstation waits for an A10; this one is idle",
            ),
        ),
        "refusals": (
            Refusal(
                Subject(SubjectKind.GPU, "rack-1", "0000:03:00.0"),
                Reason.GPU_BUSY,
                "in use by pod ml/notebook-1",
            ),
            Refusal(
                Subject(SubjectKind.VM, "cad", "ada-workstation"),
                Reason.MOVE_UNDER_WAY,
                "an A10 of rack-2 is on its way",
            ),
        ),
        "targets": (Target(PoolName("desktops"), A10, 4, 3, Reason.VM_WAITING, "one more VM than cards"),),
    }
    return Plan(**(fields | changes))
