"""May a plan move this GPU? What `domain.denials` says of it, then whether it is in use, and what an eviction would cost."""

from collections.abc import Sequence

from poolmgr.domain.demand import SharedPod
from poolmgr.domain.denials import Denial, doubt_denial, gpu_denial, name_of
from poolmgr.domain.fleet import EvictionRule, Gpu, Node, Pool
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.domain.usage import unknown_holders
from poolmgr.planner.inventory.usage import Usage


def use_denial(gpu: Gpu, usage: Usage) -> Denial | None:
    """The GPU is in use."""
    if usage.in_use(gpu):
        return Reason.GPU_BUSY, f"{name_of(gpu)} is in use by {usage.why_busy(gpu)}"
    return None


def recommendation_denial(pool: Pool, what: str) -> Denial:
    """To somebody who waits: moving `what` would serve it, and who can have it moved."""
    return (
        Reason.RECOMMEND_ONLY,
        f"poolmgr recommends moving {what}, but pool {pool.name} is in Recommend mode; an administrator can request the "
        "move, or set rebalance.mode to Automatic",
    )


def denial_of(gpu: Gpu, node: Node, pool: Pool | None, usage: Usage, now: float) -> Denial | None:
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
