"""Which Kubernetes objects a subject of the domain is, for Events about it."""

import msgspec

from poolmgr.cluster.observe.assembly import Assembly
from poolmgr.domain.plan import Subject, SubjectKind
from poolmgr.wire import kinds


class ObjectReference(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """core/v1 ObjectReference. `kubectl describe` finds an Event by kind, name and UID."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""
    uid: str = ""


def references(subject: Subject, assembly: Assembly) -> tuple[ObjectReference, ...]:
    """The objects that people will look at: a node's Event goes to its Node and its GPUNode, a machine's to
    the machine and its instance. Empty where the object is gone."""
    unread = assembly.unread.uid
    match subject.kind:
        case SubjectKind.NODE | SubjectKind.GPU:
            name = subject.name if subject.kind is SubjectKind.NODE else subject.namespace
            found = []
            if (gpu_node := assembly.gpu_node(name)) is not None:
                found.append(
                    ObjectReference(kinds.POOLMGR_API_VERSION, "GPUNode", name, uid=gpu_node.metadata.uid)
                )
            if subject.kind is SubjectKind.NODE and (node := assembly.wire_node(name)) is not None:
                found.append(ObjectReference("v1", "Node", name, uid=node.metadata.uid))
            return tuple(found)
        case SubjectKind.POOL:
            pool = assembly.wire_pool(subject.name)
            uid = pool.metadata.uid if pool is not None else unread(kinds.GPU_POOLS, subject.name)
            if uid is None:
                return ()
            return (ObjectReference(kinds.POOLMGR_API_VERSION, "GPUPool", subject.name, uid=uid),)
        case SubjectKind.RESERVATION:
            key = f"{subject.namespace}/{subject.name}"
            reservation = assembly.reservations.stored(key)
            if reservation is None:
                return ()
            meta = reservation.metadata
            return (
                ObjectReference(
                    kinds.POOLMGR_API_VERSION, "GPUReservation", meta.name, meta.namespace, meta.uid
                ),
            )
        case SubjectKind.POD:
            key = f"{subject.namespace}/{subject.name}"
            pod = assembly.pod(key)
            uid = pod.shared.uid if pod is not None and pod.shared is not None else unread(kinds.PODS, key)
            if uid is None:
                return ()
            return (ObjectReference("v1", "Pod", subject.name, subject.namespace, uid),)
        case SubjectKind.VM:
            key = f"{subject.namespace}/{subject.name}"
            found = []
            for kind, object_, of in (
                ("VirtualMachineInstance", assembly.instance(key), kinds.VIRTUAL_MACHINE_INSTANCES),
                ("VirtualMachine", assembly.machine(key), kinds.VIRTUAL_MACHINES),
            ):
                uid = object_.metadata.uid if object_ is not None else unread(of, key)
                if uid is not None:
                    found.append(
                        ObjectReference("kubevirt.io/v1", kind, subject.name, subject.namespace, uid)
                    )
            return tuple(found)
