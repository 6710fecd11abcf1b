"""What nobody could exceed: bounds from the demand alone, with the future known and flips free.

U0  capacity: at each moment no more than the GPUs there are, nor than what is asked for.
U1  sizing: the least cost of any sequence of sizes, exact by dynamic programming over sizes.
U2  admission: VMs' sessions are intervals fixed in time, pods can wait. Serving VMs first and pods with what is
    left, each as early as it can, is optimal for the relaxation in which GPUs are divisible and a pod may be
    paused; every real schedule is one of those, so no policy serves more.
"""

import numpy as np
import numpy.typing as npt

from bench.policies.lcp import LcpSettings, advance, limits, step_cost
from bench.replay.demand import Demand

STEP_SECONDS = 60.0

Floats = npt.NDArray[np.float64]


def _integral(start: Floats, end: Floats, weight: Floats, edges: Floats) -> Floats:
    """For each edge t, the sum of weight × time that the intervals have spent before t."""
    order = np.argsort(start)
    begun = _cumulative(start[order], weight[order], edges)
    order = np.argsort(end)
    ended = _cumulative(end[order], weight[order], edges)
    return begun - ended


def _cumulative(at: Floats, weight: Floats, edges: Floats) -> Floats:
    """Sum of weight × max(0, t - at) for each edge t; `at` sorted."""
    count = np.searchsorted(at, edges, side="right")
    sums = np.concatenate([[0.0], np.cumsum(weight)])
    moments = np.concatenate([[0.0], np.cumsum(weight * at)])
    total: Floats = sums[count] * edges - moments[count]
    return total


def _edges(demand: Demand) -> Floats:
    return np.arange(0.0, demand.horizon + STEP_SECONDS, STEP_SECONDS)


def _vm_means(demand: Demand, edges: Floats) -> Floats:
    """Mean GPUs that sessions want in each step."""
    begin, end = np.maximum(demand.vm_start, 0.0), np.maximum(demand.vm_used_until, 0.0)
    spent = _integral(begin, end, demand.vm_gpus.astype(np.float64), edges)
    means: Floats = np.diff(spent) / STEP_SECONDS
    return means


def _pod_means(demand: Demand, edges: Floats) -> Floats:
    """Mean GPUs' worth of pods present in each step if none had to wait."""
    begin = np.maximum(demand.pod_start, 0.0)
    end = np.maximum(demand.pod_start + demand.pod_seconds, 0.0)
    means: Floats = np.diff(_integral(begin, end, demand.pod_milli / 1_000, edges)) / STEP_SECONDS
    return means


def capacity_bound(demand: Demand, gpus: int) -> float:
    """U0: mean of min(GPUs, VMs + pods present if none had to wait), as a share of GPUs × time."""
    edges = _edges(demand)
    wanted = _vm_means(demand, edges) + _pod_means(demand, edges)
    return float(np.minimum(wanted, gpus).mean() / gpus)


def admission_bound(demand: Demand, gpus: int) -> float:
    """U2: the greatest goodput, as a share of GPUs × time."""
    edges = _edges(demand)
    vms = np.minimum(_vm_means(demand, edges), gpus)
    begin = np.maximum(demand.pod_start, 0.0)
    # A pod cannot have done more by t than run from its arrival on.
    most = _integral(begin, begin + demand.pod_seconds, demand.pod_milli / 1_000, edges)[1:]
    done, room = 0.0, (gpus - vms) * STEP_SECONDS
    for capacity, limit in zip(room, most, strict=True):
        done = min(done + capacity, float(limit))
    return float((vms.sum() * STEP_SECONDS + done) / (gpus * demand.horizon))


SIZING_STEPS = 5
"""Steps of a minute that are one step of sizing."""


def lazy_over_optimum(demand: Demand, gpus: int, settings: LcpSettings | None = None) -> float:
    """What lazy capacity provisioning (B10's rule) pays on this demand, over U1, both from the size that suits the
    first step; at most 3 whatever the demand. All models are taken as one."""
    s, edges = settings or LcpSettings(), _edges(demand)
    whole = (len(edges) - 1) // SIZING_STEPS * SIZING_STEPS
    vms, pods = (
        np.maximum(x[:whole].reshape(-1, SIZING_STEPS).mean(axis=1), 0.0)
        for x in (_vm_means(demand, edges), _pod_means(demand, edges))
    )
    seconds = SIZING_STEPS * STEP_SECONDS
    size = min(int(np.ceil(vms[0] - 1e-9)), gpus)
    work = s.beta_seconds * np.abs(np.arange(gpus + 1, dtype=np.float64) - size)
    paid = 0.0
    for wanted_by_vms, wanted_by_pods in zip(vms, pods, strict=True):
        cost = step_cost(
            gpus, float(wanted_by_vms), float(wanted_by_pods), seconds, s.weight_vm, s.weight_shared
        )
        work = advance(work, cost, s.beta_seconds)
        low, high = limits(work, s.beta_seconds)
        new = min(max(size, low), high)
        paid += float(cost[new]) + s.beta_seconds * abs(new - size)
        size = new
    optimum = float(work.min())
    return paid / optimum if optimum > 0 else 1.0
