"""Who leads: whoever holds kube-scheduler's lease on this host. Only the leader looks at nodes."""

import logging
import os
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

from e2e.hami.standin.api import Api, ApiError

Json = dict[str, Any]
ROLE = "hami.io/scheduler-role"
log = logging.getLogger(__name__)


class Leader:
    """Reads the lease at each question; a lease that was not renewed in its duration has no holder."""

    def __init__(self, api: Api, namespace: str, name: str) -> None:
        self._api, self._path = api, f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"

    def leads(self) -> bool:
        try:
            spec = self._api.get(self._path)["spec"]
        except (ApiError, OSError):
            return False
        holder, seconds, renewed = (
            spec.get(key) for key in ("holderIdentity", "leaseDurationSeconds", "renewTime")
        )
        if not holder or not seconds or not renewed:
            return False
        age = datetime.now(UTC) - datetime.fromisoformat(renewed.replace("Z", "+00:00"))
        return str(holder).startswith(socket.gethostname()) and age < timedelta(seconds=seconds)


def label_pods(api: Api) -> None:
    """The leader's pod gets the label that the Service selects, its followers the other one."""
    namespace, own = os.environ.get("POD_NAMESPACE", ""), os.environ.get("POD_NAME", "")
    if not namespace:
        return
    path = f"/api/v1/namespaces/{namespace}/pods"
    selector = "app.kubernetes.io/component=hami-scheduler"
    try:
        for pod in api.get(path, labelSelector=selector)["items"]:
            meta = pod["metadata"]
            role = "leader" if meta["name"] == own else "follower"
            if (meta.get("labels") or {}).get(ROLE) != role:
                api.merge(f"{path}/{meta['name']}", {"metadata": {"labels": {ROLE: role}}})
    except ApiError as error:
        log.error("labels of the scheduler's pods: %s", error)
