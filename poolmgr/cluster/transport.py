"""HTTP to the API server through `kubernetes.aio`: its configuration, authentication and connections.

Bytes in, bytes out: nothing here knows a kind. Tests put a scripted transport in its place.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config.config_exception import ConfigException

from poolmgr.domain.errors import Rejected, Unavailable
from poolmgr.domain.reasons import Reason
from poolmgr.wire.http_errors import OK

CONNECT_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Response:
    """An answer of the API server, whatever its status."""

    status: int
    body: bytes
    retry_after_seconds: float | None = None
    """From the `Retry-After` header, where there is one."""


class Transport(Protocol):
    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: object | None,
        content_type: str,
        timeout_seconds: float,
    ) -> Response:
        """Send and read to the end. Raises Unavailable when no answer came in time."""
        ...

    def stream(
        self, path: str, query: Mapping[str, str], read_timeout_seconds: float
    ) -> AbstractAsyncContextManager["Response | AsyncIterator[bytes]"]:
        """GET a watch: its lines, or the whole answer where the status is not 200.

        Entering, iterating and leaving raise Unavailable when the connection fails or is silent too long.
        """
        ...

    async def close(self) -> None: ...


class KubernetesTransport:
    """`kubernetes.aio`'s ApiClient, used below its models: they cost a hundred times the decoding."""

    def __init__(self, api: Any) -> None:
        self._api = api

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: object | None,
        content_type: str,
        timeout_seconds: float,
    ) -> Response:
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=CONNECT_TIMEOUT_SECONDS)
        with _connection_errors(f"{method} {path}"):
            answer = await self._send(method, path, query, body, content_type, timeout)
            return Response(answer.status, await answer.read(), _retry_after(answer))

    @asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], read_timeout_seconds: float
    ) -> AsyncIterator[Response | AsyncIterator[bytes]]:
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_SECONDS, sock_read=read_timeout_seconds
        )
        with _connection_errors(f"watch {path}"):
            answer = await self._send("GET", path, query, None, "application/json", timeout)
            try:
                if answer.status != OK:
                    yield Response(answer.status, await answer.read(), _retry_after(answer))
                else:
                    yield _lines(answer.response)
            finally:
                answer.response.close()

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: object | None,
        content_type: str,
        limits: aiohttp.ClientTimeout,
    ) -> Any:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        method, url, headers, body, _ = await self._api.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        return await self._api.call_api(method, url, headers, body, None, _request_timeout=limits)

    async def close(self) -> None:
        await self._api.close()


async def connect(kubeconfig: str | None = None, *, context: str | None = None) -> KubernetesTransport:
    """Build from a kubeconfig file, or from the pod's service account when `kubeconfig` is None.

    Raises Rejected where there is no usable configuration. Opens no connection yet.
    """
    configuration = await _configuration(kubeconfig, context)
    # Watches each hold one connection for their whole life; the default of 100 is shared with requests.
    configuration.connection_pool_maxsize = 100
    # By the checks of kubectl: Python 3.13 also refuses certificates without an Authority Key Identifier, which many
    # clusters' API servers have.
    configuration.disable_strict_ssl_verification = True
    api = ApiClient(configuration)
    api.user_agent = "poolmgr"
    return KubernetesTransport(api)


def bearer_token(kubeconfig: str | None = None, *, context: str | None = None) -> str:
    """The token that a kubeconfig, or the pod's service account, sends to the API server; empty where it proves who it is
    in another way, as by a client certificate. Raises Rejected as `connect` does."""
    configuration = asyncio.run(_configuration(kubeconfig, context))
    sent = str(configuration.api_key.get("BearerToken") or "")
    return sent.removeprefix("Bearer ").removeprefix("bearer ")


async def _configuration(kubeconfig: str | None, context: str | None) -> Any:
    configuration = Configuration()
    try:
        if kubeconfig is None:
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(
                config_file=kubeconfig,
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
    except (ConfigException, OSError, ValueError) as error:
        where = f"kubeconfig {kubeconfig}" if kubeconfig else "service account of this pod"
        raise Rejected(
            Reason.INVALID_REQUEST,
            f"The {where} cannot be used ({error}). Give a readable kubeconfig file, or run inside a cluster.",
        ) from error
    return configuration


class _connection_errors:  # noqa: N801 - reads as a statement at its use
    """Turns everything that means "no answer" into Unavailable."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (aiohttp.ClientError, asyncio.TimeoutError, OSError)):
            detail = str(error) or type(error).__name__
            raise Unavailable(
                Reason.API_UNAVAILABLE,
                f"The API server did not answer {self._what} ({detail}). It is tried again; "
                "check that the API server is up and reachable from here.",
            ) from error


def _retry_after(answer: Any) -> float | None:
    value = answer.getheader("Retry-After")
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Whole lines of any length: a watch event may be longer than the reader's buffer."""
    pending = bytearray()
    async for chunk in response.content.iter_any():
        pending += chunk
        *lines, rest = pending.split(b"\n")
        for line in lines:
            if line:
                yield bytes(line)
        pending = bytearray(rest)
