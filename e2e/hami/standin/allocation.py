"""What a container is given: the pending pod is found by the node's lock or its bind phase, not by device ids."""

import logging
import os
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.hami.standin import nodelock
from e2e.hami.standin.api import Api, ApiError
from e2e.hami.standin.configuration import NvidiaConfiguration
from e2e.hami.standin.devices import (
    ASSIGNED_NODE,
    BIND_PHASE,
    BIND_TIME,
    TO_ALLOCATE,
    VENDOR,
    Share,
    decode_shares,
    encode_shares,
)
from e2e.hami.standin.release import Release

Json = dict[str, Any]
LOCK_FOLDER = Path("/tmp/vgpulock")
PRELOAD = "/etc/ld.so.preload"
log = logging.getLogger(__name__)


class NotAllocated(Exception):
    """The kubelet is told no; the message is what the pod's UnexpectedAdmissionError shows."""


@dataclass(frozen=True)
class Grant:
    environment: dict[str, str]
    mounts: list[tuple[str, str, bool]] = field(default_factory=list)
    """(in the container, on the node, read-only)."""


class Allocator:
    """Allocations of one node. `hook_path` is the node's folder above `vgpu`, `/usr/local` by the chart."""

    def __init__(
        self, api: Api, node: str, config: NvidiaConfiguration, hook_path: str, release: Release
    ) -> None:
        self._api, self._node, self._config = api, node, config
        self._vgpu, self._release = f"{hook_path}/vgpu", release

    def allocate(self, requests: list[list[str]], *, by_ids: bool) -> list[Grant]:
        """One grant for each container's device ids. `by_ids`: their GPUs count, in place of those assigned.

        Raises NotAllocated.
        """
        try:
            pod = self._pending_pod()
        except (ApiError, OSError, ValueError) as error:
            raise NotAllocated(str(error)) from error
        log.info("Allocate for %s/%s: %s", pod["metadata"]["namespace"], pod["metadata"]["name"], requests)
        try:
            grants = [self._next_container(pod, ids, by_ids) for ids in requests]
            text = pod["metadata"]["annotations"][TO_ALLOCATE]
            self._annotate(pod, {TO_ALLOCATE: text})
        except (NotAllocated, ApiError, OSError, ValueError) as error:
            self._finish(pod, "failed")
            raise NotAllocated(str(error)) from error
        if VENDOR not in text:
            self._finish(pod, "success")
        return grants

    def preferred(self, requests: list[tuple[list[str], list[str], int]]) -> list[list[str]]:
        """For each (available ids, ids that must be among them, how many): ids of the GPUs that were assigned.

        Nothing for a container whose GPUs have no id left, and for all where no pod is pending.
        """
        try:
            annotations = self._pending_pod()["metadata"].get("annotations") or {}
            slots = decode_shares(annotations.get(TO_ALLOCATE, ""), keep_empty=False)
        except (NotAllocated, ApiError, OSError, ValueError):
            return []
        chosen = [_choose(*request, slot) for request, slot in zip(requests, slots, strict=False)]
        return [ids for ids in chosen if ids]

    def _pending_pod(self) -> Json:
        node = self._api.get(f"/api/v1/nodes/{self._node}")
        if lock := (node["metadata"].get("annotations") or {}).get(nodelock.LOCK):
            _, namespace, name = nodelock.parse(lock)
            if name:
                return self._api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
        phases = {"allocating", "success"} if self._release.allocates_after_success else {"allocating"}
        pods: list[Json] = self._api.get("/api/v1/pods", fieldSelector=f"spec.nodeName={self._node}")["items"]
        for pod in pods:
            annotations = pod["metadata"].get("annotations") or {}
            if (
                pod["status"].get("phase") == "Pending"
                and BIND_TIME in annotations
                and annotations.get(BIND_PHASE) in phases
                and annotations.get(ASSIGNED_NODE) == self._node
            ):
                return pod
        raise NotAllocated(f"no binding pod found on node {self._node}")

    def _next_container(self, pod: Json, ids: list[str], by_ids: bool) -> Grant:
        """The first container that is still to be allocated; it is crossed off in the pod's annotation."""
        annotations = pod["metadata"].setdefault("annotations", {})
        if TO_ALLOCATE not in annotations:
            raise NotAllocated("device request not found")
        slots = decode_shares(annotations[TO_ALLOCATE], keep_empty=self._release.keeps_empty_slots_when_read)
        number = next((number for number, slot in enumerate(slots) if slot), None)
        if number is None:
            raise NotAllocated("no pending device allocation found")
        shares, slots[number] = slots[number], []
        if len(shares) != len(ids):
            raise NotAllocated("device number not matched")
        if by_ids:
            shares = [
                Share(physical(device), share.memory, share.cores)
                for share, device in zip(shares, ids, strict=True)
            ]
        spec = pod["spec"]
        first = (spec.get("initContainers") or []) if self._release.counts_init_containers else []
        container = [*first, *spec["containers"]][number]
        annotations[TO_ALLOCATE] = encode_shares(slots)
        return self._grant(pod["metadata"]["uid"], container, shares)

    def _grant(self, uid: str, container: Json, shares: list[Share]) -> Grant:
        config = self._config
        environment = {"NVIDIA_VISIBLE_DEVICES": ",".join(dict.fromkeys(share.uuid for share in shares))}
        environment |= {
            f"CUDA_DEVICE_MEMORY_LIMIT_{number}": f"{share.memory}m" for number, share in enumerate(shares)
        }
        environment["CUDA_DEVICE_SM_LIMIT"] = str(shares[0].cores)
        environment["CUDA_DEVICE_MEMORY_SHARED_CACHE"] = f"{self._vgpu}/{uuid.uuid4()}.cache"
        if config.memory_scaling > 1:
            environment["CUDA_OVERSUBSCRIBE"] = "true"
        if config.log_level:
            environment["LIBCUDA_LOG_LEVEL"] = config.log_level
        if config.disable_core_limit:
            environment["GPU_CORE_UTILIZATION_POLICY"] = "disable"
        regions = Path(self._vgpu, "containers", f"{uid}_{container['name']}")
        shutil.rmtree(regions, ignore_errors=True)
        for folder in (regions, LOCK_FOLDER):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o777)
        library = f"{self._vgpu}/libvgpu.so"
        versioned = f"{library}.v{self._release.version}"
        mounts = [
            (library, versioned if os.path.exists(versioned) else library, True),  # noqa: PTH110
            (self._vgpu, str(regions), False),
            (str(LOCK_FOLDER), str(LOCK_FOLDER), False),
        ]
        if not _opts_out(container):
            mounts.append((PRELOAD, f"{self._vgpu}/ld.so.preload", True))
        if os.path.exists(f"{self._vgpu}/license"):  # noqa: PTH110
            mounts += [
                ("/tmp/license", f"{self._vgpu}/license", True),
                ("/usr/bin/vgpuvalidator", f"{self._vgpu}/vgpuvalidator", True),
            ]
        return Grant(environment, mounts)

    def _annotate(self, pod: Json, annotations: dict[str, str]) -> None:
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        self._api.merge(path, {"metadata": {"annotations": annotations}})

    def _finish(self, pod: Json, phase: str) -> None:
        """The bind is over, whichever way."""
        try:
            self._annotate(pod, {BIND_PHASE: phase})
            nodelock.unlock(self._api, self._node, pod, self._release)
        except (ApiError, OSError) as error:
            log.error("bind phase %s of %s: %s", phase, pod["metadata"]["name"], error)


def _choose(available: list[str], required: list[str], size: int, shares: list[Share]) -> list[str]:
    """Ids of the shares' GPUs, those required first; empty where there are not enough."""
    chosen = list(required)
    covered = [physical(device) for device in required]
    free = [device for device in available if device not in required]
    for share in shares[:size]:
        if share.uuid in covered:
            covered.remove(share.uuid)
            continue
        candidate = next((device for device in free if physical(device) == share.uuid), None)
        if candidate is None:
            return []
        free.remove(candidate)
        chosen.append(candidate)
    return chosen if len(chosen) == size else []


def physical(device: str) -> str:
    """`GPU-<uuid>-<n>` → `GPU-<uuid>`."""
    uuid_part, _, number = device.rpartition("-")
    return uuid_part if device.count("-") == 6 and number.isdigit() else device


def _opts_out(container: Json) -> bool:
    given = [
        item.get("value", "") for item in container.get("env") or [] if item["name"] == "CUDA_DISABLE_CONTROL"
    ]
    return any(value in ("1", "t", "T", "TRUE", "true", "True") for value in given)
