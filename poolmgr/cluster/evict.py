"""Evicts a pod through the Eviction API, which keeps to disruption budgets."""

from poolmgr.cluster.client import Client, ok
from poolmgr.cluster.fencing import Leadership, require_epoch
from poolmgr.domain.errors import Stale
from poolmgr.domain.identifiers import WorkloadUid
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.wire import kinds
from poolmgr.wire.http_errors import Absent, TooMany, message_of


class KubernetesEvictor:
    """Implements `controller.interfaces.Evictor`."""

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
        try:
            ok(response, f"evict {who}")
        except (Absent, Stale):
            return Verdict(True, Reason.EVICTED, f"{who} is gone already")
        except TooMany:
            said = message_of(response.status, response.body)
            return Verdict(False, Reason.EVICTION_DENIED, f"{who} stays: {said}")
        return Verdict(True, Reason.EVICTED, f"{who} was asked to leave")
