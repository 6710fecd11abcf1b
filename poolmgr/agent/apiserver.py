"""The agent's client of the API server: its own GPUNode and Lease, its Node's UID, the pods on its node. Nothing else.

Plain HTTP on purpose (docs/adr/0006-agent-http-client.md): five requests do not need the 65 MiB that the
official client takes on every node.
"""

from collections.abc import AsyncIterator
from typing import Any, TypeVar

import httpx
import msgspec
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from poolmgr.agent.credentials import Credentials
from poolmgr.agent.hook_node import ContainerLimits, given_by_hami
from poolmgr.agent.observe import Pods
from poolmgr.agent.podresources import PodName
from poolmgr.domain.errors import Fault, Stale, Unavailable
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.liveness import SILENT_SECONDS
from poolmgr.domain.reasons import Reason
from poolmgr.kit.clock import Clock
from poolmgr.wire.decoding import decode_as
from poolmgr.wire.hami.pods import slices
from poolmgr.wire.http_errors import SERVER_ERROR, Absent, error_of, is_success
from poolmgr.wire.instants import to_rfc3339_micro
from poolmgr.wire.kinds import GPU_NODES, LEASES, NODES, PODS, POOLMGR_API_VERSION
from poolmgr.wire.kube_node import Node
from poolmgr.wire.kube_pod import TERMINAL_PHASES, Pod
from poolmgr.wire.lease import AGENT_LABEL, AGENT_LABEL_VALUE, LeaseSpec, agent_lease_name
from poolmgr.wire.meta import Page, Status, WatchEvent

WATCH_SECONDS = 240
"""The server ends a watch after this; it is then begun anew from the last version seen."""
RETRY_FOR_SECONDS = 10.0

T = TypeVar("T")
Json = dict[str, Any]


class ApiServer:
    """Requests of one node's agent. Raises what `wire.http_errors` makes of an answer, Unavailable where none came."""

    def __init__(
        self,
        credentials: Credentials,
        node: NodeName,
        clock: Clock,
        transport: httpx.AsyncBaseTransport | None = None,
        namespace: str = "poolmgr-system",
    ) -> None:
        """`namespace` is that of the agent's Lease."""
        self._credentials = credentials
        self._namespace = namespace
        self._node = node
        self._clock = clock
        self._path = GPU_NODES.path(node)
        self._client = httpx.AsyncClient(
            base_url=credentials.server,
            verify=credentials.tls,
            timeout=httpx.Timeout(10.0),
            transport=transport,
            # The node agent talks to the API server alone; a proxy for the world must not get in between.
            trust_env=False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def read_or_create(self) -> dict[str, Any]:
        """Our GPUNode; made when missing, owned by the Node so that it goes with it."""
        try:
            return await self._request("GET", self._path, Json)
        except Absent:
            owner = await self._owner()
        body = {
            "apiVersion": POOLMGR_API_VERSION,
            "kind": "GPUNode",
            "metadata": {"name": self._node, "ownerReferences": [owner]},
            "spec": {},
        }
        try:
            return await self._request("POST", GPU_NODES.path(), Json, body)
        except Stale:  # another agent of this node was faster
            return await self._request("GET", self._path, Json)

    async def patch_status(self, status: dict[str, Any], resource_version: str) -> dict[str, Any]:
        """Replace the status if the object is still the one it was made from; return the new object."""
        body = {"metadata": {"resourceVersion": resource_version}, "status": status}
        return await self._request("PATCH", GPU_NODES.path(self._node, subresource="status"), Json, body)

    async def beat(self) -> None:
        """Renew the Lease of this node's agent; made when missing, owned by the Node so that it goes with it."""
        name = agent_lease_name(self._node)
        spec = msgspec.to_builtins(
            LeaseSpec(
                holder_identity=self._node,
                lease_duration_seconds=round(SILENT_SECONDS),
                renew_time=to_rfc3339_micro(self._clock.now()),
            )
        )
        try:
            await self._request("PATCH", LEASES.path(name, namespace=self._namespace), Json, {"spec": spec})
            return
        except Absent:
            owner = await self._owner()
        metadata = {"name": name, "labels": {AGENT_LABEL: AGENT_LABEL_VALUE}, "ownerReferences": [owner]}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        await self._request("POST", LEASES.path(namespace=self._namespace), Json, body)

    async def _owner(self) -> dict[str, str]:
        """The reference by which an object goes with our Node."""
        node = await self._request("GET", NODES.path(self._node), Node)
        return {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": node.metadata.uid}

    async def watch(self, resource_version: str) -> AsyncIterator[dict[str, Any]]:
        """Changes of our GPUNode from `resource_version` on, until the server ends it. Deleted comes as an
        object without metadata. Raises Expired when the version is too old to continue from."""
        query = {
            "watch": "1",
            "fieldSelector": f"metadata.name={self._node}",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        try:
            async with self._client.stream(
                "GET",
                GPU_NODES.path(),
                params=query,
                headers=self._headers(),
                timeout=httpx.Timeout(10.0, read=WATCH_SECONDS + 30),
            ) as response:
                if not is_success(response.status_code):
                    body = await response.aread()
                    raise error_of(response.status_code, body, f"watch GPUNode {self._node}")
                async for line in response.aiter_lines():
                    event = decode_as(WatchEvent, line.encode())
                    if event.type == "ERROR":
                        raise _watch_error(event, f"watch GPUNode {self._node}")
                    yield {} if event.type == "DELETED" else decode_as(Json, event.object)
        except (httpx.HTTPError, msgspec.DecodeError, OSError) as error:
            raise Unavailable(Reason.API_UNAVAILABLE, f"{self._credentials.server}: {error!r}") from error

    async def list_pods(self) -> Pods:
        """Of the pods bound to this node: their UIDs, which have slices of which GPU, and which use ResourceClaims."""
        uids: dict[PodName, str] = {}
        held: dict[str, list[str]] = {}
        claimers = set()
        for pod in await self._pods():
            meta = pod.metadata
            name = PodName(meta.namespace, meta.name)
            uids[name] = meta.uid
            if pod.status.phase not in TERMINAL_PHASES:
                for piece in slices(meta.annotations.allocated, meta.annotations.mig_allocations):
                    held.setdefault(piece.uuid, []).append(str(name))
                if pod.spec.resource_claims:
                    claimers.add(name)
        return Pods(uids, {uuid: tuple(sorted(names)) for uuid, names in held.items()}, frozenset(claimers))

    async def list_limits(self) -> dict[str, ContainerLimits]:
        """What HAMi gave the containers on this node, by the names of their folders."""
        found: dict[str, ContainerLimits] = {}
        for pod in await self._pods():
            found |= given_by_hami(pod)
        return found

    async def _pods(self) -> tuple[Pod, ...]:
        query = {"fieldSelector": f"spec.nodeName={self._node}"}
        page = await self._request("GET", PODS.path(), Page[Pod], params=query)
        if page.metadata.continue_:  # nobody asked for a part
            message = f"only a part of the pods of {self._node} was answered, so nothing is moved"
            raise Fault(Reason.INVARIANT_BROKEN, message)
        return page.items or ()

    def _headers(self) -> dict[str, str]:
        bearer = self._credentials.bearer()
        return {"Authorization": f"Bearer {bearer}"} if bearer else {}

    async def _request(
        self,
        method: str,
        path: str,
        as_type: type[T],
        body: Json | None = None,
        *,
        params: dict[str, str] | None = None,
    ) -> T:
        """The answer as `as_type`. Raises Fault where it is another thing: nothing is moved by what cannot be read."""
        headers = self._headers()
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        give_up_at = self._clock.monotonic() + RETRY_FOR_SECONDS
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            stop=lambda _: self._clock.monotonic() >= give_up_at,
            wait=wait_random_exponential(0.2, max=3.0),
            sleep=self._clock.sleep,
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                try:
                    response = await self._client.request(
                        method, path, json=body, params=params, headers=headers
                    )
                except (httpx.HTTPError, OSError) as error:
                    raise Unavailable(
                        Reason.API_UNAVAILABLE, f"{self._credentials.server}: {error!r}"
                    ) from error
                if not is_success(response.status_code):
                    raise error_of(response.status_code, response.content, f"{method} {path}")
                try:
                    answer = decode_as(as_type, response.content)
                except msgspec.ValidationError as error:
                    message = f"{method} {path} answered something unexpected, so nothing is moved: {error}"
                    raise Fault(Reason.INVARIANT_BROKEN, message) from error
                except msgspec.DecodeError as error:
                    raise Unavailable(Reason.API_UNAVAILABLE, f"{method} {path}: {error!r}") from error
        return answer


def _watch_error(event: WatchEvent, what: str) -> Exception:
    body = bytes(event.object)
    return error_of(decode_as(Status, body).code or SERVER_ERROR, body, what)
