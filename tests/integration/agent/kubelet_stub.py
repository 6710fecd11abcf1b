"""The kubelet's side of the device-plugin and pod-resources APIs, over real unix sockets.

Written against the kubelet's behaviour, not against our plugin: it dials the plugin back on registration,
keeps the ListAndWatch stream, drops devices when the stream ends, and removes all sockets in its folder
when it starts.
"""

import asyncio
from pathlib import Path
from typing import Any

import grpc

from e2e.processes import PATIENCE_SECONDS
from poolmgr.agent.wire import deviceplugin_pb2 as plugin
from poolmgr.agent.wire import podresources_pb2 as resources


class KubeletStub:
    def __init__(self, folder: Path) -> None:
        self.plugins = folder / "device-plugins"
        self.pods = folder / "pod-resources"
        self.devices: dict[str, dict[str, Any]] = {}
        self.registrations: list[str] = []
        self.given: dict[tuple[str, str], tuple[str, str]] = {}
        self.changed = asyncio.Event()
        self._server: Any = None
        self._watchers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.plugins.mkdir(parents=True, exist_ok=True)
        self.pods.mkdir(parents=True, exist_ok=True)
        for leftover in self.plugins.iterdir():
            leftover.unlink()
        self._server = grpc.aio.server()
        unary = grpc.unary_unary_rpc_method_handler
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    "v1beta1.Registration",
                    {"Register": unary(self._register, plugin.RegisterRequest.FromString, _out)},
                ),
                grpc.method_handlers_generic_handler(
                    "v1.PodResourcesLister",
                    {
                        "List": unary(self._list, resources.ListPodResourcesRequest.FromString, _out),
                        "GetAllocatableResources": unary(
                            self._allocatable, resources.AllocatableResourcesRequest.FromString, _out
                        ),
                    },
                ),
            )
        )
        self._server.add_insecure_port(f"unix:{self.plugins}/kubelet.sock")
        self._server.add_insecure_port(f"unix:{self.pods}/kubelet.sock")
        await self._server.start()

    async def stop(self) -> None:
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        self._watchers.clear()
        await self._server.stop(grace=None)
        self.devices.clear()

    async def until_devices(self, resource: str, addresses: set[str]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while set(self.devices.get(resource, {})) != addresses:
                self.changed.clear()
                await self.changed.wait()

    async def call(self, resource: str, method: str, request: Any, reply: Any) -> Any:
        async with grpc.aio.insecure_channel(f"unix:{self._endpoint(resource)}") as channel:
            call = channel.unary_unary(
                f"/v1beta1.DevicePlugin/{method}",
                request_serializer=_out,
                response_deserializer=reply.FromString,
            )
            return await call(request, timeout=PATIENCE_SECONDS)

    def _endpoint(self, resource: str) -> Path:
        return self.plugins / self._endpoints[resource]

    _endpoints: dict[str, str]

    async def _register(self, request: Any, context: Any) -> Any:
        assert request.version == "v1beta1"
        self.registrations.append(request.resource_name)
        self._endpoints = {**getattr(self, "_endpoints", {}), request.resource_name: request.endpoint}
        self._watchers.append(asyncio.create_task(self._watch(request.resource_name, request.endpoint)))
        return plugin.Empty()

    async def _watch(self, resource: str, endpoint: str) -> None:
        async with grpc.aio.insecure_channel(f"unix:{self.plugins / endpoint}") as channel:
            watch = channel.unary_stream(
                "/v1beta1.DevicePlugin/ListAndWatch",
                request_serializer=_out,
                response_deserializer=plugin.ListAndWatchResponse.FromString,
            )
            try:
                async for answer in watch(plugin.Empty()):
                    self.devices[resource] = {d.ID: d for d in answer.devices if d.health == "Healthy"}
                    self.changed.set()
            except grpc.aio.AioRpcError:
                pass
            finally:
                if self._endpoints.get(resource) == endpoint:
                    self.devices.pop(resource, None)
                self.changed.set()

    async def _list(self, _request: Any, _context: Any) -> Any:
        answer = resources.ListPodResourcesResponse()
        for (resource, device), (namespace, name) in self.given.items():
            pod = answer.pod_resources.add(namespace=namespace, name=name)
            pod.containers.add(name="c").devices.add(resource_name=resource, device_ids=[device])
        return answer

    async def _allocatable(self, _request: Any, _context: Any) -> Any:
        answer = resources.AllocatableResourcesResponse()
        for resource, devices in self.devices.items():
            answer.devices.add(resource_name=resource, device_ids=sorted(devices))
        return answer


def _out(message: Any) -> bytes:
    return bytes(message.SerializeToString())
