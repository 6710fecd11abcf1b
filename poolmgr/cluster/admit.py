"""Takes our scheduling gate off a pod."""

from poolmgr.cluster.client import Client, ContentType
from poolmgr.cluster.fencing import Leadership, require_epoch
from poolmgr.domain.errors import Stale
from poolmgr.domain.identifiers import WorkloadUid
from poolmgr.wire import Pod, kinds
from poolmgr.wire.http_errors import Absent


class KubernetesAdmitter:
    """Implements `controller.interfaces.Admitter`."""

    def __init__(self, client: Client, leadership: Leadership) -> None:
        self._client = client
        self._leadership = leadership

    async def ensure_admitted(self, pod: WorkloadUid, namespace: str, name: str) -> None:
        """See `Admitter`. Names the pod by UID: of a successor of the same name the API server refuses to change it."""
        require_epoch(self._leadership, f"The admission of pod {namespace}/{name}")
        # Ours is the only gate, and none can be added to a pod that is there.
        patch = {"metadata": {"uid": pod}, "spec": {"schedulingGates": None}}
        path = kinds.PODS.path(name, namespace=namespace)
        try:
            await self._client.write("PATCH", path, patch, Pod, content_type=ContentType.MERGE_PATCH)
        except (Absent, Stale):
            return  # it is gone, or changed at the same moment: the next look sees it anew
