"""The kubelet's own account of passthrough devices: what it would give away and who has what."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from poolmgr.agent.wire import podresources_pb2 as wire
from poolmgr.domain.identifiers import PciAddress

ANSWER_SECONDS = 5.0


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
    error: str = ""


class PodResources:
    """Client of `<kubelet>/pod-resources/kubelet.sock`."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def read(self, resource_names: Iterable[str]) -> KubeletView:
        """The kubelet's view of these resources. Device ids of other resources may look alike and say
        nothing: HAMi's are counters and do not tell which GPU it chose."""
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
        return KubeletView(True, frozenset(listed), given)


async def _call(channel: Any, method: str, request: Any, reply: Any) -> Any:
    call = channel.unary_unary(
        f"/v1.PodResourcesLister/{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=reply.FromString,
    )
    return await call(request, timeout=ANSWER_SECONDS)
