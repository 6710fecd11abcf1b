"""What keeps a GPU where it is, whoever asks: an ordered list of rules; the first that denies gives the reason.

The facts about a GPU, its node and its pool. Planner, guard and webhooks ask here, so that nobody is promised a GPU that
the next one refuses. Not here: who uses the GPU (`usage`), what a plan adds up to (bounds, budgets, evictions), and what a
planner prefers. The order is from "not ours" through "not now", so that the sentence names what has to change first.
"""

from collections.abc import Iterator

from poolmgr.domain.backoff import gpu_rests, node_rests
from poolmgr.domain.fleet import Gpu, Node, Pool, RebalanceMode
from poolmgr.domain.modes import DevicePhase
from poolmgr.domain.occupancy import Occupancy
from poolmgr.domain.reasons import Reason

Denial = tuple[Reason, str]
"""Why something is not done: code and sentence."""


def name_of(gpu: Gpu) -> str:
    return f"GPU {gpu.pci_address} on {gpu.node}"


def unsure_words(gpus: int) -> str:
    """The end of a sentence on a maximum: GPUs that count although nobody knows whether they are on that side."""
    return (
        f", and counts {gpus} that may be there, as the agent of their node is silent in mid-move"
        if gpus
        else ""
    )


def node_denial(node: Node, now: float) -> Denial | None:
    """What keeps all GPUs of the node where they are."""
    return next(_of_node(node, now), None)


def gpu_denial(gpu: Gpu, node: Node, pool: Pool | None, now: float) -> Denial | None:
    """What keeps the GPU where it is, apart from its use. `pool`: None where no GPUPool selects it."""
    return next(_of_gpu(gpu, node, pool, now), None)


def lasting_denial(gpu: Gpu, node: Node, pool: Pool | None, now: float) -> Denial | None:
    """The same for somebody who can wait until the move under way is over and all have written what they know."""
    return next(_of_gpu(gpu, node, pool, now, lasting=True), None)


def doubt_denial(gpu: Gpu, node: Node, occupancy: Occupancy) -> Denial | None:
    """It cannot be told whether the GPU is in use."""
    why = occupancy.doubts_on(node).get(gpu.pci_address)
    return (Reason.CANNOT_TELL, f"{name_of(gpu)} stays as it is: {why}") if why else None


def _of_node(node: Node, now: float, *, lasting: bool = False) -> Iterator[Denial]:
    if not node.agent.heard:
        said = node.agent.verdict(node.name)
        yield said.reason, said.message
    if not node.ready:
        yield Reason.NODE_NOT_READY, f"node {node.name} or its agent is not ready"
    if node.complaint:
        yield Reason.INVALID_REQUEST, node.complaint
    if not node.neighbours.verdict:
        yield node.neighbours.verdict.reason, node.neighbours.verdict.message
    if not node.reported and not lasting:
        yield (
            Reason.NODE_NOT_REPORTED,
            f"the agent of {node.name} has not yet acknowledged the latest change to its spec",
        )
    if node.cordoned and not node.cordoned_by_us:
        yield (
            Reason.UNSUITABLE,
            f"node {node.name} is cordoned, and not by poolmgr; uncordon it so that its GPUs can move",
        )
    if (move := node.transition) is not None and not lasting:
        yield (
            Reason.NODE_IN_TRANSITION,
            f"node {node.name} is already moving {len(move.devices)} GPU(s) to {move.to_mode}; it makes one move at a time",
        )
    if node.backoffs or node.disturbances:
        rests = node_rests(node.name, node.backoffs, node.disturbances, now)
        if rests:
            yield rests.reason, rests.message


def _of_gpu(
    gpu: Gpu, node: Node, pool: Pool | None, now: float, *, lasting: bool = False
) -> Iterator[Denial]:
    if pool is None:
        yield Reason.NOT_IN_POOL, f"no GPUPool selects {name_of(gpu)}"
    move = node.transition
    its = move if move is not None and gpu.pci_address in move.devices else None
    if gpu.phase is DevicePhase.MOVING or its is not None:
        if not lasting:
            to = its.to_mode if its is not None else gpu.desired_mode
            doing = f"moving to {to}" if to else "changing its driver; it can be planned once it has one"
            yield Reason.GPU_MOVING, f"{name_of(gpu)} is {doing}"
    elif gpu.phase is not DevicePhase.READY:
        detail = f": {gpu.message}" if gpu.message else ""
        yield Reason.GPU_UNHEALTHY, f"{name_of(gpu)} is {gpu.phase}{detail}"
    elif gpu.observed_mode is None:
        yield (
            Reason.GPU_UNHEALTHY,
            f"{name_of(gpu)} is bound neither to vfio-pci nor to its vendor driver",
        )
    yield from _of_node(node, now, lasting=lasting)
    if gpu.desired_mode is None and not lasting:
        yield (
            Reason.NOT_ADOPTED,
            f"{name_of(gpu)} is new: it may move once poolmgr has recorded the mode that it is in",
        )
    elif gpu.desired_mode is not gpu.observed_mode and not lasting:
        yield Reason.GPU_MOVING, f"{name_of(gpu)} has not reached its desired mode {gpu.desired_mode} yet"
    if not gpu.rebind:
        yield gpu.rebind.reason, f"{name_of(gpu)} stays as it is: {gpu.rebind.message}"
    rests = gpu_rests(node.name, gpu.pci_address, node.backoffs, now)
    if rests:
        yield rests.reason, rests.message
    if gpu.iommu_group is None:
        yield Reason.NO_IOMMU, f"{name_of(gpu)} has no IOMMU group; enable the IOMMU on {node.name}"
    elif sum(other.iommu_group == gpu.iommu_group for other in node.gpus) > 1:
        yield (
            Reason.IOMMU_GROUP_SHARED,
            f"{name_of(gpu)} shares IOMMU group {gpu.iommu_group} with another GPU and cannot move alone",
        )
    # What a pool's spec says in newer words holds back an operator's request, too: it may be that GPUs move together.
    if pool is not None and (pool.rebalance is RebalanceMode.OFF or pool.complaint):
        yield Reason.POOL_OFF, pool.off_text
