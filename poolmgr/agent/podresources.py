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

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class KubeletView:
    """`known` is False when the kubelet did not answer; the rest is empty then and means nothing."""

    known: bool
    listed: frozenset[tuple[str, PciAddress]] = frozenset()
    """(resource, device) that the kubelet counts as allocatable, given away or not."""
    given: dict[tuple[str, PciAddress], PodName] = field(default_factory=dict)
    given_by_others: tuple[tuple[PodName, str, str], ...] = ()
    """Pod, resource and device id of what any other device plugin gave away, such as NVIDIA's own."""
    claims: tuple[tuple[PodName, str], ...] = ()
    """Pod and DRA driver of what was given by a ResourceClaim."""
    pods: frozenset[PodName] = frozenset()
    """All on the node, whatever they were given."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class KubeletAnswer:
    """What the kubelet said, word for word; with an `error` it said nothing."""

    allocatable: wire.AllocatableResourcesResponse = field(default_factory=wire.AllocatableResourcesResponse)
    pods: wire.ListPodResourcesResponse = field(default_factory=wire.ListPodResourcesResponse)
    error: str = ""

    def view(self, resource_names: Iterable[str]) -> KubeletView:
        """Of these resources, and of the GPUs that other device plugins gave away."""
        if self.error:
            return KubeletView(known=False, error=self.error)
        wanted = frozenset(resource_names)
        listed = {
            (d.resource_name, PciAddress(i))
            for d in self.allocatable.devices
            if d.resource_name in wanted
            for i in d.device_ids
        }
        given = {
            (d.resource_name, PciAddress(i)): PodName(pod.namespace, pod.name)
            for pod in self.pods.pod_resources
            for container in pod.containers
            for d in container.devices
            if d.resource_name in wanted
            for i in d.device_ids
        }
        by_others = [
            (PodName(pod.namespace, pod.name), d.resource_name, i)
            for pod in self.pods.pod_resources
            for container in pod.containers
            for d in container.devices
            if d.resource_name not in wanted
            for i in d.device_ids
        ]
        claims = {
            (PodName(pod.namespace, pod.name), driver)
            for pod in self.pods.pod_resources
            for container in pod.containers
            for claim in container.dynamic_resources
            for driver in _drivers(claim)
        }
        everybody = frozenset(PodName(pod.namespace, pod.name) for pod in self.pods.pod_resources)
        return KubeletView(
            True, frozenset(listed), given, tuple(by_others), tuple(sorted(claims, key=str)), everybody
        )


def _drivers(claim: Any) -> set[str]:
    """Who serves a claim. Kubelets before 1.31 name only the CDI devices, whose kinds begin with the driver's vendor."""
    return {
        part.driver_name or next((device.name.partition("/")[0] for device in part.cdi_devices), "")
        for part in claim.claim_resources
    } or {""}


class PodResources:
    """Client of `<kubelet>/pod-resources/kubelet.sock`."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def read(self, resource_names: Iterable[str]) -> KubeletView:
        """The kubelet's view of these resources, and of the GPUs that other device plugins gave away."""
        return (await self.ask()).view(resource_names)

    async def ask(self) -> KubeletAnswer:
        """All that the kubelet says."""
        if not self._socket.exists():
            return KubeletAnswer(error=f"there is no kubelet at {self._socket}")
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
            return KubeletAnswer(error=f"{self._socket}: {error.code().name}: {error.details()}")
        return KubeletAnswer(allocatable, pods)


async def _call(channel: Any, method: str, request: Any, reply: Any) -> Any:
    call = channel.unary_unary(
        f"/v1.PodResourcesLister/{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=reply.FromString,
    )
    return await call(request, timeout=ANSWER_SECONDS)
