"""Events on pods, from which people learn why HAMi refused them."""

import logging
import uuid
from datetime import UTC, datetime
from typing import Any

from e2e.hami.standin.api import Api, ApiError

Json = dict[str, Any]
FILTERING_FAILED, FILTERING_SUCCEEDED = "FilteringFailed", "FilteringSucceed"
BINDING_FAILED, BINDING_SUCCEEDED = "BindingFailed", "BindingSucceed"
log = logging.getLogger(__name__)


class Events:
    def __init__(self, api: Api, component: str) -> None:
        self._api, self._component = api, component

    def tell(self, pod: Json, reason: str, message: str) -> None:
        """Writes one; what cannot be written is logged, nothing depends on it."""
        meta = pod["metadata"]
        at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        event = {
            "metadata": {"name": f"{meta['name']}.{uuid.uuid4().hex[:16]}", "namespace": meta["namespace"]},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta.get("uid", ""),
            },
            "reason": reason,
            "message": message,
            "type": "Warning" if reason in (FILTERING_FAILED, BINDING_FAILED) else "Normal",
            "source": {"component": self._component},
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
        }
        try:
            self._api.create(f"/api/v1/namespaces/{meta['namespace']}/events", event)
        except (ApiError, OSError) as error:
            log.warning("event %s on %s/%s: %s", reason, meta["namespace"], meta["name"], error)
