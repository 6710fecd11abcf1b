"""What stands in for an object that cannot be read: what is still told of it, and nothing that looks free because of it.

Each is tried with the few fields that matter, one by one, so that a damage elsewhere does not hide them.
"""

from dataclasses import replace

import msgspec

from poolmgr.cluster.observe.pods import PodFacts
from poolmgr.domain.errors import Fault
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import Unread
from poolmgr.wire import DisruptionBudget, GpuNode, LabelSelector, ObjectMeta, VirtualMachineInstance
from poolmgr.wire.decoding import decode_as
from poolmgr.wire.hami import names as hami_names
from poolmgr.wire.kube_pod import TERMINAL_PHASES
from poolmgr.wire.meta import Wire
from poolmgr.wire.workloads import BudgetSpec, BudgetStatus


class _Spec(Wire, frozen=True):
    node_name: str = ""


class _Status(Wire, frozen=True):
    phase: str = ""
    node_name: str = ""


class _Where(Wire, frozen=True):
    spec: _Spec = _Spec()
    status: _Status = _Status()


class _Placed(Wire, frozen=True):
    vgpu_node: str = msgspec.field(name=hami_names.VGPU_NODE, default="")


class _Meta(Wire, frozen=True):
    annotations: _Placed = _Placed()


class _Marks(Wire, frozen=True):
    metadata: _Meta = _Meta()


def unread_pod(raw: bytes, found: Unread, before: PodFacts | None) -> tuple[Unread, PodFacts | None]:
    """It may have any GPU of the node that it is on, or that HAMi has chosen for it. Raises Fault where not even that can
    be read: then no node's GPUs can be told to be free."""
    try:
        where = decode_as(_Where, raw)
        placed = decode_as(_Marks, raw).metadata.annotations.vgpu_node
    except (msgspec.DecodeError, ValueError) as error:
        message = (
            f"where {found.what} runs cannot be read ({error}): nothing is moved until it can, or it is gone"
        )
        raise Fault(Reason.INVARIANT_BROKEN, message) from error
    if where.status.phase in TERMINAL_PHASES:
        return found, None
    node = where.spec.node_name or placed
    if not node:
        return found, None
    facts = PodFacts(namespace=found.namespace, node=where.spec.node_name, cpu_milli=0, memory_mib=0)
    return replace(found, node=NodeName(node)), facts if where.spec.node_name else None


def unread_instance(
    raw: bytes, found: Unread, before: VirtualMachineInstance | None
) -> tuple[Unread, VirtualMachineInstance | None]:
    """It keeps what it was last known to have; one that never was may have any GPU of its node."""
    if before is not None:
        return found, before
    try:
        node = decode_as(_Where, raw).status.node_name
    except (msgspec.DecodeError, ValueError):
        node = ""
    return replace(found, node=NodeName(node) if node else None), None


def unread_gpu_node(raw: bytes, found: Unread, before: GpuNode | None) -> tuple[Unread, GpuNode]:
    """The node stays as last seen, and nothing moves there; one that never was seen has no GPUs that are known."""
    return found, before or GpuNode(metadata=ObjectMeta(name=found.name, uid=found.uid))


def unread_budget(
    raw: bytes, found: Unread, before: DisruptionBudget | None
) -> tuple[Unread, DisruptionBudget]:
    """It protects every pod of its namespace."""
    meta = ObjectMeta(name=found.name, namespace=found.namespace, uid=found.uid)
    return found, DisruptionBudget(meta, BudgetSpec(LabelSelector()), BudgetStatus(0, 0))
