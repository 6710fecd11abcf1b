"""The webhook's decision on a new pod: a pure function of pod, configuration and quota."""

import base64
import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from e2e.hami.standin.asks import ask_of
from e2e.hami.standin.configuration import Configuration
from e2e.hami.standin.quantity import rounded_up
from e2e.hami.standin.release import Release

Json = dict[str, Any]
DEFAULT_SCHEDULER = "default-scheduler"
FORBIDDEN, INTERNAL_ERROR = 403, 500


@dataclass(frozen=True)
class Settings:
    """The flags of the scheduler that the webhook reads."""

    scheduler_name: str
    overwrites_default: bool


@dataclass(frozen=True)
class Decision:
    """`pod` is the changed one where the pod is allowed and changed."""

    allowed: bool
    message: str = ""
    code: int = 0
    pod: Json | None = None


def decide(
    original: Json,
    config: Configuration,
    settings: Settings,
    release: Release,
    quota_allows: Callable[[int, int], bool],
) -> Decision:
    """`quota_allows(memory, cores)` answers for the pod's namespace."""
    pod = copy.deepcopy(original)
    spec = pod["spec"]
    if not spec.get("containers"):
        return Decision(False, "pod has no containers", FORBIDDEN)
    if _is_another_schedulers(spec.get("schedulerName", ""), settings, release):
        return Decision(True, "pod already has different scheduler assigned")
    try:
        asks = _mutate(spec, config, release)
    except ValueError as error:
        return Decision(False, str(error), INTERNAL_ERROR)
    if release.denies_privileged and asks and (name := _privileged_container(spec)):
        return Decision(False, f"container {name} is privileged", FORBIDDEN)
    if asks and settings.scheduler_name:
        spec["schedulerName"] = settings.scheduler_name
        if spec.get("nodeName"):
            return Decision(False, "pod has node assigned", FORBIDDEN)
    needs = _needs(spec, config, release)
    if release.denies_over_quota and any(needs) and not quota_allows(*needs):
        return Decision(False, "exceeding resource quota", FORBIDDEN)
    return Decision(True, pod=pod)


def _is_another_schedulers(name: str, settings: Settings, release: Release) -> bool:
    if not name:
        return False
    default = name == DEFAULT_SCHEDULER and settings.overwrites_default
    ours = bool(settings.scheduler_name) and name == settings.scheduler_name and release.takes_own_scheduler
    return not (default or ours)


def _mutate(spec: Json, config: Configuration, release: Release) -> bool:
    """Changes the containers; answers whether any of them asks for a device."""
    first = (spec.get("initContainers") or []) if release.counts_init_containers else []
    asks = False
    for container in [*first, *spec["containers"]]:
        if not release.denies_privileged and _is_privileged(container):
            continue
        asks |= _mutate_container(container, spec, config, release)
    return asks


def _mutate_container(container: Json, spec: Json, config: Configuration, release: Release) -> bool:
    nvidia = config.nvidia
    resources = container.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    if release.checks_percentage and (given := _given(nvidia.percentage_name, limits, requests)) is not None:
        percent = rounded_up(given)
        if not 0 <= percent <= 100:
            raise ValueError(
                f"invalid {nvidia.percentage_name} value {percent} in container {container['name']}: "
                "must be an integer between 0 and 100"
            )
    environment: list[Json] = []
    if nvidia.priority_name in limits:
        environment.append(
            {"name": "CUDA_TASK_PRIORITY", "value": str(rounded_up(limits[nvidia.priority_name]))}
        )
    if nvidia.core_policy not in ("", "default"):
        environment.append({"name": "GPU_CORE_UTILIZATION_POLICY", "value": nvidia.core_policy})
    asks = nvidia.count_name in limits
    if not asks and nvidia.default_count > 0:
        parts = (nvidia.cores_name, nvidia.memory_name, nvidia.percentage_name)
        if any(name in limits for name in parts):
            limits[nvidia.count_name] = str(nvidia.default_count)
            asks = True
    if _wants_whole_gpus(nvidia.count_name, nvidia.cores_name, limits, requests) and (
        _given(nvidia.memory_name, limits, requests) is None
        if (given := _given(nvidia.percentage_name, limits, requests)) is None
        else rounded_up(given) == 100
    ):
        limits[nvidia.cores_name] = "100"
        container["resources"] = resources | {"limits": limits}
        asks = True
    if asks and not spec.get("runtimeClassName") and nvidia.runtime_class:
        spec["runtimeClassName"] = nvidia.runtime_class
    if not asks and nvidia.overwrite_environment:
        environment.append({"name": "NVIDIA_VISIBLE_DEVICES", "value": "none"})
    if environment:
        container["env"] = [*(container.get("env") or []), *environment]
    return asks or any(name in limits for name in config.other_counts)


def _wants_whole_gpus(count_name: str, cores_name: str, limits: Json, requests: Json) -> bool:
    """Whether GPUs are asked for and compute is not; whole ones, if memory does not say otherwise."""
    counted = _given(count_name, limits, requests) is not None
    return bool(cores_name) and counted and _given(cores_name, limits, requests) is None


def _given(name: str, limits: Json, requests: Json) -> Any:
    return (limits.get(name) if name in limits else requests.get(name)) if name else None


def _is_privileged(container: Json) -> bool:
    return bool((container.get("securityContext") or {}).get("privileged"))


def _privileged_container(spec: Json) -> str:
    containers = [*(spec.get("initContainers") or []), *spec["containers"]]
    return next((str(c["name"]) for c in containers if _is_privileged(c)), "")


def _needs(spec: Json, config: Configuration, release: Release) -> tuple[int, int]:
    """Memory and cores that count against a quota: of all containers at once, or of the largest init container."""

    def need(container: Json) -> tuple[int, int]:
        ask = ask_of(container, config.nvidia, release)
        return (ask.memory * ask.count, ask.cores * ask.count) if ask else (0, 0)

    running = [need(container) for container in spec["containers"]]
    starting = [need(container) for container in spec.get("initContainers") or []]
    memory = max([sum(n[0] for n in running), *(n[0] for n in starting)])
    cores = max([sum(n[1] for n in running), *(n[1] for n in starting)])
    return memory, cores


def patch_of(pod: Json) -> Json:
    """What of an AdmissionResponse turns the pod into this one: its specification is all that changes."""
    operations = [{"op": "replace", "path": "/spec", "value": pod["spec"]}]
    return {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(operations).encode()).decode()}
