"""Pods: refuse vGPU requests that can never be met, keep new ones off GPUs that leave and off lent nodes, and keep
HAMi's webhook off the launcher pods of virtual machines. A pod that asks for no slice is never changed."""

from collections.abc import Mapping
from typing import Any

from poolmgr.domain.fleet import OverQuota
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.wire.annotations import EXCLUDED_BY_US, LAUNCHER_LABEL, LAUNCHER_VALUE
from poolmgr.wire.hami.asks import Ask
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.hami.names import NOUSE_TYPE, NOUSE_UUID, USE_TYPE, USE_UUID, WEBHOOK_LABEL
from poolmgr.wire.scheduling import MOST
from poolmgr.wire.text import lists_too_many
from webhooks.fleet_view import FleetView, ModelView
from webhooks.lent_nodes import affinity_terms, without_lent_nodes
from webhooks.pod_demand import demand_of, no_node_warning
from webhooks.promises import cards_of_others
from webhooks.quotas import gated, over_quota, refusal_of, warning_of
from webhooks.review import (
    AdmissionRequest,
    Answer,
    PatchOperation,
    Unchecked,
    admitted,
    refused,
    set_in_map,
    unchecked,
)
from webhooks.slices import CONSTRAINING, Constraints, asked_by, constraints_of
from webhooks.virtual_machine import UnknownResources
from webhooks.waiting import READ_ON, Wanted, what_ends_the_wait
from webhooks.wording import gpus_word, listing


def decide_pod(
    request: AdmissionRequest,
    fleet: FleetView | None,
    config: HamiConfig,
    unknown: UnknownResources = UnknownResources.REFUSE,
    *,
    gates: bool = True,
) -> Answer:
    """The answer for a Pod being created. `fleet` is None while nothing is known: then nothing is refused. `unknown`: what
    to do with one that no node of today could serve and a new one might. `gates`: whether there is a manager to lift our
    scheduling gate."""
    pod = request.object or {}
    metadata = pod.get("metadata") or {}
    labels = metadata.get("labels") or {}
    if _is_too_large(pod):
        return unchecked(Unchecked.TOO_LARGE)
    launcher = labels.get(LAUNCHER_LABEL) == LAUNCHER_VALUE
    kept_from_hami = launcher or labels.get(WEBHOOK_LABEL) == "ignore"
    try:
        asked = asked_by(pod, config, extended=kept_from_hami)
    except ValueError:
        # The API server's own validation refuses it with a better sentence than ours would be.
        return admitted(Reason.NOT_OURS)
    asks = asked.slices
    if kept_from_hami:
        # Whoever keeps HAMi's webhook off a pod may get GPUs all the same, and is counted.
        patch = set_in_map(pod, "labels", {WEBHOOK_LABEL: "ignore"}) if launcher else ()
        if fleet is not None and gates:
            constraints = constraints_of(metadata.get("annotations") or {}) if asks else None
            demand = demand_of(pod, asked, constraints, fleet, config)
            patch += gated(pod, request.namespace, demand.pools, fleet, promised=demand.promised)
        return admitted(Reason.ADMITTED if launcher else Reason.NOT_OURS, patch=patch)
    if not asks:
        return admitted(Reason.NOT_OURS)
    constraints = constraints_of(metadata.get("annotations") or {})
    contradiction = _contradiction(asks, constraints, config)
    if contradiction:
        return refused(Reason.INVALID_REQUEST, contradiction)
    patch = without_lent_nodes(pod)
    if fleet is None:
        return admitted(Reason.FLEET_UNKNOWN, patch=patch)
    demand = demand_of(pod, asked, constraints, fleet, config)
    if gates:
        patch += gated(pod, request.namespace, demand.pools, fleet, promised=demand.promised)
    if not fleet.uncovered and not fleet.empty:
        impossible = _impossible(asks, constraints, fleet, config)
        if impossible:
            reason, message = impossible
            if unknown is UnknownResources.REFUSE or reason is Reason.AT_MAXIMUM:
                return refused(reason, message)
            return admitted(Reason.WILL_WAIT, patch=patch, warnings=(message,))
        if demand.no_node:
            return admitted(Reason.WILL_WAIT, patch=patch, warnings=(no_node_warning(demand),))
    over = over_quota(request.namespace, demand.charge, fleet)
    if over is not None:
        pool, verdict = over
        if pool.over_quota is OverQuota.REFUSE:
            return refused(verdict.reason, refusal_of(pool, verdict))
        return admitted(Reason.WILL_WAIT, patch=patch, warnings=(warning_of(verdict),))
    kept = cards_of_others(request.namespace, metadata, fleet)
    return _placed_around(pod, constraints, fleet, patch, kept)


def _is_too_large(pod: Mapping[str, Any]) -> bool:
    """True where a decision would take more than some milliseconds."""
    spec, annotations = pod.get("spec") or {}, (pod.get("metadata") or {}).get("annotations") or {}
    containers = len(spec.get("containers") or ()) + len(spec.get("initContainers") or ())
    return (
        containers > MOST
        or len(affinity_terms(pod)) > MOST
        or any(lists_too_many(annotations.get(name)) for name in CONSTRAINING)
    )


def _contradiction(
    asks: tuple[tuple[str, Ask], ...], constraints: Constraints, config: HamiConfig
) -> str | None:
    for container, ask in asks:
        for amount, name in (
            (ask.memory_percent, config.memory_percent),
            (ask.cores_percent, config.cores),
        ):
            if amount > 100:
                return (
                    f"Container {container} requests {name}: {amount}, but this is a percentage of one "
                    f"GPU: give a value from 1 to 100."
                )
    allowed = set(constraints.uuids)
    both = allowed.intersection(constraints.excluded_uuids)
    if both and both == allowed:
        return (
            f"The annotations {USE_UUID} and {NOUSE_UUID} name the same {gpus_word(len(both))} "
            f"({listing(sorted(both))}), so no GPU is left: remove it from one of them."
        )
    for container, ask in asks:
        if allowed and ask.cards > len(allowed):
            return (
                f"Container {container} requests slices of {ask.cards} GPUs, but the annotation {USE_UUID} "
                f"names only {len(allowed)}: name more, or request fewer."
            )
    if _is_everything_excluded(constraints):
        return (
            f"The annotation {NOUSE_TYPE} excludes everything that {USE_TYPE} allows ({listing(constraints.models)}): "
            f"change one of them."
        )
    return None


def _is_everything_excluded(constraints: Constraints) -> bool:
    """By the annotations alone. Each of one list is looked for in each of the other: of long ones it is not told, and
    the models that there are decide."""
    if not constraints.models or len(constraints.models) * len(constraints.excluded_models) > MOST:
        return False
    excluded = [part.casefold() for part in constraints.excluded_models]
    return all(any(part in allowed.casefold() for part in excluded) for allowed in constraints.models)


def _impossible(
    asks: tuple[tuple[str, Ask], ...],
    constraints: Constraints,
    fleet: FleetView,
    config: HamiConfig,
) -> tuple[Reason, str] | None:
    models = [view for view in fleet.models.values() if constraints.admit_model(view.model)]
    if not models:
        asked = f'{USE_TYPE} "{",".join(constraints.models)}"' if constraints.models else NOUSE_TYPE
        return (
            Reason.UNKNOWN_RESOURCE,
            f"No GPU of this cluster matches the pod's annotation {asked}. "
            f"It has: {listing(fleet.model_names)}.",
        )
    unknown = [uuid for uuid in constraints.uuids if uuid not in fleet.uuids]
    if unknown and len(unknown) == len(constraints.uuids):
        return (
            Reason.UNKNOWN_RESOURCE,
            f"The annotation {USE_UUID} allows only {listing(unknown)}, and no GPU of this cluster has that UUID. "
            f"`kubectl get gpunodes -o yaml` lists the UUIDs.",
        )
    for container, ask in asks:
        most = max(view.most_on_a_node for view in models)
        if ask.cards > most and ask.cards > (most := _most_on_a_node(constraints, fleet)):
            return (
                Reason.MORE_THAN_ANY_NODE,
                f"Container {container} requests slices of {ask.cards} GPUs, but no node of this cluster "
                f"has more than {most} that the pod accepts. Request fewer, or spread the work over several "
                f"pods.",
            )
        largest = max(models, key=lambda view: view.memory_mib)
        offered = int(largest.memory_mib * config.memory_scaling)
        if offered and ask.memory_mib > offered:
            return (
                Reason.MORE_MEMORY_THAN_ANY_CARD,
                f"Container {container} requests {ask.memory_mib} MiB on one GPU, but the largest GPU "
                f"that the pod accepts, {largest.model}, has {offered} MiB. Request less, or several GPUs.",
            )
        reach = sum(view.limits[Mode.SHARED] for view in models)
        if ask.cards > reach:
            return (
                Reason.AT_MAXIMUM,
                f"Container {container} requests slices of {ask.cards} GPUs, but the pools' limits "
                f"(shared.max) allow containers {reach} of the GPUs that it accepts: "
                f"{_pools_of(models)}. Request fewer, or ask your administrator to raise the limit.",
            )
    return None


def _most_on_a_node(constraints: Constraints, fleet: FleetView) -> int:
    """Cards that the pod accepts on the best node; they may be of different models."""
    return max(
        sum(number for model, number in composition if constraints.admit_model(model))
        for composition in fleet.compositions
    )


def _pools_of(models: list[ModelView]) -> str:
    return listing(sorted({f"GPUPool {pool.name}" for view in models for pool in view.pools}))


def _placed_around(
    pod: Mapping[str, Any],
    constraints: Constraints,
    fleet: FleetView,
    patch: tuple[PatchOperation, ...],
    kept: frozenset[GpuUuid],
) -> Answer:
    """Admit with `patch`; add what is closed to pods, and what is `kept` for others, to the GPUs that the pod must not get."""
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    warnings: list[str] = []
    added: list[GpuUuid] = sorted((fleet.closed_to_pods | kept) - set(constraints.excluded_uuids))
    if added:
        given = annotations.get(NOUSE_UUID, "").strip().rstrip(",")
        before = annotations.get(EXCLUDED_BY_US, "").strip().rstrip(",")
        patch += set_in_map(
            pod,
            "annotations",
            {
                NOUSE_UUID: ",".join(([given] if given else []) + added),
                EXCLUDED_BY_US: ",".join(([before] if before else []) + added),
            },
        )
    if constraints.uuids and set(constraints.uuids) <= fleet.closed_to_pods:
        because = (
            "being moved to a virtual machine: the pod will wait until it comes back"
            if set(constraints.uuids) <= fleet.leaving
            else f"closed to new pods: the pod will wait until that ends ({READ_ON} why)"
        )
        warnings.append(f"{listing(constraints.uuids)}, the only GPU that {USE_UUID} allows, is {because}")
    else:
        accepted = [view for view in fleet.models.values() if constraints.admit_model(view.model)]
        if accepted and not any(view.in_shared for view in accepted) and not fleet.uncovered:
            names = listing(sorted(view.model for view in accepted))
            then = what_ends_the_wait([Wanted(accepted, 1)], Mode.SHARED)
            warnings.append(f"no {names} serves containers right now; {then}")
    reason = Reason.WILL_WAIT if warnings else Reason.GPU_LEAVING if added else Reason.ADMITTED
    return admitted(reason, patch=patch, warnings=tuple(warnings))
