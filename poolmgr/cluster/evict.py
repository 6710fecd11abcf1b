"""Evicts a pod through the Eviction API, which keeps to disruption budgets."""

from poolmgr.cluster.client import Client, error_of, status_message
from poolmgr.cluster.fence import Leadership, require_epoch
from poolmgr.domain.identifiers import WorkloadUid
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.wire import kinds


class KubernetesEvictor:
    """Implements `controller.ports.Evictor`."""

    def __init__(self, client: Client, leadership: Leadership) -> None:
        self._client = client
        self._leadership = leadership

    async def evict(self, pod: WorkloadUid, namespace: str, name: str) -> Verdict:
        """See `Evictor`. Names the pod by UID, so that a successor of the same name is never hit; a pod that
        is gone already counts as evicted. Raises Unavailable or Rejected for anything but yes and no."""
        require_epoch(self._leadership, f"The eviction of pod {namespace}/{name}")
        path = kinds.PODS.path(name, namespace=namespace, subresource="eviction")
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": pod}},
        }
        response = await self._client.call("POST", path, body=body)
        who = f"pod {namespace}/{name}"
        match response.status:
            case status if 200 <= status < 300:
                return Verdict(True, Reason.EVICTED, f"{who} was asked to leave")
            case 404 | 409:
                return Verdict(True, Reason.EVICTED, f"{who} is gone already")
            case 429:
                said = status_message(response)
                return Verdict(False, Reason.EVICTION_DENIED, f"{who} stays: {said}")
            case _:
                raise error_of(response, f"evict {who}")
