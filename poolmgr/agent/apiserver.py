"""The agent's door to the API server: its own GPUNode, its Node's UID, the pods on its node. Nothing else.

Plain HTTP on purpose (docs/adr/0006-agent-http-client.md): four requests do not need the 65 MiB that the
official client takes on every node.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from poolmgr.agent.credentials import Credentials
from poolmgr.agent.podresources import PodName
from poolmgr.domain.errors import PoolError, Rejected, Stale, Unavailable
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.reasons import Reason
from poolmgr.kit.clock import Clock

GROUP = "poolmgr.io/v1alpha1"
GPUNODES = f"/apis/{GROUP}/gpunodes"
WATCH_SECONDS = 240
"""The server ends a watch after this; it is then begun anew from the last version seen."""
RETRY_FOR_SECONDS = 10.0

ALLOCATED_BY_HAMI = "hami.io/vgpu-devices-allocated"
"""Pod annotation in which HAMi's scheduler records the UUIDs of the GPUs it chose."""


class ApiServer:
    """Requests of one node's agent. Raises Unavailable, Stale (409) and Rejected (other 4xx)."""

    def __init__(
        self,
        credentials: Credentials,
        node: NodeName,
        clock: Clock,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._credentials = credentials
        self._node = node
        self._clock = clock
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
        found = await self._request("GET", f"{GPUNODES}/{self._node}", missing_ok=True)
        if found is not None:
            return found
        node = await self._request("GET", f"/api/v1/nodes/{self._node}")
        assert node is not None
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": node["metadata"]["uid"]}
        body = {
            "apiVersion": GROUP,
            "kind": "GPUNode",
            "metadata": {"name": self._node, "ownerReferences": [owner]},
            "spec": {},
        }
        try:
            created = await self._request("POST", GPUNODES, body)
        except Stale:  # another agent of this node was faster
            created = await self._request("GET", f"{GPUNODES}/{self._node}")
        assert created is not None
        return created

    async def patch_status(self, status: dict[str, Any], resource_version: str) -> dict[str, Any]:
        """Replace the status if the object is still the one it was made from; return the new object."""
        body = {"metadata": {"resourceVersion": resource_version}, "status": status}
        patched = await self._request("PATCH", f"{GPUNODES}/{self._node}/status", body)
        assert patched is not None
        return patched

    async def watch(self, resource_version: str) -> AsyncIterator[dict[str, Any]]:
        """Changes of our GPUNode from `resource_version` on, until the server ends it. Deleted comes as an
        object without metadata. Raises Stale when the version is too old to continue from."""
        query = {
            "watch": "1",
            "fieldSelector": f"metadata.name={self._node}",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        try:
            async with self._client.stream(
                "GET",
                GPUNODES,
                params=query,
                headers=self._headers(),
                timeout=httpx.Timeout(10.0, read=WATCH_SECONDS + 30),
            ) as response:
                if response.is_error:
                    await response.aread()
                    raise _translate(response)
                async for line in response.aiter_lines():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise Stale(
                            Reason.STALE_GENERATION,
                            f"watch of GPUNode {self._node}: {event['object'].get('message', '')}",
                        )
                    yield {} if event["type"] == "DELETED" else event["object"]
        except (httpx.HTTPError, json.JSONDecodeError, OSError) as error:
            raise Unavailable(Reason.API_UNAVAILABLE, f"{self._credentials.server}: {error!r}") from error

    async def list_pods(self) -> tuple[dict[PodName, str], dict[str, tuple[str, ...]]]:
        """Of the pods bound to this node: their UIDs, and which have slices of which GPU (by UUID)."""
        query = {"fieldSelector": f"spec.nodeName={self._node}"}
        answer = await self._request("GET", "/api/v1/pods", params=query)
        assert answer is not None
        uids: dict[PodName, str] = {}
        slices: dict[str, list[str]] = {}
        for pod in answer.get("items") or []:
            meta = pod["metadata"]
            uids[PodName(meta["namespace"], meta["name"])] = meta["uid"]
            if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
                continue
            for uuid in _uuids(meta.get("annotations", {}).get(ALLOCATED_BY_HAMI, "")):
                slices.setdefault(uuid, []).append(f"{meta['namespace']}/{meta['name']}")
        return uids, {uuid: tuple(sorted(names)) for uuid, names in slices.items()}

    def _headers(self) -> dict[str, str]:
        bearer = self._credentials.bearer()
        return {"Authorization": f"Bearer {bearer}"} if bearer else {}

    async def _request(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        params: dict[str, str] | None = None,
        missing_ok: bool = False,
    ) -> dict[str, Any] | None:
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
                if response.status_code == httpx.codes.NOT_FOUND and missing_ok:
                    return None
                if response.is_error:
                    raise _translate(response)
                answer: dict[str, Any] = response.json()
        return answer


def _uuids(annotation: str) -> set[str]:
    """GPU names in HAMi's text form `uuid,type,memory,cores:…;…`; anything else gives nothing."""
    parts = annotation.replace(";", ":").split(":")
    return {part.split(",")[0] for part in parts if "," in part}


def _translate(response: httpx.Response) -> PoolError:
    try:
        text = response.json().get("message", "")
    except ValueError:
        text = response.text[:200]
    what = f"{response.request.method} {response.request.url.path}: {response.status_code} {text}"
    if response.status_code in (httpx.codes.CONFLICT, httpx.codes.GONE):
        return Stale(Reason.STALE_GENERATION, what)
    if response.status_code in (429, 500, 502, 503, 504):
        return Unavailable(Reason.API_UNAVAILABLE, what)
    if response.status_code in (401, 403):
        return Rejected(Reason.API_UNAVAILABLE, f"{what}; check the agent's ClusterRole and its token")
    return Rejected(Reason.INVALID_REQUEST, what)
