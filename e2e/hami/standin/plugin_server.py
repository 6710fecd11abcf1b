"""The plugin's side of the kubelet's device-plugin API, on a unix socket."""

import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from e2e.hami.standin import wire
from e2e.hami.standin.allocation import Allocator, Grant, NotAllocated

DIAL_SECONDS = 5
log = logging.getLogger(__name__)


class PluginServer:
    """Serves the GPUs `uuids`, each as `split` devices. Health only ever gets worse."""

    def __init__(
        self, uuids: list[str], split: int, allocator: Allocator, *, by_ids: bool, prefers: bool
    ) -> None:
        self._healthy = dict.fromkeys(uuids, True)
        self._split, self._allocator = split, allocator
        self._by_ids, self._prefers = by_ids, prefers
        self._changed = threading.Condition()
        self._version = 0
        self._stopped = False
        self._one_at_a_time = threading.Lock()
        self._server: Any = None

    @property
    def uuids(self) -> list[str]:
        return list(self._healthy)

    def healthy(self, uuid: str) -> bool:
        return self._healthy[uuid]

    def mark_unhealthy(self, uuid: str) -> None:
        with self._changed:
            self._healthy[uuid] = False
            self._version += 1
            self._changed.notify_all()

    def start(self, socket: Path) -> None:
        """Listens; a socket left behind is replaced."""
        socket.unlink(missing_ok=True)
        self._server = grpc.server(ThreadPoolExecutor(max_workers=8))
        unary = grpc.unary_unary_rpc_method_handler
        handlers = {
            "GetDevicePluginOptions": unary(self._options, *_codec("Empty")),
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(self._list_and_watch, *_codec("Empty")),
            "GetPreferredAllocation": unary(self._preferred, *_codec("PreferredAllocationRequest")),
            "Allocate": unary(self._allocate, *_codec("AllocateRequest")),
            "PreStartContainer": unary(
                lambda _request, _context: wire.message("PreStartContainerResponse")(),
                *_codec("PreStartContainerRequest"),
            ),
        }
        generic = grpc.method_handlers_generic_handler(wire.SERVICE, handlers)
        self._server.add_generic_rpc_handlers((generic,))
        self._server.add_insecure_port(f"unix:{socket}")
        self._server.start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._server:
            self._server.stop(grace=1)

    def register(self, kubelet: Path, socket: Path, resource: str) -> None:
        """Tells the kubelet. Raises grpc.RpcError, and grpc.FutureTimeoutError where nobody listens."""
        request = wire.message("RegisterRequest")(
            version=wire.VERSION,
            endpoint=socket.name,
            resource_name=resource,
            options=wire.message("DevicePluginOptions")(get_preferred_allocation_available=self._by_ids),
        )
        with grpc.insecure_channel(f"unix:{kubelet}") as channel:
            grpc.channel_ready_future(channel).result(timeout=DIAL_SECONDS)
            call = channel.unary_unary(
                wire.REGISTER, _serialize, response_deserializer=wire.message("Empty").FromString
            )
            call(request, timeout=DIAL_SECONDS)

    # --- what the kubelet calls -----------------------------------------------------------------------------

    def _options(self, _request: Any, _context: Any) -> Any:
        return wire.message("DevicePluginOptions")(get_preferred_allocation_available=self._prefers)

    def _list_and_watch(self, _request: Any, context: Any) -> Iterator[Any]:
        sent = -1
        while context.is_active():
            with self._changed:
                if self._version == sent and not self._stopped:
                    self._changed.wait(timeout=1)
                if self._stopped:
                    return
                if self._version == sent:
                    continue
                sent = self._version
            yield wire.message("ListAndWatchResponse")(devices=self._devices())

    def _devices(self) -> list[Any]:
        device = wire.message("Device")
        return [
            device(ID=f"{uuid}-{number}", health=wire.HEALTHY if healthy else wire.UNHEALTHY)
            for uuid, healthy in self._healthy.items()
            for number in range(self._split)
        ]

    def _preferred(self, request: Any, _context: Any) -> Any:
        response = wire.message("PreferredAllocationResponse")()
        if self._prefers:
            asked = [
                (list(r.available_deviceIDs), list(r.must_include_deviceIDs), r.allocation_size)
                for r in request.container_requests
            ]
            for ids in self._allocator.preferred(asked):
                response.container_responses.add(deviceIDs=ids)
        return response

    def _allocate(self, request: Any, context: Any) -> Any:
        requests = [list(container.devices_ids) for container in request.container_requests]
        with self._one_at_a_time:
            try:
                grants = self._allocator.allocate(requests, by_ids=self._by_ids)
            except NotAllocated as refusal:
                log.error("Allocate: %s", refusal)
                context.abort(grpc.StatusCode.UNKNOWN, str(refusal))
        return wire.message("AllocateResponse")(container_responses=[_granted(grant) for grant in grants])


def _granted(grant: Grant) -> Any:
    mount = wire.message("Mount")
    return wire.message("ContainerAllocateResponse")(
        envs=wire.pairs(grant.environment),
        mounts=[
            mount(container_path=inside, host_path=outside, read_only=read_only)
            for inside, outside, read_only in grant.mounts
        ],
    )


def _codec(request: str) -> tuple[Any, Any]:
    return wire.message(request).FromString, _serialize


def _serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def socket_of(folder: Path, resource: str) -> Path:
    """`nvidia.com/gpu` → `nvidia-gpu.sock`."""
    return folder / f"nvidia-{resource.rpartition('/')[2]}.sock"


def identity(path: Path) -> tuple[int, int]:
    """Changes when a socket is made anew, even where the file system gives it the number of the one before; zeros
    while there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - pathlib costs a second on the emulated node
    except OSError:
        return 0, 0
    return found.st_ino, found.st_ctime_ns
