"""May this GPU be moved? An ordered list of rules; the first that denies gives the reason.

A rule looks at one GPU, its node and its pool and answers with a reason and a sentence, or with nothing. The
order is from "not ours" through "not now" to "in use", so that the sentence names what has to change first.
"""

from collections.abc import Sequence

from poolmgr.domain.backoff import gpu_rests, node_rests
from poolmgr.domain.demand import SharedPod
from poolmgr.domain.fleet import EvictionRule, Gpu, Node, Pool, RebalanceMode
from poolmgr.domain.modes import DevicePhase, Mode
from poolmgr.domain.reasons import Reason
from poolmgr.domain.usage import unknown_holders
from poolmgr.planner.inventory.usage import Usage

Denial = tuple[Reason, str]
"""Why something is not done: code and sentence."""


def name_of(gpu: Gpu) -> str:
    return f"GPU {gpu.pci_address} on {gpu.node}"


def node_denial(node: Node, now: float) -> Denial | None:
    """What keeps the whole node out of plans."""
    if not node.agent.heard:
        said = node.agent.verdict(node.name)
        return said.reason, said.message
    if not node.ready:
        return Reason.NODE_NOT_READY, f"node {node.name} or its agent is not ready"
    if not node.neighbours.verdict:
        return node.neighbours.verdict.reason, node.neighbours.verdict.message
    if not node.reported:
        return (
            Reason.NODE_NOT_REPORTED,
            f"the agent of {node.name} has not yet acknowledged the latest change to its spec",
        )
    if node.cordoned and not node.cordoned_by_us:
        return (
            Reason.UNSUITABLE,
            f"node {node.name} is cordoned, and not by poolmgr; uncordon it so that its GPUs can move",
        )
    if node.transition is not None:
        move = node.transition
        return (
            Reason.NODE_IN_TRANSITION,
            f"node {node.name} is already moving {len(move.devices)} GPU(s) to {move.to_mode}; it makes one move at a time",
        )
    if node.backoffs or node.disturbances:
        rests = node_rests(node.name, node.backoffs, node.disturbances, now)
        if rests:
            return rests.reason, rests.message
    return None


def not_in_pool(gpu: Gpu) -> Denial:
    return Reason.NOT_IN_POOL, f"no GPUPool selects {name_of(gpu)}"


def gpu_denial(gpu: Gpu, node: Node, pool: Pool, now: float) -> Denial | None:
    """What keeps the GPU where it is, apart from its use."""
    move = node.transition
    if gpu.phase is DevicePhase.MOVING or (move is not None and gpu.pci_address in move.devices):
        to = move.to_mode if move is not None else gpu.desired_mode
        return Reason.GPU_MOVING, f"{name_of(gpu)} is moving to {to}"
    if gpu.phase is DevicePhase.READY and gpu.observed_mode is None:
        return (
            Reason.GPU_UNHEALTHY,
            f"{name_of(gpu)} is bound neither to vfio-pci nor to its vendor driver",
        )
    if gpu.phase is not DevicePhase.READY or gpu.observed_mode is None:
        detail = f": {gpu.message}" if gpu.message else ""
        return Reason.GPU_UNHEALTHY, f"{name_of(gpu)} is {gpu.phase}{detail}"
    denial = node_denial(node, now)
    if denial is not None:
        return denial
    if not gpu.settled:
        return Reason.GPU_MOVING, f"{name_of(gpu)} has not reached its desired mode {gpu.desired_mode} yet"
    if not gpu.rebind:
        return gpu.rebind.reason, f"{name_of(gpu)} stays as it is: {gpu.rebind.message}"
    rests = gpu_rests(node.name, gpu.pci_address, node.backoffs, now)
    if rests:
        return rests.reason, rests.message
    if gpu.iommu_group is None:
        return Reason.NO_IOMMU, f"{name_of(gpu)} has no IOMMU group; enable the IOMMU on {node.name}"
    if sum(other.iommu_group == gpu.iommu_group for other in node.gpus) > 1:
        return (
            Reason.IOMMU_GROUP_SHARED,
            f"{name_of(gpu)} shares IOMMU group {gpu.iommu_group} with another GPU and cannot move alone",
        )
    if pool.rebalance is RebalanceMode.OFF:
        return Reason.POOL_OFF, f"rebalancing of pool {pool.name} is Off"
    return None


def use_denial(gpu: Gpu, usage: Usage) -> Denial | None:
    """The GPU is in use."""
    if usage.in_use(gpu):
        return Reason.GPU_BUSY, f"{name_of(gpu)} is in use by {usage.why_busy(gpu)}"
    return None


def doubt_denial(gpu: Gpu, node: Node, usage: Usage) -> Denial | None:
    """It cannot be told whether the GPU is in use."""
    why = usage.doubts_on(node).get(gpu.pci_address)
    return (Reason.CANNOT_TELL, f"{name_of(gpu)} stays as it is: {why}") if why else None


def recommendation_denial(pool: Pool, what: str) -> Denial:
    """To somebody who waits: moving `what` would serve it, and who can have it moved."""
    return (
        Reason.RECOMMEND_ONLY,
        f"poolmgr recommends moving {what}, but pool {pool.name} is in Recommend mode; an administrator can request the "
        "move, or set rebalance.mode to Automatic",
    )


def denial_of(gpu: Gpu, node: Node, pool: Pool, usage: Usage, now: float) -> Denial | None:
    """The first rule that keeps this one GPU where it is at `now`, with its sentence."""
    return gpu_denial(gpu, node, pool, now) or use_denial(gpu, usage) or doubt_denial(gpu, node, usage)


RESTART_SECONDS = 1_800.0
"""What ending one pod costs beside the work that it had done: it waits, is placed and loads its data
once more, and somebody may have to look at it.
Fewer and larger pods are ended first because of it."""


def lost_work(gpu: Gpu, pool: Pool, usage: Usage, now: float) -> tuple[float, Sequence[SharedPod]] | None:
    """GPU-seconds lost if the pool's eviction rule is used on a shared GPU, and whom; None if it forbids it.

    Every pod on it must be marked best effort by its owner and be admitted by its disruption budget now.
    """
    pods = usage.pods_on(gpu)
    if pool.eviction is not EvictionRule.BEST_EFFORT or gpu.observed_mode is not Mode.SHARED or not pods:
        return None
    for pod in pods:
        if not pod.best_effort or not pod.evictable or pod.terminating:
            return None
    if unknown_holders(gpu, pods):
        return None
    lost = RESTART_SECONDS * len(pods)
    for pod in pods:
        begun = pod.started_at if pod.started_at is not None else now
        lost += max(0.0, now - begun) * sum(
            _share(gpu, part.memory_mib, part.cores_percent) for part in pod.slices
        )
    return lost, pods


def _share(gpu: Gpu, memory_mib: int, cores_percent: int) -> float:
    return max(memory_mib / gpu.memory_mib if gpu.memory_mib else 0.0, cores_percent / 100)
