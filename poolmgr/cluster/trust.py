"""What is believed of objects that tenants may write; docs/explanation/trust.md has the whole list, by who can write what.

The API server vouches for some fields: UIDs, creation times, the node that a pod is bound to, who controls it (as far as the
controller looks for its own UIDs), and what only controllers may write. All else of a tenant's object is that tenant's word.
"""

from collections.abc import Container, Iterable, Mapping

from poolmgr.domain.demand import Slice
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.wire import ConfigMap, DaemonSet, Deployment, Pod
from poolmgr.wire.instants import unix_or_zero
from poolmgr.wire.kubevirt import VirtualMachineInstance
from poolmgr.wire.meta import OwnerReference

CLOCKS_APART_SECONDS = 30.0
"""HAMi's scheduler may be ahead of the manager."""
PLACED_FOR_SECONDS = 300.0
"""For so long HAMi's word that it is placing a pod counts: its node lock lasts as long (`--node-lock-timeout`)."""


def hami_namespace(
    said: str,
    controllers: Iterable[DaemonSet | Deployment],
    others: Iterable[ConfigMap],
) -> str:
    """Where HAMi's objects are believed: where an administrator has said, else where the oldest of its controllers is.
    Whoever imitates HAMi comes later, and creation times are the API server's. Of a cluster without them the same holds of
    `others`, its ConfigMaps."""
    if said:
        return said
    found = [one.metadata for one in controllers] or [one.metadata for one in others]
    oldest = min(
        found,
        key=lambda meta: (unix_or_zero(meta.creation_timestamp), meta.namespace, meta.name),
        default=None,
    )
    return oldest.namespace if oldest is not None else ""


def is_of_plugin(namespace: str, owner_uid: str, plugin: DaemonSet | None) -> bool:
    """Whether a pod with the label of HAMi's plugin is one of its DaemonSet's: in its namespace, and controlled by it."""
    meta = plugin.metadata if plugin is not None else None
    return meta is not None and (meta.namespace, meta.uid) == (namespace, owner_uid)


def controller_of(owners: Iterable[OwnerReference], kind: str) -> OwnerReference | None:
    return next((owner for owner in owners if owner.controller and owner.kind == kind), None)


def may_have_slices(pod: Pod) -> bool:
    """Whether HAMi can have assigned GPUs to the pod. It never sees one with a scheduling gate, which nobody can put on
    later; and it gives none to a pod that asks for no device, which nobody can change. By which name it asks does not
    matter: they may have been renamed since."""
    if pod.spec.scheduling_gates:
        return False
    return any(
        "/" in name
        for container in (*pod.spec.containers, *pod.spec.init_containers)
        for name in (*container.resources.limits, *container.resources.requests)
    )


def is_past(now: float, at: float) -> bool:
    """Whether HAMi can have placed something `at` that moment: one of the future is nobody's."""
    return at - CLOCKS_APART_SECONDS <= now


def is_placing(now: float, at: float) -> bool:
    """Whether HAMi may still be at work on it."""
    return is_past(now, at) and now <= at + PLACED_FOR_SECONDS


def slices_on(
    node: str, held: tuple[Slice, ...], nodes: Mapping[GpuUuid, Container[str]]
) -> tuple[Slice, ...]:
    """Of what a pod says that it holds, what it can hold on the node that it is on, or that HAMi has chosen for it: not
    GPUs that other nodes alone have. `nodes` has those that report each UUID; one that none reports is left to doubt."""
    return tuple(part for part in held if node in nodes.get(part.uuid, (node,)))


def is_launcher_of(instance: VirtualMachineInstance, namespace: str, pod_uid: str) -> bool:
    """Whether a pod whose controller has the instance's UID is its launcher: in its namespace, and one of those that
    KubeVirt itself lists (`status.activePods`), once it lists any."""
    active = instance.status.active_pods
    return namespace == instance.metadata.namespace and (not active or pod_uid in active)
