"""Serves the application over TLS and changes the certificate without dropping a connection."""

import asyncio
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
import uvicorn
from starlette.types import ASGIApp

from poolmgr.domain.errors import PoolError, Stale
from poolmgr.kit.clock import Clock
from poolmgr.kit.http_protocol import BoundedProtocol
from poolmgr.kit.http_server import Server
from webhooks.admission import BODY_LIMIT_BYTES
from webhooks.certificates import CertificateStore, certificates_from, renewed

CHECK_SECONDS = 60.0
"""How often the certificate is looked at; also how long a replica may serve the one before."""
RETRY_SECONDS = 3.0
REQUEST_LIMIT_BYTES = 2 * BODY_LIMIT_BYTES
"""With room for a body that is sent in small chunks."""
log = structlog.get_logger()

Pair = tuple[bytes, bytes]
"""Certificate chain and private key, PEM."""


class TlsCertificate:
    """The TLS side of the server: new handshakes use the pair that was loaded last."""

    def __init__(self) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._pair: Pair | None = None

    def use(self, pair: Pair) -> bool:
        """True when it differs from the one in use. Raises ssl.SSLError when it is no pair."""
        if pair == self._pair:
            return False
        # OpenSSL reads files only; these live in memory-backed /tmp (see the chart) for a moment.
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
            certificate.write_bytes(pair[0])
            key.touch(mode=0o600)
            key.write_bytes(pair[1])
            self.context.load_cert_chain(certificate, key)
        self._pair = pair
        return True


PairSource = Callable[[], Awaitable[Pair]]


def pair_from_files(certificate: Path, key: Path) -> PairSource:
    """For certificates that something else renews, such as cert-manager's mounted Secret."""

    async def read() -> Pair:
        return await asyncio.to_thread(certificate.read_bytes), await asyncio.to_thread(key.read_bytes)

    return read


def pair_from_store(store: CertificateStore, names: frozenset[str], clock: Clock) -> PairSource:
    """For certificates of our own: renews what is due, tells the API server whom to trust, then answers."""

    async def ensure() -> Pair:
        while True:
            data, revision = await store.load()
            current = certificates_from(data)
            wanted = renewed(current, names, clock.now())
            if wanted is not current:
                try:
                    await store.save(wanted.to_data(), revision)
                except Stale:
                    # Another replica was faster: take what it made.
                    continue
                log.info("webhook_certificate_renewed", names=sorted(names))
            await store.publish(wanted.authorities)
            return wanted.certificate, wanted.key

    return ensure


async def keep_certificate(tls: TlsCertificate, source: PairSource, clock: Clock) -> None:
    """Until cancelled: a source that fails leaves the present certificate in use and is asked again."""
    while True:
        await clock.sleep(CHECK_SECONDS)
        try:
            if tls.use(await source()):
                log.info("webhook_certificate_changed")
        except (PoolError, OSError, ValueError) as error:
            log.warning("webhook_certificate_check_failed", detail=str(error))


async def first_certificate(tls: TlsCertificate, source: PairSource, clock: Clock) -> None:
    """Wait until there is one: without it nothing can be served, and requests pass (failurePolicy Ignore)."""
    while True:
        try:
            tls.use(await source())
            return
        except (PoolError, OSError, ValueError) as error:
            log.warning("webhook_certificate_missing", detail=str(error), retry_seconds=RETRY_SECONDS)
            await clock.sleep(RETRY_SECONDS)


class ReviewProtocol(BoundedProtocol):
    """With bodies as long as admission reviews."""

    request_limit_bytes = REQUEST_LIMIT_BYTES


def server(app: ASGIApp, tls: TlsCertificate, host: str, port: int) -> Server:
    """Ready to `serve()`. Keeps connections open: the API server reuses its own."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=ReviewProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=120,
        timeout_graceful_shutdown=10,
    )
    config.load()
    config.ssl = tls.context
    return Server(config)
