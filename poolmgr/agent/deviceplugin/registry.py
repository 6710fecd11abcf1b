"""All passthrough resources of the node, and their registration with the kubelet.

The kubelet forgets its plugins when it restarts and removes every socket in its folder. Both show as a new
`kubelet.sock` or a vanished socket of ours; then everything is served and registered again.
"""

import asyncio
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import grpc
import structlog

from poolmgr.agent.deviceplugin.allocation import Offer
from poolmgr.agent.deviceplugin.service import API_VERSION, ResourceService
from poolmgr.agent.wire import deviceplugin_pb2 as wire
from poolmgr.domain.identifiers import PciAddress
from poolmgr.kit.clock import Clock

GRANT_SETTLES_SECONDS = 30.0
"""For so long an answered Allocate counts as given, even while the kubelet's list does not show it yet: it
enters that list only after the whole pod has been admitted."""
REGISTER_SECONDS = 5.0

log = structlog.get_logger()


class PluginRegistry:
    """One `ResourceService` per resource name that was ever offered by this process.

    A resource whose last device left stays registered with none: the kubelet then counts 0 at once, where a
    plugin that went away would leave its capacity standing for minutes.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = asyncio.Lock()
        self._services: dict[str, ResourceService] = {}
        self._granted_at: dict[PciAddress, float] = {}
        self._kubelet: tuple[int, int] | None = None
        self._unregistered: set[str] = set()
        self.error = ""
        """Why the kubelet does not know all resources; empty when it does."""

    @property
    def resource_names(self) -> frozenset[str]:
        return frozenset(self._services)

    async def set_offers(self, offers: Iterable[Offer]) -> None:
        """Offer exactly these. On return no device left out can be allocated any more."""
        by_resource: dict[str, dict[PciAddress, Offer]] = {name: {} for name in self._services}
        for offer in offers:
            by_resource.setdefault(offer.resource_name, {})[offer.address] = offer
        async with self._lock:
            for name, devices in by_resource.items():
                if name not in self._services:
                    socket = self._folder / socket_name(name)
                    self._services[name] = ResourceService(name, socket, self._note_grant, self._lock)
                    self._unregistered.add(name)
                await self._services[name].set_offers(devices)
        await self.ensure_registered()

    def recently_granted(self, address: PciAddress) -> bool:
        """An Allocate for it was answered so lately that the kubelet's list may not show it."""
        at = self._granted_at.get(address)
        return at is not None and self._clock.monotonic() - at < GRANT_SETTLES_SECONDS

    async def ensure_registered(self) -> None:
        """Serve and register what is not, or not any more. Cheap when nothing changed."""
        kubelet = _identity(self._folder / "kubelet.sock")
        if kubelet != self._kubelet:
            self._kubelet = kubelet
            self._unregistered.update(self._services)
        for name, service in self._services.items():
            if not service.socket.exists():
                self._unregistered.add(name)
        self.error = "" if kubelet is not None else f"there is no kubelet at {self._folder}"
        for name in sorted(self._unregistered) if kubelet is not None else ():
            try:
                await self._serve_and_register(self._services[name])
            except (grpc.aio.AioRpcError, OSError, RuntimeError) as error:
                self.error = f"the kubelet did not take {name}: {error}"
                log.warning("device_plugin_not_registered", resource=name, error=str(error))
                return
            self._unregistered.discard(name)
            log.info("device_plugin_registered", resource=name)

    async def stop(self) -> None:
        for service in self._services.values():
            await service.stop()

    def _note_grant(self, address: PciAddress) -> None:
        self._granted_at[address] = self._clock.monotonic()

    async def _serve_and_register(self, service: ResourceService) -> None:
        await service.stop()
        await service.start()
        request = wire.RegisterRequest(
            version=API_VERSION,
            endpoint=service.socket.name,
            resource_name=service.resource_name,
            options=wire.DevicePluginOptions(get_preferred_allocation_available=True),
        )
        async with grpc.aio.insecure_channel(f"unix:{self._folder / 'kubelet.sock'}") as channel:
            register = channel.unary_unary(
                f"/{API_VERSION}.Registration/Register",
                request_serializer=wire.RegisterRequest.SerializeToString,
                response_deserializer=wire.Empty.FromString,
            )
            await register(request, timeout=REGISTER_SECONDS)


def socket_name(resource_name: str) -> str:
    """File name of a resource's socket. A unix socket's whole path may have 107 characters, and some product
    names alone have 60: the readable part is cut, a hash keeps it unique."""
    readable = re.sub(r"[^A-Za-z0-9_-]", "-", resource_name)[:30]
    return f"poolmgr-{readable}-{hashlib.sha256(resource_name.encode()).hexdigest()[:8]}.sock"


def _identity(socket: Path) -> tuple[int, int] | None:
    """Changes when the kubelet makes its socket anew."""
    try:
        info = socket.stat()
    except OSError:
        return None
    return info.st_ino, info.st_ctime_ns
