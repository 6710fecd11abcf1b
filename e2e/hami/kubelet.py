"""The kubelet's side of the device-plugin API on a real socket, for plugins that no kubelet runs beside.

Written from the kubelet's behaviour: on registration it asks for the plugin's options, then keeps the ListAndWatch
stream and takes each list as the whole truth; when it starts it removes all sockets of its folder.
"""

import shutil
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from e2e.hami.standin import wire


class Refused(Exception):
    """The plugin answered with an error."""


class Kubelet:
    """`folder` is what a plugin knows as /var/lib/kubelet/device-plugins; its name is short, as socket paths must be."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kubelet-"))
        self.registrations: list[Any] = []
        self.options: Any = None
        self._devices: dict[str, str] = {}
        self._server: Any = None
        self._channel: Any = None

    def start(self) -> "Kubelet":
        for leftover in self.folder.iterdir():
            leftover.unlink()
        self._server = grpc.server(ThreadPoolExecutor(max_workers=2))
        register = grpc.unary_unary_rpc_method_handler(
            self._register, wire.message("RegisterRequest").FromString, _serialize
        )
        handlers = grpc.method_handlers_generic_handler("v1beta1.Registration", {"Register": register})
        self._server.add_generic_rpc_handlers((handlers,))
        self._server.add_insecure_port(f"unix:{self.folder}/kubelet.sock")
        self._server.start()
        return self

    def stop(self) -> None:
        if self._channel:
            self._channel.close()
        self._server.stop(grace=None).wait()
        self._devices = {}

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def devices(self) -> dict[str, str]:
        """Device id → health, of the last list."""
        return dict(self._devices)

    def offered(self) -> Counter[str]:
        """GPU → how many healthy devices."""
        healthy = [device for device, health in self.devices.items() if health == wire.HEALTHY]
        return Counter(device.rpartition("-")[0] for device in healthy)

    def allocate(self, *containers: list[str]) -> list[Any]:
        """Asks for these device ids, container by container in one call. Raises Refused."""
        one = wire.message("ContainerAllocateRequest")
        request = wire.message("AllocateRequest")(
            container_requests=[one(devices_ids=ids) for ids in containers]
        )
        return list(self._call("Allocate", request, "AllocateResponse").container_responses)

    def preferred(self, available: list[str], size: int) -> list[str]:
        """Which of these ids the plugin would like to be asked for."""
        one = wire.message("ContainerPreferredAllocationRequest")
        request = wire.message("PreferredAllocationRequest")(
            container_requests=[one(available_deviceIDs=available, allocation_size=size)]
        )
        answers = self._call(
            "GetPreferredAllocation", request, "PreferredAllocationResponse"
        ).container_responses
        return [device for answer in answers for device in answer.deviceIDs]

    def _register(self, request: Any, _context: Any) -> Any:
        self.registrations.append(request)
        self._channel = grpc.insecure_channel(f"unix:{self.folder}/{request.endpoint}")
        threading.Thread(target=self._follow, args=(self._channel,), daemon=True).start()
        return wire.message("Empty")()

    def _follow(self, channel: Any) -> None:
        try:
            self.options = self._call(
                "GetDevicePluginOptions", wire.message("Empty")(), "DevicePluginOptions"
            )
            watch = channel.unary_stream(
                f"/{wire.SERVICE}/ListAndWatch", _serialize, wire.message("ListAndWatchResponse").FromString
            )
            for answer in watch(wire.message("Empty")()):
                self._devices = {device.ID: device.health for device in answer.devices}
        except (grpc.RpcError, Refused, ValueError):
            pass  # the plugin has gone
        if channel is self._channel:
            self._devices = {}

    def _call(self, method: str, request: Any, answer: str) -> Any:
        call = self._channel.unary_unary(
            f"/{wire.SERVICE}/{method}", _serialize, wire.message(answer).FromString
        )
        try:
            return call(request, timeout=30)
        except grpc.RpcError as error:
            raise Refused(error.details()) from error


def _serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data
