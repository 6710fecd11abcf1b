"""The Node object, with the annotations that this project reads as named fields.

Annotations are a Struct rather than a dict: of the kilobytes that other controllers leave there only these
keys are kept; what each says stands with its name in `annotations` and `hami.names`.
"""

import msgspec

from poolmgr.wire import annotations
from poolmgr.wire.hami import names
from poolmgr.wire.meta import Quantities, Wire


class NodeAnnotations(Wire, frozen=True):
    cordoned: str = msgspec.field(name=annotations.CORDONED, default="")
    fenced: str = msgspec.field(name=annotations.FENCED, default="")
    asked: str = msgspec.field(name=annotations.ASKED, default="")
    plugin_labels: str = msgspec.field(name=annotations.PLUGIN_LABELS, default="")
    upgrades_held: str = msgspec.field(name=annotations.UPGRADES_HELD, default="")
    epoch: str = msgspec.field(name=annotations.EPOCH, default="")
    register: str = msgspec.field(name=names.REGISTER, default="")
    score: str = msgspec.field(name=names.SCORE, default="")
    handshake: str = msgspec.field(name=names.HANDSHAKE, default="")
    lock: str = msgspec.field(name=names.NODE_LOCK, default="")
    device_cordon: str = msgspec.field(name=names.DEVICE_CORDON, default="")


class NodeMeta(Wire, frozen=True):
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: NodeAnnotations = NodeAnnotations()


class WireTaint(Wire, frozen=True):
    """Without the instant at which it was added."""

    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(Wire, frozen=True):
    unschedulable: bool = False
    taints: tuple[WireTaint, ...] = ()


class NodeCondition(Wire, frozen=True):
    """Without its heartbeat time, so that a node that only beat compares equal."""

    type: str
    status: str


class NodeStatus(Wire, frozen=True):
    allocatable: Quantities = {}
    capacity: Quantities = {}
    conditions: tuple[NodeCondition, ...] = ()


class Node(Wire, frozen=True):
    metadata: NodeMeta = NodeMeta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()
