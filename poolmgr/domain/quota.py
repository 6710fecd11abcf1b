"""What a namespace may hold of a pool, and what it holds: whole cards of VMs and shares of pods counted together, in GPUs.

Webhook and planner ask the same questions here. What counts against a quota is what runs and what is admitted: whatever the
scheduler may place any moment. What waits behind our admission gate does not count yet.
"""

from collections.abc import Iterable

from poolmgr.domain.fleet import Pool, Quota
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason

ROUNDING = 1e-6
"""Of a GPU. Shares of cards do not add up exactly."""


def quota_verdict(pool: Pool, quota: Quota, used: float, asked: float) -> Verdict:
    """Whether a namespace may have `asked` GPUs of the pool beside the `used` ones that count already."""
    most = quota.max_gpus
    if most is None or used + asked <= most + ROUNDING:
        return Verdict(True, Reason.ADMITTED)
    # Without what it has: a sentence about somebody who waits is told again whenever it is another.
    return Verdict(
        False,
        Reason.QUOTA_EXCEEDED,
        f"it would take namespace {quota.namespace} over its quota of {gpus_text(most)} GPU(s) in pool {pool.name}",
    )


def gpus_text(gpus: float) -> str:
    """Two decimals at most."""
    return f"{round(gpus, 2):g}"


def limited_namespaces(pools: Iterable[Pool]) -> frozenset[str]:
    """Those that may have only so much of some pool."""
    return frozenset(quota.namespace for pool in pools for quota in pool.quotas if quota.max_gpus is not None)
