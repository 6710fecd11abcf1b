"""Pods: refuse vGPU requests that can never be met, keep new ones off GPUs that leave and off lent nodes, and keep
HAMi's webhook off the launcher pods of virtual machines. A pod that asks for no slice is never changed."""

from collections.abc import Mapping
from typing import Any

from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.wire.annotations import EXCLUDED_BY_US, LAUNCHER_LABEL, LAUNCHER_VALUE
from poolmgr.wire.hami.asks import Ask
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.hami.names import NOUSE_TYPE, NOUSE_UUID, USE_TYPE, USE_UUID, WEBHOOK_LABEL
from webhooks.fleet_view import FleetView, ModelView
from webhooks.lent_nodes import kept_off_lent_nodes
from webhooks.review import AdmissionRequest, Answer, admitted, refused, set_in_map
from webhooks.slices import Constraints, constraints_of, slice_requests
from webhooks.virtual_machine import UnknownResources
from webhooks.wording import gpus_word, listing


def decide_pod(
    request: AdmissionRequest,
    fleet: FleetView | None,
    config: HamiConfig,
    unknown: UnknownResources = UnknownResources.REFUSE,
) -> Answer:
    """The answer for a Pod being created. `fleet` is None while nothing is known: then nothing is refused. `unknown`: what
    to do with one that no node of today could serve and a new one might."""
    pod = request.object or {}
    metadata = pod.get("metadata") or {}
    labels = metadata.get("labels") or {}
    if labels.get(LAUNCHER_LABEL) == LAUNCHER_VALUE:
        return admitted(patch=set_in_map(pod, "labels", {WEBHOOK_LABEL: "ignore"}))
    if labels.get(WEBHOOK_LABEL) == "ignore":
        return admitted(Reason.NOT_OURS)
    try:
        asks = slice_requests(pod, config)
    except ValueError:
        # The API server's own validation refuses it with a better sentence than ours would be.
        return admitted(Reason.NOT_OURS)
    if not asks:
        return admitted(Reason.NOT_OURS)
    constraints = constraints_of(metadata.get("annotations") or {})
    contradiction = _contradiction(asks, constraints, config)
    if contradiction:
        return refused(Reason.INVALID_REQUEST, contradiction)
    if fleet is None:
        return admitted(Reason.FLEET_UNKNOWN, patch=kept_off_lent_nodes(pod))
    if not fleet.uncovered and not fleet.empty:
        impossible = _impossible(asks, constraints, fleet, config)
        if impossible:
            reason, message = impossible
            if unknown is UnknownResources.REFUSE or reason is Reason.AT_MAXIMUM:
                return refused(reason, message)
            return admitted(Reason.WILL_WAIT, patch=kept_off_lent_nodes(pod), warnings=(message,))
    return _placed_around(pod, constraints, fleet)


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
                    f"Container {container} asks for {name}: {amount}, but this is a percentage of one "
                    f"card: give a value from 1 to 100."
                )
    both = set(constraints.uuids) & set(constraints.excluded_uuids)
    if both and both == set(constraints.uuids):
        return (
            f"The annotations {USE_UUID} and {NOUSE_UUID} name the same {gpus_word(len(both))} "
            f"({listing(sorted(both))}), so none is left: remove it from one of them."
        )
    for container, ask in asks:
        if constraints.uuids and ask.cards > len(set(constraints.uuids)):
            return (
                f"Container {container} asks for slices of {ask.cards} GPUs, but the annotation {USE_UUID} "
                f"names only {len(set(constraints.uuids))}: name more, or ask for fewer."
            )
    clash = [
        part
        for part in constraints.models
        if any(excluded.casefold() in part.casefold() for excluded in constraints.excluded_models)
    ]
    if clash and len(clash) == len(constraints.models):
        return (
            f"The annotation {NOUSE_TYPE} excludes everything that {USE_TYPE} allows ({listing(clash)}): "
            f"change one of them."
        )
    return None


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
            f"There are: {listing(fleet.model_names)}.",
        )
    unknown = [uuid for uuid in constraints.uuids if uuid not in fleet.uuids]
    if unknown and len(unknown) == len(constraints.uuids):
        return (
            Reason.UNKNOWN_RESOURCE,
            f"No GPU of this cluster is named {listing(unknown)}, which is all that the annotation {USE_UUID} "
            f"allows. `kubectl get gpunodes -o yaml` lists the names.",
        )
    for container, ask in asks:
        most = max(view.most_on_a_node for view in models)
        if ask.cards > most and ask.cards > (most := _most_on_a_node(constraints, fleet)):
            return (
                Reason.MORE_THAN_ANY_NODE,
                f"Container {container} asks for slices of {ask.cards} GPUs, but no node of this cluster "
                f"has more than {most} that the pod accepts. Ask for fewer, or spread the work over several "
                f"pods.",
            )
        largest = max(models, key=lambda view: view.memory_mib)
        offered = int(largest.memory_mib * config.memory_scaling)
        if offered and ask.memory_mib > offered:
            return (
                Reason.MORE_MEMORY_THAN_ANY_CARD,
                f"Container {container} asks for {ask.memory_mib} MiB on one GPU, but the largest card "
                f"that the pod accepts, {largest.model}, has {offered} MiB. Ask for less, or for several GPUs.",
            )
        reach = sum(view.limits[Mode.SHARED] for view in models)
        if ask.cards > reach:
            return (
                Reason.AT_MAXIMUM,
                f"Container {container} asks for slices of {ask.cards} GPUs, but the pools' limits "
                f"(shared.max) allow containers {reach} of the cards that it accepts: "
                f"{_pools_of(models)}. Ask for fewer, or ask your administrator to raise the limit.",
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


def _placed_around(pod: Mapping[str, Any], constraints: Constraints, fleet: FleetView) -> Answer:
    """Admit; add what leaves to the GPUs that the pod must not get, and lent nodes to where it must not go."""
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    warnings: list[str] = []
    added: list[GpuUuid] = sorted(fleet.leaving - set(constraints.excluded_uuids))
    patch: tuple[dict[str, Any], ...] = ()
    if added:
        given = annotations.get(NOUSE_UUID, "").strip().rstrip(",")
        before = annotations.get(EXCLUDED_BY_US, "").strip().rstrip(",")
        patch = set_in_map(
            pod,
            "annotations",
            {
                NOUSE_UUID: ",".join(([given] if given else []) + added),
                EXCLUDED_BY_US: ",".join(([before] if before else []) + added),
            },
        )
    if constraints.uuids and set(constraints.uuids) <= fleet.leaving:
        warnings.append(
            f"{listing(constraints.uuids)}, the only GPU that {USE_UUID} allows, is being moved to a virtual "
            f"machine: the pod will wait until it comes back"
        )
    else:
        accepted = [view for view in fleet.models.values() if constraints.admit_model(view.model)]
        if accepted and not any(view.in_shared for view in accepted) and not fleet.uncovered:
            names = listing(sorted(view.model for view in accepted))
            warnings.append(
                f"no {names} serves containers right now: the pod will wait until poolmgr can convert one that no "
                f"virtual machine uses"
            )
    reason = Reason.WILL_WAIT if warnings else Reason.GPU_LEAVING if added else Reason.ADMITTED
    return admitted(reason, patch=patch + kept_off_lent_nodes(pod), warnings=tuple(warnings))
