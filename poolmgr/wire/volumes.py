"""PersistentVolumeClaims, PersistentVolumes and StorageClasses, as far as they say which nodes can use a volume."""

from poolmgr.wire.meta import ObjectMeta, Wire
from poolmgr.wire.scheduling import NodeSelector


class ClaimSpec(Wire, frozen=True):
    volume_name: str = ""
    """Empty until it is bound."""
    storage_class_name: str = ""


class PersistentVolumeClaim(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: ClaimSpec = ClaimSpec()


class VolumeNodeAffinity(Wire, frozen=True):
    required: NodeSelector | None = None


class VolumeSpec(Wire, frozen=True):
    node_affinity: VolumeNodeAffinity | None = None


class PersistentVolume(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: VolumeSpec = VolumeSpec()


class TopologyExpression(Wire, frozen=True):
    key: str
    values: tuple[str, ...] = ()


class TopologyTerm(Wire, frozen=True):
    match_label_expressions: tuple[TopologyExpression, ...] = ()


class StorageClass(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    provisioner: str = ""
    volume_binding_mode: str = ""
    allowed_topologies: tuple[TopologyTerm, ...] = ()
