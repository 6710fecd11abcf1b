"""What a GPU is doing: who uses it, whether it is on its way, leaving, ready or idle. The only definition of each.

Planner, guard, executor, agent report, census, webhooks and page all ask here, so that no two of them can tell
different stories about one GPU. Where it matters, the answer is the careful one: whatever has a GPU open is a user
of it, whichever mode the GPU is in.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from poolmgr.domain.demand import SharedPod, Vm
from poolmgr.domain.fleet import Gpu, Holder, Node, Pool, RebalanceMode, Transition
from poolmgr.domain.identifiers import PciAddress, WorkloadUid
from poolmgr.domain.modes import DevicePhase, Mode, Step
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason

SHARING_DAEMONS = ("nvidia-device-p", "vgpu-monitor", "vGPUmonitor")
"""Processes of HAMi itself that keep a shared GPU open (`/proc/<pid>/comm`, 15 characters). They end when
the executor detaches the node, so they do not use a GPU."""

YIELDING_DAEMONS = ("nvidia-persiste",)
"""Processes of the driver's own that let a GPU go when the agent asks, right before it looks once more and unbinds:
nvidia-persistenced, when persistence mode ends."""


class User(NamedTuple):
    """Somebody who uses a GPU."""

    name: str
    """As a sentence names it, e.g. `pod ml/train`."""
    pod: WorkloadUid = WorkloadUid("")
    """The pod with a slice of the GPU; empty for everybody else, so that no plan can say of them that they leave."""


def foreign_holders(gpu: Gpu) -> tuple[Holder, ...]:
    """The processes on the GPU that do not leave when it is detached from its side."""
    if gpu.observed_mode is not Mode.SHARED:
        return gpu.holders
    leaving = SHARING_DAEMONS + YIELDING_DAEMONS
    return tuple([h for h in gpu.holders if not h.service and not h.command.startswith(leaving)])


def unknown_holders(gpu: Gpu, pods: Sequence[SharedPod]) -> tuple[Holder, ...]:
    """Those of them that belong to none of `pods`, which have slices of the GPU."""
    if not gpu.holders:
        return ()
    known = {pod.uid for pod in pods}
    return tuple([h for h in foreign_holders(gpu) if not h.pod_uid or h.pod_uid not in known])


def held_by_others(gpu: Gpu, pods: Sequence[SharedPod]) -> bool:
    """True for a shared GPU that a process has open for which none of `pods` accounts: it may stay for ever."""
    # Most GPUs have no holder; a member of an enumeration takes long to look up (Python 3.11).
    return bool(gpu.holders) and gpu.observed_mode is Mode.SHARED and bool(unknown_holders(gpu, pods))


def in_use(gpu: Gpu, pods: Sequence[SharedPod], vm: Vm | None) -> bool:
    """True when anybody has the GPU: `vm`, one of `pods` (bound to the node yet or not: HAMi assigns a GPU before
    it binds), a pod that the kubelet gave it to, or a process that has it open."""
    return bool(pods or vm is not None or gpu.allocated_to or (gpu.holders and foreign_holders(gpu)))


def users_of(gpu: Gpu, pods: Sequence[SharedPod], vm: Vm | None) -> tuple[User, ...]:
    """Everybody who uses it; empty exactly when it is not `in_use`."""
    found = [User(f"VM {vm.namespace}/{vm.name}")] if vm is not None else []
    found += [User(f"pod {pod.namespace}/{pod.name}", pod.uid) for pod in pods]
    if vm is None:  # what the kubelet gave to a VM's pod, that pod's process has open
        if gpu.allocated_to:
            found.append(User(_named(Holder(0, "", gpu.allocated_to))))
        else:
            found += [User(_named(holder)) for holder in unknown_holders(gpu, pods)]
    return tuple(found)


def _named(holder: Holder) -> str:
    if not holder.pid:
        return f"the pod with UID {holder.pod_uid}, to which the kubelet gave it"
    return f"process {holder.command} (pid {holder.pid})"


class GpuState(StrEnum):
    """What a person wants to know of a GPU at a glance; exactly one holds."""

    IN_USE = "InUse"
    IDLE = "Idle"
    MOVING = "Moving"
    TROUBLE = "Trouble"
    WITHDRAWN = "Withdrawn"
    """Nobody uses it, and nobody new gets it: an operator says so, or its kubelet does not offer it."""


def state_of(gpu: Gpu, transition: Transition | None, used: bool, *, listed: bool = True) -> GpuState:
    """`transition` is its node's, `used` what `in_use` says; `listed`: `unlisted` has nothing to say."""
    on_its_way = is_on_its_way(gpu, transition)
    unusable = unusable_state(gpu.phase, gpu.observed_mode, on_its_way)
    if unusable is not None or used:
        return unusable or GpuState.IN_USE
    if gpu.closed is not None:
        return GpuState.WITHDRAWN
    return GpuState.IDLE if listed else GpuState.TROUBLE


def not_listed(gpu: Gpu, node: Node) -> Verdict | None:
    """Why no pod can get a slice of the GPU, which is on its driver for them: HAMi is there and does not list it. None for any
    other, and for those without a UUID, as of other vendors than HAMi's. While HAMi's plugin restarts for a move that is so of
    all GPUs of a node: see `unlisted`."""
    sharing = node.sharing
    ready = gpu.observed_mode is Mode.SHARED and gpu.phase is DevicePhase.READY
    if sharing is None or not ready or not gpu.uuid:
        return None
    entry = next((entry for entry in sharing.registered if entry.uuid == gpu.uuid), None)
    if entry is not None and entry.healthy:
        return None
    plugin = f"HAMi's device plugin on {node.name}"
    if entry is not None:
        why, remedy = "HAMi lists it as unhealthy", f"see the log of {plugin}, and the kernel's"
    elif not sharing.plugin_wanted:
        why = f"{plugin} is not to run"
        remedy = "give the node the label that the plugin's DaemonSet selects"
    else:
        why = "HAMi does not list it"
        remedy = f"see the log of {plugin} and whether its configuration leaves GPUs out, then delete its pod: it looks for GPUs when it starts"
    return Verdict(False, Reason.NOT_LISTED, f"{why}, so no pod can get a slice of it; {remedy}")


def unlisted(gpu: Gpu, node: Node) -> Verdict | None:
    """The same for a GPU that stays where it is, on a node where no move keeps HAMi's plugin away: it is no capacity."""
    move = node.transition
    if move is not None and not (is_parked(node) and node.sharing is not None and node.sharing.plugin_ready):
        return None
    return None if is_on_its_way(gpu, move) else not_listed(gpu, node)


def unusable_state(phase: DevicePhase, mode: Mode | None, on_its_way: bool) -> GpuState | None:
    """TROUBLE for a GPU that needs attention, MOVING for one between the modes, None for one that is ready: on the
    driver of its mode, and staying there."""
    if phase in (DevicePhase.QUARANTINED, DevicePhase.FOREIGN):
        return GpuState.TROUBLE
    if on_its_way or phase is DevicePhase.MOVING:
        return GpuState.MOVING
    if phase is DevicePhase.UNBOUND or mode is None:
        return GpuState.TROUBLE
    return None


def is_on_its_way(gpu: Gpu, transition: Transition | None) -> bool:
    """True while a move names it, and while it is not where it is wanted (as after a reboot, until the move that
    brings it back is begun)."""
    if transition is not None and gpu.pci_address in transition.devices:
        return True
    return gpu.observed_mode is not None and gpu.desired_mode not in (None, gpu.observed_mode)


def is_in_flight(gpu: Gpu, node: Node) -> bool:
    """True while it counts against its pool's `maxInFlight`: it is `MOVING`, and somebody there can bring it on.

    A GPU in trouble does not move, and nothing of a node moves whose agent is not heard, which may be never: neither
    keeps the rest of the pool where it is.
    """
    move = node.transition
    if unusable_state(gpu.phase, gpu.observed_mode, is_on_its_way(gpu, move)) is not GpuState.MOVING:
        return False
    if move is None:  # it is moved back once its node allows it
        return node.ready and not node.complaint and bool(node.neighbours.verdict)
    return not is_parked(node)


def is_leaving(gpu: Gpu, transition: Transition | None) -> bool:
    """True while it is on its way out of the shared side, so that no new pod may be placed on it.

    A GPU that has arrived in Passthrough leaves no more: HAMi no longer knows it, and naming it in a pod would keep
    that pod from it for good once it comes back.
    """
    moving = transition is not None and gpu.pci_address in transition.devices
    return gpu.desired_mode is Mode.PASSTHROUGH and (moving or gpu.observed_mode is not Mode.PASSTHROUGH)


def is_parked(node: Node) -> bool:
    """True while a move waits for its agent to say where the GPUs are, with HAMi and the node given back: it waits at Attach
    since the very instant at which the node began to rest for that reason, which nothing else has."""
    move = node.transition
    return (
        move is not None
        and move.step is Step.ATTACH
        and any(b.failed_at == move.step_started_at and b.reason == Reason.MOVE_PARKED for b in node.backoffs)
    )


def has_said(node: Node) -> bool:
    """Its agent is heard, and has reported since it last read its spec."""
    return node.agent.heard and node.reported


def on_either_side(node: Node) -> tuple[PciAddress, ...]:
    """GPUs of which nobody knows on which side they are: the node's move is parked, and its agent has not said. Each side's
    maximum counts them and no minimum does."""
    move = node.transition
    return move.devices if move is not None and is_parked(node) and not has_said(node) else ()


def is_out_of_use(gpu: Gpu, used: bool) -> bool:
    """True for one that nobody has and nobody can be given before a person has acted, and for one that is there by its agent's
    word alone, which its use then is as well. It counts on neither side of its pool, for a minimum or a maximum. `used`: what
    `in_use` says."""
    withdrawn = gpu.closed.reason if gpu.closed is not None else None
    if used or withdrawn is Reason.NOT_OFFERED:
        return withdrawn is Reason.NOT_OFFERED
    broken = gpu.phase in (DevicePhase.QUARANTINED, DevicePhase.FOREIGN)
    return broken or withdrawn is Reason.GPU_QUARANTINED


def is_closed_to_pods(gpu: Gpu, transition: Transition | None) -> bool:
    """True while no new pod may be placed on it: it leaves the shared side, or an operator withdraws it from there."""
    return is_leaving(gpu, transition) or (gpu.closed is not None and gpu.observed_mode is Mode.SHARED)


def is_open(node: Node) -> bool:
    """True where the scheduler places workloads, or will once the move under way is over."""
    return node.ready and (not node.cordoned or node.cordoned_by_us)


def moves_by_itself(pool: Pool) -> bool:
    """True where poolmgr carries its own plans out."""
    return pool.rebalance is RebalanceMode.AUTOMATIC
