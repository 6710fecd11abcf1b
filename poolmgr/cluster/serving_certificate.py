"""Where the webhook's certificate is kept (a Secret) and who is told of its authority (the webhook
configurations). Fits `webhooks.certificates.CertificateStore`."""

import base64
from collections.abc import Mapping
from typing import Any

from poolmgr.cluster.client import Client, ContentType
from poolmgr.wire.kinds import MUTATING_WEBHOOKS, SECRETS, VALIDATING_WEBHOOKS, Kind

Json = dict[str, Any]


class SecretCertificateStore:
    """One Secret that exists already (the chart makes it empty, so that we need no right to create any), and
    the two webhook configurations of one name."""

    def __init__(self, client: Client, namespace: str, secret: str, configuration: str) -> None:
        self._client = client
        self._path = SECRETS.path(secret, namespace=namespace)
        self._configuration = configuration

    async def load(self) -> tuple[Mapping[str, bytes], str]:
        """Data and resourceVersion. Raises Absent when the Secret is not there."""
        secret = await self._client.read(self._path, Json)
        data = {name: base64.b64decode(value) for name, value in (secret.get("data") or {}).items()}
        return data, secret["metadata"]["resourceVersion"]

    async def save(self, data: Mapping[str, bytes], revision: str) -> None:
        """Replace these keys if the Secret is still at `revision`, else Stale."""
        encoded = {name: base64.b64encode(value).decode("ascii") for name, value in data.items()}
        body = {"metadata": {"resourceVersion": revision}, "data": encoded}
        await self._client.write("PATCH", self._path, body, Json, content_type=ContentType.MERGE_PATCH)

    async def publish(self, authorities: bytes) -> None:
        """Set `caBundle` of every webhook where it differs."""
        bundle = base64.b64encode(authorities).decode("ascii")
        for kind in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            await self._publish(kind, bundle)

    async def _publish(self, kind: Kind, bundle: str) -> None:
        path = kind.path(self._configuration)
        found = await self._client.read(path, Json)
        operations: list[Json] = []
        for index, webhook in enumerate(found.get("webhooks") or ()):
            if webhook["clientConfig"].get("caBundle") != bundle:
                # The test keeps a patch made for one order of webhooks from landing on another.
                operations.append({"op": "test", "path": f"/webhooks/{index}/name", "value": webhook["name"]})
                operations.append(
                    {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle}
                )
        if operations:
            await self._client.write("PATCH", path, operations, Json, content_type=ContentType.JSON_PATCH)
