"""The kubelet's own account of passthrough devices: what it would give away and who has what."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from poolmgr.agent.wire import podresources_pb2 as wire
from poolmgr.domain.identifiers import PciAddress

ANSWER_SECONDS = 5.0
_GPU_UUID = re.compile(r"(GPU-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:::\d+)?")
_PCI_ADDRESS = re.compile(r"([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])")


@dataclass(frozen=True, slots=True)
class PodName:
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class KubeletView:
    """`known` is False when the kubelet did not answer; the rest is empty then and means nothing."""

    known: bool
    listed: frozenset[tuple[str, PciAddress]] = frozenset()
    """(resource, device) that the kubelet counts as allocatable, given away or not."""
    given: dict[tuple[str, PciAddress], PodName] = field(default_factory=dict)
    given_by_others: dict[str, PodName] = field(default_factory=dict)
    """UUID or PCI address of what any other device plugin gave away, such as NVIDIA's own."""
    error: str = ""


class PodResources:
    """Client of `<kubelet>/pod-resources/kubelet.sock`."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def read(self, resource_names: Iterable[str]) -> KubeletView:
        """The kubelet's view of these resources, and of the GPUs that other device plugins gave away."""
        wanted = frozenset(resource_names)
        if not self._socket.exists():
            return KubeletView(known=False, error=f"there is no kubelet at {self._socket}")
        try:
            async with grpc.aio.insecure_channel(f"unix:{self._socket}") as channel:
                allocatable = await _call(
                    channel,
                    "GetAllocatableResources",
                    wire.AllocatableResourcesRequest(),
                    wire.AllocatableResourcesResponse,
                )
                pods = await _call(
                    channel, "List", wire.ListPodResourcesRequest(), wire.ListPodResourcesResponse
                )
        except grpc.aio.AioRpcError as error:
            return KubeletView(known=False, error=f"{self._socket}: {error.code().name}: {error.details()}")
        listed = {
            (d.resource_name, PciAddress(i))
            for d in allocatable.devices
            if d.resource_name in wanted
            for i in d.device_ids
        }
        given = {
            (d.resource_name, PciAddress(i)): PodName(pod.namespace, pod.name)
            for pod in pods.pod_resources
            for container in pod.containers
            for d in container.devices
            if d.resource_name in wanted
            for i in d.device_ids
        }
        by_others = {
            identity: PodName(pod.namespace, pod.name)
            for pod in pods.pod_resources
            for container in pod.containers
            for d in container.devices
            if d.resource_name not in wanted
            for i in d.device_ids
            if (identity := identity_of(i))
        }
        return KubeletView(True, frozenset(listed), given, by_others)


def identity_of(device_id: str) -> str:
    """The GPU that another plugin's device id names, by UUID or PCI address; empty for ids that name none.

    NVIDIA's plugin gives `GPU-<uuid>`, and `GPU-<uuid>::<n>` where a GPU is time-sliced; others give the address. HAMi's
    `GPU-<uuid>-<n>` are counters: they do not say which GPU it chose.
    """
    match = _GPU_UUID.fullmatch(device_id) or _PCI_ADDRESS.fullmatch(device_id)
    return match[1] if match else ""


async def _call(channel: Any, method: str, request: Any, reply: Any) -> Any:
    call = channel.unary_unary(
        f"/v1.PodResourcesLister/{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=reply.FromString,
    )
    return await call(request, timeout=ANSWER_SECONDS)
