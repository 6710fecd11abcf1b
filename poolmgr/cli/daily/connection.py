"""How a command reaches the cluster: by the caller's kubeconfig, with the caller's rights."""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import httpx
import typer

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason
from poolmgr.kit.clock import Clock, SystemClock

if TYPE_CHECKING:
    from poolmgr.cluster.client import Client
    from poolmgr.cluster.transport import Transport

T = TypeVar("T")

MANAGER_TIMEOUT_SECONDS = 30.0
"""A plan for thousands of GPUs takes a second or two; a busy manager some more."""


async def _connect(kubeconfig: str | None, context: str | None) -> "Transport":
    from poolmgr.cluster import transport  # here: it takes a second to load

    return await transport.connect(kubeconfig, context=context)


def _http(server: str, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=server.rstrip("/"), headers=headers, timeout=MANAGER_TIMEOUT_SECONDS)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The world around a command. Tests put another in its place."""

    connect: Callable[[str | None, str | None], Awaitable["Transport"]] = _connect
    """To the API server, by kubeconfig and context."""
    http: Callable[[str, str], httpx.Client] = _http
    """To a manager, by its address and a token."""
    clock: Clock = SystemClock()
    pause: Callable[[float], None] = time.sleep
    """Between two readings of --watch, in seconds."""


REAL = Surroundings()
SURROUNDINGS: ContextVar[Surroundings] = ContextVar("surroundings", default=REAL)

Kubeconfig = Annotated[
    str | None,
    typer.Option(
        help="Kubeconfig of the cluster; default: KUBECONFIG, ~/.kube/config, or the pod's own credentials."
    ),
]
Context = Annotated[str | None, typer.Option(help="Kubeconfig context; default: the current one.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Only this namespace.")]
Server = Annotated[
    str,
    typer.Option(
        envvar="POOLMGR_SERVER",
        help="Address of the manager's REST API, e.g. http://localhost:8080; default: the leader's pod, by "
        "kubectl port-forward.",
    ),
]
Token = Annotated[
    str,
    typer.Option(
        envvar="POOLMGR_TOKEN",
        help="Bearer token for the manager; default, if it is reached through the cluster: the kubeconfig's.",
    ),
]


def kubeconfig_of(given: str | None) -> str | None:
    """The kubeconfig to use; None for the service account of the pod that this runs in. Raises Rejected where there is
    neither."""
    chosen = given or os.environ.get("KUBECONFIG") or ""
    if chosen:
        # KUBECONFIG may name several, as kubectl has it.
        if not any(Path(part).expanduser().is_file() for part in chosen.split(os.pathsep)):
            raise Rejected(
                Reason.NOT_FOUND, f"there is no kubeconfig {chosen}; name the cluster's with --kubeconfig"
            )
        return os.pathsep.join(str(Path(part).expanduser()) for part in chosen.split(os.pathsep))
    home = Path("~/.kube/config").expanduser()
    if home.is_file():
        return str(home)
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return None
    raise Rejected(
        Reason.NOT_FOUND,
        f"there is no kubeconfig: neither KUBECONFIG nor {home}; name the cluster's with --kubeconfig",
    )


def with_cluster(kubeconfig: str | None, context: str | None, ask: Callable[["Client"], Awaitable[T]]) -> T:
    """What `ask` answers with a connection to the cluster. Raises Rejected for a kubeconfig that cannot be used."""
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    return asyncio.run(_ask(kubeconfig_of(kubeconfig), context, ask))


async def _ask(kubeconfig: str | None, context: str | None, ask: Callable[["Client"], Awaitable[T]]) -> T:
    from poolmgr.cluster.client import Client

    around = SURROUNDINGS.get()
    client = Client(await around.connect(kubeconfig, context), clock=around.clock, rng=random.Random())
    try:
        return await ask(client)
    finally:
        await client.close()
