"""One resource's device-plugin socket, as the kubelet calls it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc

from poolmgr.agent.deviceplugin.allocation import Offer, grant, prefer
from poolmgr.agent.wire import deviceplugin_pb2 as wire
from poolmgr.domain.identifiers import PciAddress

HEALTHY, UNHEALTHY = "Healthy", "Unhealthy"
API_VERSION = "v1beta1"


class ResourceService:
    """Serves what is in `offers`. `lock` is held while an allocation is answered and while offers change,
    so a device is either given or withdrawn, never both."""

    def __init__(
        self, resource_name: str, socket: Path, on_grant: Callable[[PciAddress], None], lock: asyncio.Lock
    ) -> None:
        self.resource_name = resource_name
        self.socket = socket
        self._on_grant = on_grant
        self._lock = lock
        self._offers: Mapping[PciAddress, Offer] = {}
        self._changed = asyncio.Condition()
        self._version = 0
        self._server: Any = None
        self._stopped = False

    async def start(self) -> None:
        """Listen. A socket left by an earlier agent is replaced."""
        self.socket.unlink(missing_ok=True)
        self._stopped = False
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self._handlers(),))
        self._server.add_insecure_port(f"unix:{self.socket}")
        await self._server.start()

    async def stop(self) -> None:
        self._stopped = True
        await self._announce()
        if self._server is not None:
            await self._server.stop(grace=0.5)
            self._server = None
        self.socket.unlink(missing_ok=True)

    async def set_offers(self, offers: Mapping[PciAddress, Offer]) -> None:
        """Replace what is offered; the kubelet is told at once. The caller holds the lock."""
        if dict(self._offers) == dict(offers):
            return
        self._offers = dict(offers)
        await self._announce()

    async def _announce(self) -> None:
        async with self._changed:
            self._version += 1
            self._changed.notify_all()

    def _handlers(self) -> Any:
        def unary(method: Any, request: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(method, request.FromString, _serialize)

        return grpc.method_handlers_generic_handler(
            f"{API_VERSION}.DevicePlugin",
            {
                "GetDevicePluginOptions": unary(self._options, wire.Empty),
                "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                    self._list_and_watch, wire.Empty.FromString, _serialize
                ),
                "GetPreferredAllocation": unary(self._preferred, wire.PreferredAllocationRequest),
                "Allocate": unary(self._allocate, wire.AllocateRequest),
                "PreStartContainer": unary(self._pre_start, wire.PreStartContainerRequest),
            },
        )

    async def _options(self, _request: Any, _context: Any) -> Any:
        return wire.DevicePluginOptions(get_preferred_allocation_available=True)

    async def _list_and_watch(self, _request: Any, _context: Any) -> AsyncIterator[Any]:
        sent = -1
        while not self._stopped:
            async with self._changed:
                while self._version == sent and not self._stopped:
                    await self._changed.wait()
                sent = self._version
                devices = [_device(offer) for _, offer in sorted(self._offers.items())]
            yield wire.ListAndWatchResponse(devices=devices)

    async def _preferred(self, request: Any, _context: Any) -> Any:
        numa: dict[str, int | None] = {a: offer.numa_node for a, offer in self._offers.items()}
        reply = wire.PreferredAllocationResponse()
        for c in request.container_requests:
            ids = prefer(c.available_deviceIDs, c.must_include_deviceIDs, c.allocation_size, numa)
            reply.container_responses.add(deviceIDs=ids)
        return reply

    async def _allocate(self, request: Any, context: Any) -> Any:
        async with self._lock:
            asked = [PciAddress(i) for c in request.container_requests for i in c.devices_ids]
            missing = [at for at in asked if at not in self._offers or self._offers[at].closed]
            if missing:
                sentence = (
                    f"{', '.join(missing)} is no longer offered; delete the pod, so that it is placed again"
                )
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, sentence)
            reply = wire.AllocateResponse()
            for container in request.container_requests:
                offers = [self._offers[PciAddress(i)] for i in container.devices_ids]
                granted = grant(self.resource_name, offers)
                answer = reply.container_responses.add(envs=granted.environment)
                for path in granted.device_files:
                    answer.devices.add(container_path=path, host_path=path, permissions="mrw")
            for address in asked:
                self._on_grant(address)
            return reply

    async def _pre_start(self, _request: Any, _context: Any) -> Any:
        return wire.PreStartContainerResponse()


def _serialize(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _device(offer: Offer) -> Any:
    device = wire.Device(ID=offer.address, health=UNHEALTHY if offer.closed else HEALTHY)
    if offer.numa_node is not None:
        device.topology.nodes.add(ID=offer.numa_node)
    return device
