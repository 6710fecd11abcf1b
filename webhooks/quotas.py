"""Quotas at admission: whose pods wait for the manager's word, and what is refused.

A scheduling gate on the pod is what makes a quota hold: only the manager lifts it, and it counts before it does
(docs/adr/0027). What is said or refused here goes by the use that the manager last reported; it may be seconds old, so a
request that slips through waits behind its gate instead.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from poolmgr.domain.fleet import OverQuota, Pool
from poolmgr.domain.plan import Verdict
from poolmgr.domain.quota import gpus_text, quota_verdict
from poolmgr.wire.annotations import ADMISSION_GATE
from webhooks.fleet_view import FleetView
from webhooks.review import PatchOperation, add_at


def gated(
    pod: Mapping[str, Any], namespace: str, pools: Iterable[Pool], fleet: FleetView, *, promised: bool = False
) -> tuple[PatchOperation, ...]:
    """The operation that puts our gate on a pod that may get GPUs of `pools`; none where it need not wait for the manager.

    It has to where its namespace is limited in any pool (the chart's policy asks for that of every pod), where it matters
    who is next, and where whole GPUs that it asks for are `promised` to anybody.
    """
    spec = pod.get("spec") or {}
    asked = promised or namespace in fleet.limited or any(pool.weighted for pool in pools)
    if not pools or not asked:
        return ()
    if spec.get("nodeName"):
        return ()  # the API server takes no gate for a pod that is bound
    if any(gate.get("name") == ADMISSION_GATE for gate in spec.get("schedulingGates") or ()):
        return ()
    return (add_at(pod, ("spec", "schedulingGates", "-"), {"name": ADMISSION_GATE}),)


def over_quota(
    namespace: str, charge: Iterable[tuple[Pool, float]], fleet: FleetView
) -> tuple[Pool, Verdict] | None:
    """Of pools and what a request would take up of them: the first of which its namespace would have more than it may, with
    what there is to say, those that refuse before others. What waits to be admitted counts, too: it came before."""
    found = []
    for pool, gpus in charge:
        used = fleet.quota_uses.get((pool.name, namespace), 0.0)
        verdict = quota_verdict(pool, pool.quota(namespace), used, gpus)
        if not verdict:
            found.append(
                (pool, replace(verdict, message=f"{verdict.message}, of which it holds {gpus_text(used)}"))
            )
    return min(found, key=lambda over: over[0].over_quota is not OverQuota.REFUSE, default=None)


def refusal_of(pool: Pool, verdict: Verdict) -> str:
    return (
        f"{verdict.message[0].upper()}{verdict.message[1:]}. GPUPool {pool.name} refuses requests over a quota: delete "
        "a workload, or ask your administrator to raise the quota."
    )


def warning_of(verdict: Verdict) -> str:
    return f"{verdict.message}: it waits until the namespace uses less"
