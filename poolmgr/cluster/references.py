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
            if pool is None:
                return ()
            return (
                ObjectReference(kinds.POOLMGR_API_VERSION, "GPUPool", subject.name, uid=pool.metadata.uid),
            )
        case SubjectKind.POD:
            pod = assembly.pod(f"{subject.namespace}/{subject.name}")
            if pod is None or pod.shared is None:
                return ()
            return (ObjectReference("v1", "Pod", subject.name, subject.namespace, pod.shared.uid),)
        case SubjectKind.VM:
            key = f"{subject.namespace}/{subject.name}"
            found = []
            for kind, object_ in (
                ("VirtualMachineInstance", assembly.instance(key)),
                ("VirtualMachine", assembly.machine(key)),
            ):
                if object_ is not None:
                    meta = object_.metadata
                    found.append(ObjectReference("kubevirt.io/v1", kind, meta.name, meta.namespace, meta.uid))
            return tuple(found)
