"""Where the webhook's certificate is kept (a Secret) and who is told of its authority (the webhook
configurations). Fits `webhooks.certificates.CertificateStore`."""

import base64
from collections.abc import Mapping

from poolmgr.cluster.client import Client, ContentType, encode_body
from poolmgr.wire.admission import WebhookConfiguration
from poolmgr.wire.kinds import MUTATING_WEBHOOKS, SECRETS, VALIDATING_WEBHOOKS, Kind
from poolmgr.wire.workloads import Secret


class SecretCertificateStore:
    """One Secret that exists already (the chart makes it empty, so that we need no right to create any), and
    the two webhook configurations of one name."""

    def __init__(self, client: Client, namespace: str, secret: str, configuration: str) -> None:
        self._client = client
        self._path = SECRETS.path(secret, namespace=namespace)
        self._configuration = configuration

    async def load(self) -> tuple[Mapping[str, bytes], str]:
        """Data and resourceVersion. Raises Absent when the Secret is not there."""
        secret = await self._client.read(self._path, Secret)
        return secret.data, secret.metadata.resource_version

    async def save(self, data: Mapping[str, bytes], revision: str) -> None:
        """Replace these keys if the Secret is still at `revision`, else Stale."""
        body = encode_body({"metadata": {"resourceVersion": revision}, "data": data})
        await self._client.write("PATCH", self._path, body, Secret, content_type=ContentType.MERGE_PATCH)

    async def publish(self, authorities: bytes) -> None:
        """Set `caBundle` of every webhook where it differs."""
        bundle = base64.b64encode(authorities).decode("ascii")
        for kind in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            await self._publish(kind, bundle)

    async def _publish(self, kind: Kind, bundle: str) -> None:
        path = kind.path(self._configuration)
        found = await self._client.read(path, WebhookConfiguration)
        operations: list[dict[str, str]] = []
        for index, webhook in enumerate(found.webhooks):
            if webhook.client_config.ca_bundle != bundle:
                # The test keeps a patch made for one order of webhooks from landing on another.
                operations.append({"op": "test", "path": f"/webhooks/{index}/name", "value": webhook.name})
                operations.append(
                    {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle}
                )
        if operations:
            await self._client.write(
                "PATCH", path, operations, WebhookConfiguration, content_type=ContentType.JSON_PATCH
            )
